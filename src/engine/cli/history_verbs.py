"""``tunedeck runs | queue | rename | note | trash``: what there is, and keeping it in order."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import run_lines
from engine.cli.output import Output
from engine.errors import Problem
from engine.i18n import _, ngettext
from engine.text import one_line, size

if TYPE_CHECKING:
    from engine.run.folder import RunFolder, RunSummary
    from engine.run.history import Trashed

SORTS = ("created", "name", "loss", "state", "steps", "ended")
"""`engine.run.history.ORDERS`, known without importing it."""


def add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the verbs' parsers."""
    runs = verbs.add_parser("runs", parents=[common], help=_("list runs, or show one"))
    runs.add_argument("name", nargs="?", metavar="RUN", help=_("a run's name or folder"))
    runs.add_argument(
        "--search", metavar="TEXT", help=_("words in name, note, state or reason; #tag for a tag")
    )
    runs.add_argument("--sort", choices=SORTS, default="created", help=_("default: newest first"))
    runs.add_argument("--archived", action="store_true", help=_("those that were put away"))
    runs.add_argument("--trashed", action="store_true", help=_("those in the trash, with size"))
    runs.set_defaults(run=_runs)

    waiting = verbs.add_parser("queue", parents=[common], help=_("what waits, and its order"))
    waiting.add_argument("name", nargs="?", metavar="RUN", help=_("move this run"))
    waiting.add_argument(
        "--by", type=int, metavar="N", help=_("by so many places; -1: one to the front")
    )
    waiting.set_defaults(run=_queue)

    rename = verbs.add_parser("rename", parents=[common], help=_("give a run another name"))
    rename.add_argument("name", metavar="RUN", help=_("a run's name or folder"))
    rename.add_argument("new", metavar="NAME", help=_("its new name"))
    rename.set_defaults(run=_rename)

    note = verbs.add_parser("note", parents=[common], help=_("notes and tags of a run"))
    note.add_argument("name", metavar="RUN", help=_("a run's name or folder"))
    note.add_argument("text", nargs="?", metavar="TEXT", help=_("a note; '' takes it away"))
    note.add_argument("--tag", action="append", default=[], help=_("add a tag (repeatable)"))
    note.add_argument(
        "--untag", action="append", default=[], metavar="TAG", help=_("take one away")
    )
    put = note.add_mutually_exclusive_group()
    put.add_argument("--archive", action="store_true", help=_("leave it out of the list of runs"))
    put.add_argument("--unarchive", action="store_true", help=_("list it again"))
    note.set_defaults(run=_note)

    trash = verbs.add_parser("trash", parents=[common], help=_("throw runs away, or take back"))
    trash.add_argument("names", nargs="*", metavar="RUN", help=_("a run's name or folder"))
    what = trash.add_mutually_exclusive_group()
    what.add_argument("--restore", action="store_true", help=_("put these back where they lay"))
    what.add_argument(
        "--empty", action="store_true", help=_("delete these for good, or all in the trash")
    )
    trash.set_defaults(run=_trash)


def _runs(args: argparse.Namespace, out: Output) -> int:
    from engine.run import history
    from engine.run.listing import list_runs, open_run

    workspace = out.workspace()
    if args.name is not None:
        summary = open_run(workspace, args.name).summary()
        out.result([summary], lambda: run_lines.whole(summary))
        return 1 if summary.state in ("failed", "lost") else 0
    if args.trashed:
        thrown = history.trashed(workspace)
        out.result(thrown, lambda: map(_thrown, thrown))
        return 0
    private: list[Path] = []
    seen = [_summary(run, out) for run in list_runs(workspace, private=private.append)]
    if private:
        names = ", ".join(sorted(path.name for path in private))
        out.say(_("Left out, as only their own user may read them: {names}").format(names=names))
    found = [one for one in seen if one is not None and (one.archived or not args.archived)]
    # What is asked for by its words is found, put away or not.
    if not args.search and not args.archived:
        found = [one for one in found if not one.archived]
    found = history.ordered(history.search(found, args.search or ""), args.sort)
    out.result(found, lambda: map(run_lines.short, found))
    return 0


