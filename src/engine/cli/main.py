"""The command line: every verb of the app, without the screen (docs/cli.md is the contract)."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine import __version__, i18n, settings_file, unforeseen
from engine.cli import flags
from engine.cli.interrupt import tidy_end
from engine.cli.output import Output
from engine.i18n import _
from engine.text import one_line

# One module a group; imported only when one of its verbs is asked for.
VERBS = {
    "data": "data",
    "config": "config",
    "preflight": "preflight",
    "train": "run",
    "runs": "history",
    "queue": "history",
    "rename": "history",
    "note": "history",
    "trash": "history",
    "logs": "run",
    "stop": "run",
    "kill": "run",
    "resume": "resume",
    "convert": "export",
    "merge": "export",
    "verify": "export",
    "handover": "handover",
    "chat": "chat",
    "gpus": "machine",
    "doctor": "machine",
    "demo": "demo",
}
GROUPS = tuple(dict.fromkeys(VERBS.values()))


class _Help(argparse.HelpFormatter):
    """Asks for the terminal's width itself.

    argparse asks with shutil, at every option that is added: with its decompressors that
    takes longer than all else that a parser does.
    """

    def __init__(self, prog: str) -> None:
        try:
            width = int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size().columns or 80
        except (ValueError, OSError):
            width = 80
        super().__init__(prog, width=width - 2)


class _Parser(argparse.ArgumentParser):
    """A parser whose verbs' parsers are of its own kind."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**{"formatter_class": _Help, **values})


def _common() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    group = common.add_argument_group(_("common options"))
    group.add_argument("--json", action="store_true", help=_("print one JSON document"))
    group.add_argument("--debug", action="store_true", help=_("show tracebacks"))
    _add_language(group)
    return common


def _add_language(options: argparse._ActionsContainer) -> None:
    """``--lang``, for the help: it is taken before (`language_of`)."""
    known = tuple(i18n.LANGUAGES)
    options.add_argument("--lang", choices=known, help=_("the language of messages"))


def parser(groups: Sequence[str] = GROUPS) -> argparse.ArgumentParser:
    """The parser of all verbs, or of those in `groups` only (to import less)."""
    top = _Parser(
        prog="tunedeck",
        description=_("Fine-tune language models, from data to chat, in one terminal."),
        epilog=_("`tunedeck` or `tunedeck PATH` opens the app on a workspace."),
    )
    top.add_argument("--version", action="version", version=f"tunedeck {__version__}")
    _add_language(top)
    verbs = top.add_subparsers(dest="verb", metavar=_("VERB"), required=True)
    common = _common()
    for group in groups:
        importlib.import_module(f"engine.cli.{group}_verbs").add(verbs, common)
    return top


def language_of(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """What ``--lang`` says ("": nothing), and the arguments without it.

    It may stand anywhere before ``--``, and is read before there is a parser, which speaks it.
    """
    for index, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == "--lang" and index + 1 < len(arguments):
            return arguments[index + 1], [*arguments[:index], *arguments[index + 2 :]]
        if argument.startswith("--lang="):
            rest = [*arguments[:index], *arguments[index + 1 :]]
            return argument.partition("=")[2], rest
    return "", list(arguments)


def open_streams() -> None:
    """Let standard input, output and error be there: where one was closed, it leads nowhere.

    Else the next file that is opened would be it, and what is printed would go into that.
    A character that a terminal's encoding lacks (ASCII, GBK) is a question mark there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 (it stays)
            setattr(sys, name, stream)
        if mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status (0 fine, 1 not fine, 2 wrong usage or input)."""
    open_streams()
    asked, arguments = language_of(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    i18n.use(asked)
    try:
        i18n.use(asked or settings_file.language())
        settings_file.require_language(asked)
        group = VERBS.get(arguments[0]) if arguments else None
        parsed = parser((group,) if group else GROUPS).parse_args(arguments)
        with tidy_end():
            status: int = parsed.run(parsed, Output(json=parsed.json))
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:  # whatever it is, it is told in words
        problem = unforeseen.as_problem(error, _("--debug shows the details"))
        for line in flags.told(problem).lines():
            sys.stderr.write(one_line(line) + "\n")
        if debug:
            import traceback

            sys.stderr.write((problem.details or traceback.format_exc()) + "\n")
        return problem.status
