"""The verbs about the machine: ``gpus`` and ``doctor``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from engine.cli.output import Output
from engine.i18n import _


def add(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add this module's verbs."""
    gpus = verbs.add_parser("gpus", parents=[common], help=_("what the GPUs are doing"))
    gpus.set_defaults(run=_gpus)
    doctor = verbs.add_parser(
        "doctor", parents=[common], help=_("what is there, what is missing, what to do")
    )
    instead = doctor.add_mutually_exclusive_group()
    instead.add_argument(
        "--install",
        metavar="FOLDER",
        type=Path,
        help=_("build the training environment in FOLDER (some 8 GB)"),
    )
    instead.add_argument(
        "--try-hook",
        action="store_true",
        help=_("call the command for alarms (setting alarms.hook) once, and show what it says"),
    )
    instead.add_argument(
        "--forget-rows",
        action="store_true",
        help=_("delete the mapped rows of earlier trainings, which only grow; others are made"),
    )
    doctor.set_defaults(run=_doctor)


def _gpus(args: argparse.Namespace, out: Output) -> int:
    from engine import text
    from engine.machine import gpu

    seen = gpu.read()

    def lines() -> Iterator[str]:
        if not seen.available:
            yield seen.reason
        for one in seen.gpus:
            parts = [f"{one.id}", one.name, f"{text.size(one.used)} / {text.size(one.total)}"]
            parts += [f"{one.util} %"] if one.util is not None else []
            parts += [f"{one.temperature} °C"] if one.temperature is not None else []
            parts += [f"{one.power:.0f} W"] if one.power is not None else []
            yield "  ".join(parts)
            if one.processes is None:
                yield "   " + _("processes cannot be listed here")
            for process in one.processes or []:
                memory = "?" if process.memory is None else text.size(process.memory)
                yield f"   {process.pid}  {process.user or '?'}  {process.name or '?'}  {memory}"
        yield from seen.notes

    out.result(seen, lines)
    return 0


def _doctor(args: argparse.Namespace, out: Output) -> int:
    from engine.machine import doctor
    from engine.run.alarms import trial

    if args.try_hook:
        return _try_hook(out)
    if args.forget_rows:
        return _forget_rows(out)
    if args.install is not None:
        return _install(args.install, out)
    checks = [*doctor.run(out.settings, Path.cwd()), *trial.checks(out.settings.alarms)]

    def lines() -> Iterator[str]:
        width = max(len(check.name) for check in checks)
        for check, after in zip_longest(checks, checks[1:]):
            mark = {True: "✓", False: "✗", None: "·"}[check.ok]
            yield f"{mark} {check.name:{width}}  {check.detail}"
            again = after is not None and not after.ok and after.fix == check.fix
            if check.fix and not check.ok and not again:  # once for all that it mends
                yield f"  {'':{width}}  {check.fix}"

    out.result({"checks": checks}, lines)
    return 1 if any(check.ok is False for check in checks) else 0


def _install(folder: Path, out: Output) -> int:
    """Build a training environment, and make it the one that is used if there is none yet."""
    from engine import settings, settings_file
    from engine.machine import doctor

    python = str(doctor.install(folder, out.say))
    chosen = out.settings.interpreter
    used = chosen in ("", python)
    if used:
        settings.save(interpreter=python)
        said = _("Training uses it from now on (interpreter in {path}).")
    else:
        said = _(
            "The settings name another one, {chosen}; to use this one, set there: "
            'interpreter = "{python}"'
        )
    words = said.format(chosen=chosen, python=python, path=settings_file.path())
    built = _("Built: {python}").format(python=python)
    out.result({"interpreter": python, "used": used}, lambda: [built, words])
    return 0


def _forget_rows(out: Output) -> int:
    """Make room: what was mapped can be mapped again."""
    from engine import text
    from engine.machine import mapped_rows

    gone = mapped_rows.forget()
    said = _("{size} deleted in {folder} ({count} files); the next start maps its rows anew.")
    words = said.format(size=text.size(gone.bytes), folder=gone.folder, count=gone.files)
    out.result(gone, lambda: [words])
    return 0


def _try_hook(out: Output) -> int:
    """Call the user's command as an alarm would."""
    from engine.run.alarms import trial

    outcome = trial.attempt(out.settings.alarms, Path.cwd())

    def lines() -> Iterator[str]:
        if outcome.output:
            yield outcome.output
        yield _("exit status {status} after {seconds} s").format(
            status=outcome.ending, seconds=f"{outcome.seconds:.1f}"
        )

    out.result(outcome, lines)
    return 0 if outcome.ok else 1
