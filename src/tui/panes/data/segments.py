"""One row, drawn: as the model sees it (what carries loss stands out), or as it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from engine.i18n import _
from engine.text import clean

if TYPE_CHECKING:
    from engine.dataset.preview import Sample

BAR = "▌"
"""Stands where loss begins and before each further line of it."""
OPENING, CLOSING = "«", "»"
"""Around what carries loss, in the text form of the mask."""
LONGEST = 20_000
"""Characters drawn of one row: what nobody reads would only slow every key down."""
NAMED = 6
"""Rows named that share a packed sample."""


def sample_text(sample: Sample, plain: bool = False) -> Text:
    """The prompt and the answer with their special tokens.

    `plain` is the form for eyes and terminals without colours: what carries loss
    stands between « and ».
    """
    text = Text()
    for segment in sample.segments:
        room = LONGEST - len(text)
        if room <= 0:
            break
        piece = clean(segment.text[:room].replace("\r", ""))
        if plain:
            piece = f"{OPENING}{piece}{CLOSING}" if segment.loss else piece
            text.append(piece.replace("\n", "⏎\n"))
        else:
            _append(text, piece, segment.loss)
    if len(sample.text) > LONGEST:
        text.append("\n" + _more(len(sample.text) - LONGEST), style="italic")
    return text


def _append(text: Text, piece: str, loss: bool) -> None:
    for number, line in enumerate(piece.split("\n")):
        if number:
            text.append("⏎\n", style="dim")
        if loss and line:
            text.append(BAR, style="green")
        text.append(line, style="bold green" if loss else "dim")


def sample_figures(sample: Sample, others: Sequence[int] | None = None) -> str:
    """Token counts in one line, and with which rows this one is packed (None: not known)."""
    parts = [
        _("{loss} of {tokens} tokens carry loss").format(
            loss=sample.loss_tokens, tokens=sample.tokens
        )
    ]
    if sample.cut:
        parts.append(_("{cut} cut at max_length").format(cut=sample.cut))
    if others:
        rows = ", ".join(map(str, others[:NAMED])) + (", …" if len(others) > NAMED else "")
        parts.append(_("packs with rows {rows}").format(rows=rows))
    return " · ".join(parts)


def value_text(value: Any) -> Text:
    """A row's JSON as it stands, long texts and lists cut short."""
    return Text(clean(json.dumps(_shortened(value, LONGEST), ensure_ascii=False, indent=1)))


def mark_matches(text: Text, pattern: re.Pattern[str] | None) -> Text:
    """`text` with what was looked for shown in reverse."""
    if pattern is not None:
        text.highlight_regex(pattern, "reverse")
    return text


def _shortened(value: Any, room: int) -> Any:
    """`value` with about `room` characters."""
    if isinstance(value, str) and len(value) > room:
        return f"{value[:room]}… {_more(len(value) - room)}"
    if isinstance(value, dict | list):
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        short: list[tuple[Any, Any]] = []
        for key, item in items:
            if room <= 0:
                short.append((key if isinstance(value, list) else "…", "…"))
                break
            short.append((key, _shortened(item, room)))
            room -= len(str(short[-1][1])) + 8
        return dict(short) if isinstance(value, dict) else [item for _key, item in short]
    return value


def _more(count: int) -> str:
    return _("[{count:,} more characters]").format(count=count)
