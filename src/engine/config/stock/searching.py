"""Finding a config: ranked search, what the catalogue can be narrowed by, a closer look.

The config pane's dialog needs no more than this: `narrow` for what was typed
and chosen, `facets` for the choices with their counts, `preview` for the entry
under the cursor.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from engine.config import families
from engine.config.stock.entry import OWN, TUNEDECK, VISION, Entry
from engine.i18n import _, ngettext

_EXACT, _START, _PART, _LETTERS, _TYPO = 100, 60, 30, 10, 5
"""How well a word of the query fits, from the whole word to one with a slip in it."""


class Facet(msgspec.Struct, frozen=True):
    """A value that entries can be narrowed to, and how many have it."""

    value: str
    count: int


class Preview(msgspec.Struct, frozen=True):
    """A closer look at an entry."""

    facts: list[tuple[str, str]]
    """Label and value, in the user's language, the most telling first."""
    settings: str
    """The file's PART 1 as it stands, comments too; the whole text where it has no parts."""


def narrow(
    entries: Iterable[Entry], query: str = "", method: str = "", model: str = "", size: str = ""
) -> list[Entry]:
    """The entries that fit everything asked for, the best fit for `query` first.

    Args:
        query: words as a person types them (see `search`).
        method: "qlora", "dpo", "vision", …: a word of the entry's method, or
            what it trains ("dpo qlora" narrows by both).
        model: a part of the model's name or family; case, "-", "_" and "." do not count.
        size: "7b", or a range in billions: "-3", "7-14", "30-".
    """
    methods = method.lower().split()
    wanted = _squeezed(model)
    kept = [
        entry
        for entry in entries
        if all(one in {*entry.method.split(), entry.tuning} for one in methods)
        and (not wanted or wanted in _squeezed(f"{entry.family} {entry.model}"))
        and _has_size(entry, size)
    ]
    return search(kept, query)


def _has_size(entry: Entry, size: str) -> bool:
    size = size.lower().strip()
    bounds = re.fullmatch(r"(\d*\.?\d*)b?\s*-\s*(\d*\.?\d*)b?", size)
    if not size or bounds is None or size == "-":
        return size in ("", "-", entry.size, entry.size.removesuffix("b"))
    parameters = families.parameters(entry.size)
    low, high = (float(one) * 1e9 if one else None for one in bounds.groups())
    return (
        parameters is not None
        and (low is None or parameters >= low)
        and (high is None or parameters <= high)
    )


def search(entries: Iterable[Entry], query: str) -> list[Entry]:
    """The entries that every word of `query` fits, the best first; all for an empty query.

    A word fits where it stands in an entry's name, model, method, size or
    dataset, written in any way ("internlm2.5", "internlm2_5"). A word that
    stands nowhere in the catalogue is taken for one with letters left out
    ("ilm25qlr") or for a slip ("qwne").
    """
    rest = [_Words.of(entry) for entry in entries]
    total = [0.0] * len(rest)
    for word in query.lower().split():
        for fit in (_fits, _letters, _slip):
            scores = [fit(word, one) for one in rest]
            if any(scores):
                break
        chosen = [number for number, score in enumerate(scores) if score]
        total = [total[number] + scores[number] for number in chosen]
        rest = [rest[number] for number in chosen]
    ranked = sorted(
        zip(total, rest, strict=True),
        key=lambda pair: (-pair[0], _order(pair[1].entry), pair[1].entry.name),
    )
    return [one.entry for _score, one in ranked]


def _order(entry: Entry) -> int:
    """One's own first, then Tunedeck's, then XTuner's."""
    return (OWN, TUNEDECK).index(entry.source) if entry.source in (OWN, TUNEDECK) else 2


class _Words(NamedTuple):
    """An entry as search sees it."""

    entry: Entry
    words: list[str]
    squeezed: str

    @classmethod
    def of(cls, entry: Entry) -> _Words:
        text = (
            f"{entry.name} {entry.model} {entry.family} {entry.method} {entry.tuning} "
            f"{entry.size} {entry.dataset}"
        ).lower()
        return cls(entry, re.split(r"[^0-9a-z.\u0080-\U0010ffff]+", text), _squeezed(text))


def _squeezed(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.lower())


def _fits(word: str, one: _Words) -> float:
    if word in one.words:
        return _EXACT
    if any(known.startswith(word) for known in one.words):
        return _START
    squeezed = _squeezed(word)
    return _PART if squeezed and squeezed in one.squeezed else 0


def _letters(word: str, one: _Words) -> float:
    """The letters of `word` in the entry's name, in order; closer together is better."""
    letters = _squeezed(word)
    if len(letters) < 3:
        return 0
    name = _squeezed(one.entry.name)
    at = start = name.find(letters[0])
    for letter in letters[1:]:
        if at < 0:
            return 0
        at = name.find(letter, at + 1)
    return _LETTERS * len(letters) / (at - start + 1) if at >= 0 else 0