def _summary(run: RunFolder, out: Output) -> RunSummary | None:
    """The run in short; a broken folder is told of, and must not hide the others."""
    try:
        return run.summary()
    except Problem as problem:
        out.say(str(problem))
        return None


def _thrown(one: Trashed) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.time))
    return "  ".join((one.name, size(one.bytes), when, one.was))


def _queue(args: argparse.Namespace, out: Output) -> int:
    from engine.run import queue
    from engine.run.listing import open_run

    workspace = out.workspace()
    if (args.name is None) != (args.by is None):
        raise Problem(
            _("A run is moved by some places"),
            _("RUN and --by go together."),
            _("Write it as in `tunedeck queue RUN --by -1`."),
        )
    if args.name is not None:
        queue.move(workspace, open_run(workspace, args.name), args.by)
    waiting = [
        {"run": run.name, "dir": str(run.path), "state": run.state.state, "waits": queue.say(run)}
        for run in queue.waiting(workspace)
    ]

    def lines() -> Iterator[str]:
        from engine.run.state import MARKS

        if not waiting:
            yield _("Nothing waits.")
        for place, one in enumerate(waiting, 1):
            yield f"{place}  {MARKS[one['state']]} {one['run']}  {one['waits']}"

    out.result(waiting, lines)
    return 0


def _rename(args: argparse.Namespace, out: Output) -> int:
    from engine.run import history
    from engine.run.listing import open_run

    workspace = out.workspace()
    run = history.rename(workspace, open_run(workspace, args.name), args.new)
    said = _("{old} is called {new} now.").format(old=args.name, new=run.name)
    out.result({"run": run.name, "dir": str(run.path)}, lambda: [said])
    return 0


def _note(args: argparse.Namespace, out: Output) -> int:
    from engine.run import history, notes
    from engine.run.listing import open_run

    run = open_run(out.workspace(), args.name)
    if args.text is not None:
        history.note(run, args.text)
    if args.tag or args.untag:
        history.tag(run, add=args.tag, remove=args.untag)
    if args.archive or args.unarchive:
        history.archive(run, on=args.archive)
    now = notes.read(run.path)
    tags = [f"#{tag}" for tag in now.tags]
    put_away = [_("archived")] if now.archived else []
    line = "  ".join((run.name, *tags, *put_away, one_line(now.note))).rstrip()
    document = {"run": run.name, "note": now.note, "tags": now.tags, "archived": now.archived}
    out.result(document, lambda: [line])
    return 0


def _trash(args: argparse.Namespace, out: Output) -> int:
    from engine.run import history
    from engine.run.listing import open_run

    workspace = out.workspace()
    if args.empty:
        names = args.names or [None]
        freed = sum(history.empty(workspace, name) for name in names)
        out.result({"freed": freed}, lambda: [_("{size} freed.").format(size=size(freed))])
        return 0
    if not args.names:
        raise Problem(
            _("No run is named"), "", _("`tunedeck runs --trashed` shows what is in the trash.")
        )
    if args.restore:
        back = [history.restore(workspace, name) for name in args.names]
        said = [_("{run} is back in {folder}").format(run=r.name, folder=r.path) for r in back]
        out.result([{"run": run.name, "dir": str(run.path)} for run in back], lambda: said)
        return 0
    runs = [open_run(workspace, name) for name in args.names]
    thrown = [
        {"run": run.name, "bytes": history.size(run), "dir": str(history.trash(workspace, run))}
        for run in runs
    ]
    held = sum(int(str(one["bytes"])) for one in thrown)
    text = ngettext(
        "{n} run is in the trash ({size}).", "{n} runs are in the trash ({size}).", len(runs)
    )
    todo = _("`tunedeck trash --restore RUN` takes one back, `trash --empty` frees the room.")
    out.result(thrown, lambda: [text.format(n=len(runs), size=size(held)), todo])
    return 0
