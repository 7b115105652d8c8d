"""The models of a session for which servers answer: somebody else's, or engines that we start."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec

from engine.chat import endpoint, engines, templates
from engine.chat.answer import Loaded, Parity
from engine.chat.endpoint import Endpoint
from engine.chat.engine_server import EngineServer
from engine.chat.sources import ModelSpec
from engine.errors import Failed
from engine.i18n import _
from engine.machine.devices import GpuId
from engine.settings import Settings
from engine.worker.client import WorkerClient

WORKER = "engine.chat.parity_worker"

Said = Callable[[str], None]
"""Told what an engine writes while it starts."""


class Served:
    """Servers by slot. Blocking; `halt` may come from another thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._endpoints: dict[str, Endpoint] = {}
        self._servers: dict[str, EngineServer] = {}

    def load(
        self, slot: str, spec: ModelSpec, busy: Collection[GpuId], said: Said | None = None
    ) -> Loaded:
        """Reach the server that `spec` names, or start its engine (seconds to minutes).

        Raises `Problem` or `Failed` as `endpoint.connect` and `EngineServer` do.
        """
        self.unload(slot)
        if not spec.engine:
            self._endpoints[slot] = endpoint.connect(spec, self._settings)
            return self._endpoints[slot].loaded
        started = time.monotonic()
        engine = engines.named(spec.engine, self._settings)
        server = EngineServer(engine, spec, self._settings, busy)
        self._servers[slot] = server
        try:
            served = server.start(said=said)
            system, parity = self._trained(spec)
            found = endpoint.connect(msgspec.structs.replace(served, system=system), self._settings)
        except BaseException:
            self.unload(slot)
            raise
        found.loaded = msgspec.structs.replace(
            found.loaded,
            template=_("{engine}, the tokenizer's template").format(engine=engine.name),
            device=engine.name,
            parity=parity,
            seconds=round(time.monotonic() - started, 3),
        )
        self._endpoints[slot] = found
        return found.loaded

    def get(self, slot: str) -> Endpoint | None:
        """The server of a slot; None where it has none."""
        return self._endpoints.get(slot)

    def holds(self, slot: str) -> bool:
        """Whether a slot has a server that, as far as we can know, is there."""
        server = self._servers.get(slot)
        return slot in self._endpoints and (server is None or server.running)

    @property
    def ours(self) -> bool:
        """Whether an engine of ours runs."""
        return any(one.running for one in self._servers.values())

    def halt(self) -> None:
        """End what is being started; its `load` raises."""
        for slot, server in list(self._servers.items()):
            if slot not in self._endpoints:
                server.leave()

    def unload(self, slot: str) -> None:
        """Forget the server of a slot; an engine of ours ends (some seconds)."""
        self._endpoints.pop(slot, None)
        server = self._servers.pop(slot, None)
        if server is not None:
            server.stop()

    def close(self) -> None:
        """Forget all. Engines of ours are told to end; nobody waits for it."""
        self._endpoints.clear()
        while self._servers:
            self._servers.popitem()[1].leave()

    def _trained(self, spec: ModelSpec) -> tuple[str, Parity | None]:
        """The system text of the training, and whether its template is the one that is served."""
        model, adapter = Path(spec.model), Path(spec.adapter) if spec.adapter else None
        training = templates.for_model(model, adapter)
        if training is None:
            return spec.system or "", None
        words = {"model": str(model.resolve()), "adapter": adapter and str(adapter.resolve())}
        with contextlib.suppress(Failed), WorkerClient(WORKER, self._settings) as worker:
            found = worker.result("trained", **words, trust=spec.trust)
            parity = found["parity"] and msgspec.convert(found["parity"], Parity)
            return found["system"] if spec.system is None else spec.system, parity
        return spec.system or "", None
