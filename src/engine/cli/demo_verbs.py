"""The verb ``demo``: the whole journey on a real small model."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine import text
from engine.cli.output import Output
from engine.i18n import _

if TYPE_CHECKING:
    from engine.demo.journey import Result

_WIDTH = 24  # of the bar, in cells


def add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add this module's verb."""
    demo = verbs.add_parser(
        "demo", parents=[common], help=_("the whole journey on a real small model")
    )
    demo.add_argument(
        "dir", metavar="DIR", type=Path, nargs="?", default=Path("demo"), help=_("default: demo")
    )
    demo.add_argument("--cpu", action="store_true", help=_("do not use a GPU"))
    demo.set_defaults(run=_demo)


def _demo(args: argparse.Namespace, out: Output) -> int:
    from engine.demo import journey

    teller = _Teller(out)
    try:
        result = journey.run(args.dir, out.settings, teller, cpu=args.cpu)
    except KeyboardInterrupt:
        teller.interrupted()
        out.say(_("Interrupted; a training that runs goes on. The same command takes it up again."))
        return 130
    out.result(result, lambda: _lines(result, args.dir))
    return 0 if result.ok else 1


class _Teller:
    """Tells the stages on stderr: with a bar on a terminal, else in plain lines."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._terminal = sys.stderr.isatty()
        self._shown = 0.0
        self._quarter = 0

    def begin(self, number: int, total: int, title: str) -> None:
        """A stage begins."""
        self._quarter = 0
        self._out.say(f"[{number}/{total}] {title}")

    def progress(self, done: int, total: int, words: str = "") -> None:
        """A bar that moves, or a line at each quarter of what has something to say on the way."""
        if not self._terminal:
            if words and total and done * 4 // total > self._quarter:
                self._quarter = done * 4 // total
                self._out.say(f"      {words}")
            return
        now = time.monotonic()
        if now - self._shown < 0.1 and done != total:
            return
        self._shown = now
        full = _WIDTH * done // total if total else 0
        bar = "█" * full + "░" * (_WIDTH - full)
        sys.stderr.write(f"\r\x1b[K      {bar}  {text.clean(words)}")
        sys.stderr.flush()

    def end(self, words: str, seconds: float, reused: bool) -> None:
        """A stage is done."""
        self.interrupted()
        when = text.duration(seconds)
        when = _("done before, in {time}").format(time=when) if reused else when
        self._out.say("      " + " · ".join(part for part in (words, when) if part))

    def interrupted(self) -> None:
        """Take the bar away."""
        if self._terminal:
            sys.stderr.write("\r\x1b[K")


def _lines(result: Result, folder: Path) -> Iterator[str]:
    yield ""
    yield from _table(result)
    yield ""
    yield from result.missed
    took = sum(step.seconds for step in result.steps)
    if all(step.reused for step in result.steps):
        words = _("Everything was done before; it took {time} then.")
    else:
        words = _("The whole way took {time}.")
    yield words.format(time=text.duration(took))
    yield _("Open the app on it:  tunedeck {folder}").format(folder=folder)
    yield _("Talk with it here:   tunedeck chat {model} --against {base}").format(
        model=folder / "models" / "supernova", base=folder / "models" / "smollm2-135m-instruct"
    )


def _table(result: Result) -> list[str]:
    """Question, base and tuned side by side; rich knows how wide Chinese is."""
    import io
    import shutil

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_lines=False, pad_edge=False, expand=True)
    for title, share in ((_("asked"), 2), (_("base model"), 3), (_("tuned model"), 3)):
        table.add_column(title, ratio=share)
    for row in zip(result.questions, result.base, result.tuned, strict=True):
        table.add_row(*(Text(text.one_line(cell, marks=False)) for cell in row))
    width = min(shutil.get_terminal_size((100, 24)).columns, 120)
    console = Console(file=io.StringIO(), width=width, color_system=None, legacy_windows=False)
    console.print(table)
    written = console.file
    assert isinstance(written, io.StringIO)
    return [line.rstrip() for line in written.getvalue().strip("\n").splitlines()]
