"""What one may look at closely: the exact prompt, both templates, each token's chance."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from engine.chat.answer import Answer, Chance, Parity, Prompt
from engine.i18n import _
from engine.text import clean, one_line

LIKELY = 0.9
"""From here on a token counts as certain, and is not marked."""
UNLIKELY = 0.3


def prompt_lines(slot: str, prompt: Prompt, parity: Parity | None) -> Iterator[Text | str]:
    """The prompt as text, then token by token with ids."""
    head = _("{slot}  {count} tokens").format(slot=slot, count=len(prompt.ids))
    if prompt.dropped:
        head += "  " + _("the oldest {n} messages did not fit").format(n=prompt.dropped)
    yield Text(head, style="bold")
    yield clean(prompt.text)
    yield ""
    pairs = zip(prompt.ids, prompt.tokens, strict=True)
    yield Text("  ".join(f"{number}·{one_line(token)}" for number, token in pairs), style="dim")
    yield ""
    if parity is not None:
        yield from parity_lines(parity)


def parity_lines(parity: Parity) -> Iterator[Text | str]:
    """Whether the template of the training and the tokenizer's own agree, and where they part."""
    if parity.agree:
        yield _("✓ XTuner's template and the tokenizer's own make the same prompt.")
        yield ""
        return
    yield Text(
        _("≠ XTuner's template and the tokenizer's own differ: engines that serve this model use"),
        style="yellow",
    )
    yield Text(_("the tokenizer's. The same short conversation in both:"), style="yellow")
    yield Text(_("as trained"), style="bold")
    yield clean(parity.trained)
    yield Text(_("the tokenizer's"), style="bold")
    yield clean(parity.tokenizer) or one_line(parity.why)
    yield ""


def chance_lines(slot: str, answer: Answer) -> Iterator[Text | str]:
    """The answer coloured by how sure the model was, then a line for each token."""
    yield Text(slot, style="bold")
    yield Text.assemble(*((clean(one.token), _style(one.p)) for one in answer.chances))
    yield ""
    for one in answer.chances:
        yield _chance_line(one)
    yield ""


def _chance_line(one: Chance) -> Text:
    others = [f"{one_line(text)} {p:.2f}" for text, p in one.others if text != one.token]
    line = Text(f"{one.p:5.2f}  ")
    line.append(one_line(one.token), style=_style(one.p))
    return line.append("   " + "   ".join(others), style="dim")


def _style(p: float) -> str:
    if p >= LIKELY:
        return ""
    return "yellow" if p >= UNLIKELY else "bold red"
