"""A sample as the model sees it, drawn: what carries loss is bright and barred, the rest dim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from engine.i18n import _
from engine.text import clean

if TYPE_CHECKING:
    from engine.dataset.preview import Sample

BAR = "▌"
"""Stands where loss begins and before each further line of it, for screens without colour."""


def sample_text(sample: Sample) -> Text:
    """The prompt and the answer with their special tokens."""
    text = Text()
    for segment in sample.segments:
        lines = clean(segment.text.replace("\r", "")).split("\n")
        for number, line in enumerate(lines):
            if number:
                text.append("⏎\n", style="dim")
            if segment.loss and line:
                text.append(BAR, style="green")
            text.append(line, style="bold" if segment.loss else "dim")
    return text


def sample_figures(sample: Sample) -> str:
    """Token counts in one line."""
    parts = [
        _("{loss} of {tokens} tokens carry loss").format(
            loss=sample.loss_tokens, tokens=sample.tokens
        )
    ]
    if sample.cut:
        parts.append(_("{cut} cut at max_length").format(cut=sample.cut))
    return " · ".join(parts)
