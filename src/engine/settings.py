"""The user's settings: one TOML file, overridden by the environment.

The file is ``$XDG_CONFIG_HOME/tunedeck/settings.toml``; each setting may also
come from ``TUNEDECK_<NAME>`` (``TUNEDECK_LANGUAGE=zh``), which wins. A setting of
a table has the table's name before its own (``TUNEDECK_SLURM_PARTITION``).
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from engine import files, settings_file
from engine.errors import Problem
from engine.i18n import _


class Nodes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the nodes of one run find each other (the table ``[nodes]``)."""

    address: str = ""
    """Where the others reach the first node: a host or an IP address. ``{host}``
    stands for its host name (``{host}i`` on a cluster that calls its fast network
    so). "" is the address of this machine that the others see; on Slurm, the node's."""
    port: int = 0
    """The port there; 0 chooses one."""
    patience: int = 600
    """Seconds that the nodes wait for one another at the start."""


class Slurm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What Slurm is asked for (the table ``[slurm]``). Empty: the cluster's own default."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    time: str = ""
    """The time limit as sbatch takes it: ``08:00:00``, ``2-12:00:00``."""
    constraint: str = ""
    gpus: int = 1
    """On each node; 0 trains on CPUs."""
    gpu_type: str = ""
    """As the cluster calls it (``a100``)."""
    gpu_option: Literal["gpus-per-node", "gres"] = "gpus-per-node"
    """How the cluster wants GPUs asked for: some take only one of the two."""
    cpus: int = 0
    """On each node."""
    memory: str = ""
    """On each node, as sbatch takes it: ``200G``."""
    warning: int = 300
    """Seconds before the time limit at which the run saves a checkpoint and ends:
    more than one step and one checkpoint take."""
    continues: int = 0
    """How many times a run goes back into the queue by itself, to go on from its last
    checkpoint, after the time limit, a preemption or the loss of a node."""
    extra: tuple[str, ...] = ()
    """More options of sbatch, passed last (``--reservation=night``)."""


class Alarms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a run that needs its user reaches them (the table ``[alarms]``; docs/alarms.md)."""

    hook: str = ""
    """A command for /bin/sh: run at each alarm, at its end, and when a run ends."""
    bell: bool = False
    """Whether the app rings the terminal's bell as well."""
    off: tuple[str, ...] = ()
    """Codes of alarms that are not wanted (``["loss-spike"]``)."""


class Chat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Talking with models."""

    key: str = ""
    """Sent to the model servers that one asks (as "Authorization: Bearer …")."""
    idle: int = 0
    """Minutes without a question after which the models leave the memory; 0 is never."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the user chose. Every field has a default that works."""

    language: str = ""
    """"en", "zh", or "" for what the locale asks for."""
    theme: str = ""
    """A Textual theme's name, or "" for the app's own choice."""
    interpreter: str = ""
    """The Python of the training environment; "" is the app's own."""
    mouse: bool = False
    """Whether the app asks the terminal for mouse reports (costs bytes, and text selection)."""
    threads: int = 0
    """CPU threads for workers and training on a CPU; 0 leaves the libraries' own choice."""
    llama_cpp: str = ""
    """The folder of llama.cpp, whose programs make GGUF files; "" looks on PATH."""
    alarms: Alarms = Alarms()
    nodes: Nodes = Nodes()
    slurm: Slurm = Slurm()
    chat: Chat = Chat()

    @property
    def python(self) -> str:
        """The interpreter that workers and training run under."""
        return self.interpreter or sys.executable


def load() -> Settings:
    """The settings in force. Raises `Problem` for a file or variable that is wrong."""
    values = settings_file.values()
    _override(values)
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(
            _("A setting is not right (in {path} or a TUNEDECK_ variable)").format(
                path=settings_file.path()
            ),
            str(error),
            _("Known settings: {names}.").format(names=", ".join(known())),
        ) from error


def known() -> list[str]:
    """The names of all settings; those of a table with its name and a dot before."""
    return [".".join(path) for path, _kind in _fields(Settings)]


def _fields(kind: Any, table: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for field in msgspec.structs.fields(kind):
        place = (*table, field.encode_name)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from _fields(field.type, place)
        else:
            yield place, field.type


def _override(values: dict[str, Any]) -> None:
    """Put what the environment says over `values`. A list there is written as in a shell."""
    for (*tables, name), kind in _fields(Settings):
        value = settings_file.variable(*tables, name)
        if value is None:
            continue
        place: Any = values
        for table in tables:
            place = place.setdefault(table, {}) if isinstance(place, dict) else None
        if isinstance(place, dict):  # else the file is wrong there, which is told of next
            place[name] = _words(name, value) if kind == tuple[str, ...] else value


def _words(name: str, value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError as error:
        raise Problem(
            _("A setting is not right (in {path} or a TUNEDECK_ variable)").format(
                path=settings_file.path()
            ),
            f"{name}: {error}",
            _("Write it as in a shell: a quotation mark is closed, or has a backslash before it."),
        ) from error


def save(**changes: str | bool | int) -> None:
    """Write `changes` into the settings file; the rest of it stays, comments too.

    Raises `Problem` where they cannot be kept.
    """
    import tomlkit  # only needed here

    source = settings_file.path()
    if source.parts[0] == "~":  # (a folder of that name here is one that somebody removes one day)
        raise Problem(
            _("The settings cannot be kept"),
            _("Nobody knows where your home folder is: HOME is not set."),
            _("Set HOME, or XDG_CONFIG_HOME, and start again."),
        )
    settings_file.values()  # says what is wrong with a file that was broken in the meantime
    said = _("Cannot keep the settings in {path}").format(path=source)
    with files.in_words(said):
        text = source.read_text(encoding="utf-8") if source.exists() else ""
        document = tomlkit.parse(text)
        document.update(changes)
        with files.replacing(source) as file:
            file.write(tomlkit.dumps(document).encode())
