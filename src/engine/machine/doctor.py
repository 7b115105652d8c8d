"""Is this machine ready? What is there, what is missing, what to do about it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from engine import resources, text
from engine.errors import Failed, Problem
from engine.i18n import _
from engine.machine import gpu, host, mapped_rows
from engine.settings import Settings
from engine.worker.client import NOT_HERE

# Asked of the training interpreter: versions by metadata, nothing imported.
_PROBE = f"""{NOT_HERE}
import importlib.metadata as m, json
found = dict()
for name in sys.argv[1:]:
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: found[name] = None
print(json.dumps(dict(python=sys.version.split()[0], packages=found)))
"""
_NEEDED = ("xtuner", "torch", "transformers", "peft", "datasets", "mmengine", "accelerate")
_WANTED = ("bitsandbytes", "deepspeed")

_MUCH = 10e9
"""Bytes of mapped rows from which on it is said how to be rid of them."""


class Check(msgspec.Struct, frozen=True):
    """One thing looked at. ``ok`` is None for what is only worth knowing."""

    name: str
    ok: bool | None
    detail: str
    fix: str = ""


def run(settings: Settings, folder: Path) -> list[Check]:
    """Look at everything a run on this machine needs; takes about a second."""
    return [*_training(settings), *_gpus(), _disk(folder), *_mapped(), *_tools()]


def packages(settings: Settings) -> tuple[str, dict[str, str | None]]:
    """The training interpreter's Python version and the versions of what it needs.

    Raises OSError or subprocess.SubprocessError when it cannot be asked.
    """
    answer = subprocess.run(
        [settings.python, "-c", _PROBE, *_NEEDED, *_WANTED],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found = json.loads(answer.stdout)
    return found["python"], found["packages"]


def _training(settings: Settings) -> Iterator[Check]:
    install = _("`tunedeck doctor --install FOLDER` builds an environment that has all of it.")
    try:
        python, found = packages(settings)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        yield Check(_("training interpreter"), False, f"{settings.python}: {error}", install)
        return
    yield Check(_("training interpreter"), True, f"{settings.python} ({python})")
    for name in (*_NEEDED, *_WANTED):
        version = found[name]
        needed = name in _NEEDED
        if version is not None:
            yield Check(name, True, version)
        elif needed:
            yield Check(name, False, _("not installed"), install)
        else:
            yield Check(name, None, _("not installed: needed for QLoRA or DeepSpeed only"), install)


def _gpus() -> Iterator[Check]:
    seen = gpu.read()
    if not seen.available:
        yield Check(
            "GPU", None, seen.reason, _("Training works on the CPU, for small models only.")
        )
        return
    names = ", ".join(f"{one.id}: {one.name} {text.size(one.total)}" for one in seen.gpus)
    found = _("{names} (driver {driver})").format(names=names, driver=seen.driver)
    yield Check("GPU", True, found)
    for note in seen.notes:
        yield Check("GPU", None, note)


def _disk(folder: Path) -> Check:
    free = host.read(folder).disk_free
    enough = free > 20e9
    return Check(
        _("disk"),
        enough or None,
        _("{free} free in {folder}").format(free=text.size(free), folder=folder),
        "" if enough else _("A 7B model, its checkpoints and the merged model need about 40 GB."),
    )


def _mapped() -> Iterator[Check]:
    kept = mapped_rows.kept()
    if kept.files:
        yield Check(
            _("mapped rows"),
            True if kept.bytes < _MUCH else None,
            _("{size} of earlier trainings in {folder}").format(
                size=text.size(kept.bytes), folder=kept.folder
            ),
            _("`tunedeck doctor --forget-rows` deletes them; the next start maps them anew."),
        )


def _tools() -> Iterator[Check]:
    for tool, why in (
        ("git", _("to note in a run which version of your files it used")),
        ("tmux", _("to keep this window when the line drops (runs go on without it)")),
    ):
        where = shutil.which(tool)
        yield Check(tool, True if where else None, where or _("not found: {why}").format(why=why))


def install(target: Path, told: Callable[[str], None]) -> Path:
    """Build the training environment of the shipped lock in `target`; returns its Python.

    uv is fetched into the new environment, so that nothing but Python is needed.
    `told` hears what is done next. Raises `Failed` when a step fails, whose own words
    are on the terminal then; what is done already is not done again. Raises `Problem`
    for a folder that holds something else.
    """
    own = target.is_dir() and (not any(target.iterdir()) or (target / "pyvenv.cfg").is_file())
    if target.exists() and not own:
        raise Problem(
            _("{path} is in use already").format(path=target),
            _("An environment gets a folder of its own, or its files would mix with others."),
            _("Name a folder that is not there yet."),
        )
    binaries = target.resolve() / "bin"
    uv = [str(binaries / "uv"), "pip", "sync", "--quiet", "--python", str(binaries / "python")]
    steps = (
        (_("Making the environment …"), [sys.executable, "-m", "venv", str(target)]),
        (_("Fetching uv …"), [str(binaries / "pip"), "install", "--quiet", "uv"]),
        (
            _("Fetching XTuner, torch and what they need (some 8 GB; minutes) …"),
            [*uv, str(resources.lock())],
        ),
    )
    for what, command in steps:
        told(what)
        status = subprocess.run(command, env={**os.environ, "DS_BUILD_OPS": "0"}).returncode
        if status:
            raise Failed(
                _("The environment in {path} is not complete").format(path=target),
                _("`{command}` ended with exit status {status}; its own words stand above.").format(
                    command=shlex.join(command), status=status
                ),
                _("Mend that (network, room on the disk), and run this again: it goes on."),
            )
    return binaries / "python"