def _slip(word: str, one: _Words) -> float:
    near = difflib.get_close_matches(word, one.words, n=1, cutoff=0.75)
    return _TYPO if near else 0


def facets(entries: Sequence[Entry]) -> dict[str, list[Facet]]:
    """What `entries` can be narrowed by: "method", "family" and "size", each with counts.

    The values are those that `narrow` takes (family for its `model`); methods
    and families by count, sizes from small to large. Call it on what is left
    after a choice, and the counts say what the next one would leave.
    """
    methods = Counter(word for entry in entries for word in {*entry.method.split(), entry.tuning})
    family = Counter(entry.family for entry in entries if entry.family)
    sizes = Counter(entry.size for entry in entries if entry.size)
    by_size = sorted(sizes.items(), key=lambda pair: families.parameters(pair[0]) or 0)
    return {
        "method": [Facet(*pair) for pair in methods.most_common() if pair[0]],
        "family": [Facet(*pair) for pair in family.most_common()],
        "size": [Facet(*pair) for pair in by_size],
    }


def preview(entry: Entry) -> Preview:
    """What a person wants to know of `entry` before copying it."""
    facts = [(label(), value) for label, tell in _FACTS if (value := tell(entry))]
    try:
        text = entry.path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        text = error.strerror or str(error)
    return Preview(facts, _first_part(text))


def _first_part(text: str) -> str:
    """The lines between the headings of PART 1 and PART 2."""
    found = re.search(r"^#[^\n]*PART 1.*?\n#+\n(.*?)^#+\n#[^\n]*PART 2", text, re.M | re.S)
    return (found[1] if found else text).strip("\n")


def method_words(entry: Entry) -> str:
    """The method in words: "QLoRA: an adapter on a 4-bit base"."""
    tuning = {
        "full": _("all weights"),
        "lora": _("LoRA: an adapter"),
        "qlora": _("QLoRA: an adapter on a quantized base"),
    }.get(entry.tuning, entry.tuning)
    goal = {
        "dpo": _("DPO, on pairs of answers"),
        "orpo": _("ORPO, on pairs of answers"),
        "reward": _("a reward model, on pairs of answers"),
        "pretrain": _("on plain text"),
    }.get(entry.method.removesuffix(VISION), "")
    image = _("with images") if entry.method.endswith(VISION) else ""
    return ", ".join(part for part in (tuning, goal, image) if part)


def _data(entry: Entry) -> str:
    return entry.dataset or _("your own")


def _sample(entry: Entry) -> str:
    if entry.max_length is None:
        return ""
    tokens = _("{n} tokens").format(n=entry.max_length)
    return tokens + ", " + _("rows packed together") if entry.packed else tokens


def _steps(entry: Entry) -> str:
    parts = []
    if entry.epochs:
        parts.append(ngettext("{n} epoch", "{n} epochs", entry.epochs).format(n=entry.epochs))
    if entry.batch_size:
        times = entry.accumulation or 1
        parts.append(_("batch {size} × {times}").format(size=entry.batch_size, times=times))
    if entry.lr is not None:
        parts.append(f"lr {entry.lr:g}")
    return ", ".join(parts)


def _gpus(entry: Entry) -> str:
    parts = []
    if entry.gpus:
        parts.append(ngettext("made for {n} GPU", "made for {n} GPUs", entry.gpus))
    if entry.sequence_parallel > 1:
        parts.append(_("{n} GPUs share a sample").format(n=entry.sequence_parallel))
    words = ", ".join(parts).format(n=entry.gpus)
    fit = _("{stage} suits it").format(stage=entry.deepspeed) if entry.deepspeed else ""
    if not fit and entry.tuning == "qlora":
        fit = _("one GPU, without DeepSpeed")
    return ", ".join(part for part in (words, fit) if part)


_SOURCES: dict[str, Callable[[], str]] = {
    "own": lambda: _("this workspace"),
    "tunedeck": lambda: "Tunedeck",
    "xtuner": lambda: "XTuner",
}

_FACTS: tuple[tuple[Callable[[], str], Callable[[Entry], str]], ...] = (
    (lambda: _("About"), lambda entry: entry.about),
    (lambda: _("Model"), lambda entry: f"{entry.model}  {entry.size}".strip()),
    (lambda: _("Trains"), method_words),
    (lambda: _("Data"), _data),
    (lambda: _("Sample"), _sample),
    (lambda: _("Template"), lambda entry: entry.template),
    (lambda: _("Schedule"), _steps),
    (lambda: _("GPUs"), _gpus),
    (lambda: _("From"), lambda entry: _SOURCES.get(entry.source, str)()),
    (lambda: _("File"), lambda entry: str(entry.path)),
)
