"""``tunedeck chat --set``: every question of a file to every model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from engine.cli.interrupt import on_interrupt
from engine.cli.output import Output
from engine.i18n import _, ngettext

if TYPE_CHECKING:
    from engine.chat.answer import Sampling
    from engine.chat.session import ChatSession
    from engine.chat.set_table import Table
    from engine.chat.sets import Item
    from engine.chat.sources import ModelSpec


def ask(
    args: argparse.Namespace,
    session: ChatSession,
    slots: Mapping[str, ModelSpec],
    items: list[Item],
    sampling: Sampling,
    out: Output,
) -> int:
    """Ask, and write down what came, also when Ctrl-C ended it; 1 when answers are missing."""
    from engine.chat import set_files, set_run
    from engine.chat.set_table import Table, result

    table = Table(args.set.name, items, set_run.titles(slots))
    progress = out.progress(_("Asking"))
    with on_interrupt(session.stop) as pressed:
        for cell in set_run.run(session, items, list(slots), sampling, pressed.is_set):
            table.add(cell)
            progress(table.asked, table.total)
    out.result(result(table), lambda: _lines(table))
    if args.out is not None:
        set_files.write(args.out, table, args.force)
        out.say(_("Wrote {path}").format(path=args.out))
    answered = sum(not cell.error for at in range(len(items)) for cell in table.row(at))
    if answered < table.total:
        words = _("{n} of {total} answers came.")
        out.say(words.format(n=answered, total=table.total))
    return 0 if answered == table.total else 1


def _lines(table: Table) -> Iterator[str]:
    from engine.chat.set_files import mark, score
    from engine.text import one_line

    for number, item in enumerate(table.items):
        cells = table.row(number)
        if not cells:
            continue
        yield f"> {one_line(item.question)}" + (f"   [{item.wanted}]" if item.wanted else "")
        for cell in cells:
            yield f"  {cell.slot} {mark(cell):2}  {one_line(cell.error or cell.answer.strip())}"
    yield ""
    for slot, name in table.models.items():
        counted = score(table, slot)
        yield f"{slot}  {name}" + (
            "  " + _("{score} right").format(score=counted) if counted else ""
        )
    differing = table.differing()
    if len(table.models) > 1:
        words = ngettext(
            "≠ {n} question is answered differently", "≠ {n} questions are answered differently",
            differing,
        )  # fmt: skip
        yield words.format(n=differing)
