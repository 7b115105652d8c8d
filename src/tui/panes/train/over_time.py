"""How a run came along: the model's answers from checkpoint to checkpoint, and the checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from engine.i18n import _
from engine.run import answers
from engine.run.folder import RunFolder
from engine.text import clean, one_line, size


def answer_lines(folder: Path) -> Iterator[str | Text]:
    """Each question with its answers in order of step; one that did not change is said so."""
    found = answers.read(RunFolder(folder))
    if not found:
        yield _("No evaluation answer is written yet.")
        yield _("EvaluateChatHook writes them at each checkpoint, if the config has it.")
        return
    for question in dict.fromkeys(one.question for one in found):
        yield Text(one_line(question) or _("(question unknown)"), "bold")
        before = None
        for one in found:
            if one.question != question:
                continue
            said = _("(the same)") if one.answer == before else clean(one.answer)
            first, *rest = said.split("\n")
            yield Text.assemble(
                (f"{one.step:>7}  ", "dim"), (first, "dim" if before == one.answer else "")
            )
            yield from (" " * 9 + line for line in rest)
            before = one.answer
        yield ""


def checkpoint_lines(folder: Path) -> Iterator[str | Text]:
    """The checkpoints with the loss logged before each; the lowest is marked."""
    run = RunFolder(folder)
    found = run.checkpoints()
    if not found:
        yield _("No checkpoint is saved yet.")
        return
    whole = [one.loss for one in found if one.complete and one.loss is not None]
    for one in found:
        loss = "" if one.loss is None else f"loss {one.loss:.4f}"
        line = Text(f"{one.step:>7}  {loss:<13} {size(one.bytes):>9}  {one_line(one.path.name)}")
        if not one.complete:
            line.append("  " + _("! not whole"), "yellow")
        elif whole and one.loss == min(whole):
            line.append("  " + _("lowest loss"), "green")
        yield line
    yield ""
    yield Text(_("The loss is that of the last step logged before the checkpoint."), "dim")
