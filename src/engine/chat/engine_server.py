"""Starts one of the user's engines for a model, and stops it whole."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from engine.chat import endpoint, engines, fit, sources
from engine.chat.engines import HOST, Engine, Place
from engine.chat.sources import ModelSpec
from engine.errors import Failed, Problem
from engine.i18n import _, sentences
from engine.machine import gpu
from engine.machine.devices import GpuId
from engine.settings import Settings
from engine.text import clean
from engine.worker.client import command, environment

LOOK = 0.25
"""Seconds between two looks at whether it answers."""
MOST = 0.9
"""The part of a card that an engine may take at most."""
CUDA = 1_500_000_000
"""Bytes of a card that an engine leaves to CUDA itself and to what it does not count."""
TAIL = 200
"""Lines of its log that are kept when it fails."""


class EngineServer:
    """A server for one model, reachable by nobody else: a unix socket, or a random key.

    Blocking; `stop` may come from another thread, also while it starts. It
    ends with us, however we end.

    Args:
        engine: which program (`engines.found`, `engines.named`).
        spec: the model's folder, its adapter, dtype and device.
        settings: as elsewhere.
        busy: GPUs (as the driver counts) on which a training of ours runs.

    Raises `Problem` for no model, `Failed` where it does not fit or would disturb a training.
    """

    def __init__(
        self, engine: Engine, spec: ModelSpec, settings: Settings, busy: Collection[GpuId] = ()
    ) -> None:
        engines.check(spec.bits)
        sources.check(spec)
        self.engine = engine
        self._spec = spec
        self._settings = settings
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        cards = _cards(fit.require(spec, busy), busy)
        self._folder = Path(tempfile.mkdtemp(prefix="tunedeck-engine-"))  # 0700
        self.log = self._folder / "log"
        path = str(self._folder / "socket") if engine.sockets else ""
        self._place = Place(
            socket=path,
            port=0 if path else _free_port(),
            key="" if path else secrets.token_urlsafe(24),
            cards=max(1, len(cards)),
            part=_part(cards),
        )
        self._cards = cards

    @property
    def spec(self) -> ModelSpec:
        """What a `ChatSession` loads to talk with it."""
        place = self._place
        address = f"unix:{place.socket}" if place.socket else f"http://{HOST}:{place.port}/v1"
        return msgspec.structs.replace(
            self._spec,
            model=f"{address}#{engines.served_name(self._spec)}",
            adapter=None,
            key=place.key,
        )

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self, patience: float = 900, said: Callable[[str], None] | None = None) -> ModelSpec:
        """Start it and wait until it answers (seconds to minutes); what to load is `spec`.

        `said` is told each last line of its log that was seen on the way.
        Raises `Failed`, with the end of its log, when it ends before, does not
        answer within `patience` seconds, or was stopped.
        """
        words = self.engine.command(self._spec, self._place)
        values = environment(self._settings) | self.engine.environment(self._place)
        values |= gpu.shown(self._cards)
        keeper = command(self._settings.python, "engine.chat.engine_keeper", str(self.log), *words)
        self._process = subprocess.Popen(
            keeper, stdin=subprocess.PIPE, env=values, start_new_session=True
        )
        end = time.monotonic() + patience
        shown = ""
        while not self._answers():
            line = (_tail(self.log) or [""])[-1]
            if said is not None and line != shown:
                said(line)
            shown = line
            if self._stopped.wait(LOOK):
                raise self._failed(_("It was stopped."))
            if not self.running:
                raise self._failed(_("It ended before it answered."))
            if time.monotonic() > end:
                raise self._failed(
                    _("It did not answer within {seconds:.0f} s.").format(seconds=patience)
                )
        return self.spec

    def stop(self) -> None:
        """End it with all its processes; seconds at most."""
        self.leave()
        if self._process is not None:
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def leave(self) -> None:
        """Tell it to end, and do not wait: its keeper sees to it and cleans up."""
        self._stopped.set()
        process = self._process
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()

    def _answers(self) -> bool:
        place = self._place
        if place.socket and not Path(place.socket).exists():
            return False
        try:
            endpoint.connect(self.spec, self._settings)
        except Problem:
            return False
        return True

    def _failed(self, why: str) -> Failed:
        lines = _tail(self.log)
        self.stop()
        said = [line for line in lines if "Error" in line] or lines
        return Failed(
            _("{engine} does not serve {model}").format(
                engine=self.engine.name, model=self._spec.model
            ),
            sentences(why, *said[-1:]),
            _("Try its command by itself, or chat without an engine."),
            "\n".join(lines),
            ways=("engine",),
        )

    def __enter__(self) -> EngineServer:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


def _cards(place: fit.Fit, busy: Collection[GpuId]) -> list[gpu.Gpu]:
    """The GPUs that `place` stands for; a power of two, as an engine splits a model."""
    cards = gpu.for_one_process(gpu.read().gpus, busy)
    if place.device == "cpu":
        return []
    if place.device.startswith("cuda:"):
        return [cards[int(place.device.removeprefix("cuda:"))]]
    return cards[: 1 << (len(cards).bit_length() - 1)]


def _part(cards: Collection[gpu.Gpu]) -> float:
    """The part of a card that is free, of the fullest one; 0 where there is none."""
    free = [(card.total - card.used - CUDA) / card.total for card in cards if card.total]
    return round(min(MOST, max(0.05, min(free))), 2) if free else 0.0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _tail(log: Path) -> list[str]:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [clean(line).strip() for line in text.splitlines() if line.strip()][-TAIL:]
