"""Fast servers that the user has (vLLM, LMDeploy, SGLang): found, and their command lines.

`engine.chat.engine_server` starts them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.chat.sources import ModelSpec
from engine.errors import Problem
from engine.i18n import _
from engine.settings import Settings

MODEL = "model"
"""What the served model is called; an adapter on it is called `ADAPTER`."""
ADAPTER = "adapter"
HOST = "127.0.0.1"
_DTYPES = {"auto": "auto", "bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The ranks that vLLM can be told as its largest."""


class Place(msgspec.Struct, frozen=True):
    """Where a server listens and what it may take.

    `socket` is a unix socket's path, or "" for `port` on the loopback with
    `key`. `cards`: how many GPUs it spreads over. `part`: the part of a card's
    whole memory that it may take (0: as it likes).
    """

    socket: str = ""
    port: int = 0
    key: str = ""
    cards: int = 1
    part: float = 0.0


class Engine(msgspec.Struct, frozen=True):
    """A server program that is installed: its name here ("vllm"), and the program."""

    name: str
    program: str

    @property
    def sockets(self) -> bool:
        """Whether it listens on a unix socket when told to. Asks its files: to start it takes long.

        Nobody else on the machine can reach such a server; the loopback is everybody's.
        """
        if self.name != "vllm":
            return False
        root = Path(self.program).resolve().parent.parent
        options = root.glob("lib/python3*/site-packages/vllm/entrypoints/**/cli_args.py")
        return any("uds" in one.read_text(errors="replace") for one in options)

    def command(self, spec: ModelSpec, place: Place) -> list[str]:
        """The command line that serves `spec` at `place`."""
        return [self.program, *_KNOWN[self.name](spec, place)]

    def environment(self, place: Place) -> dict[str, str]:
        """What it is told where other users cannot read it, as they can a command line."""
        return {"VLLM_API_KEY": place.key} if self.name == "vllm" and place.key else {}


def found(settings: Settings) -> list[Engine]:
    """The engines of the training environment, and those on PATH."""
    return [one for name in _KNOWN if (one := _find(name, settings)) is not None]


def named(name: str, settings: Settings) -> Engine:
    """The engine called `name`. Raises `Problem` where it is not installed."""
    engine = _find(name, settings) if name in _KNOWN else None
    if engine is not None:
        return engine
    there = ", ".join(one.name for one in found(settings)) or _("none")
    raise Problem(
        _("There is no engine {name} here").format(name=name),
        _("Looked for beside {python} and on PATH; found: {names}.").format(
            python=settings.python, names=there
        ),
        _("Install it in an environment of its own and put its program on PATH."),
    )


def check(bits: int) -> None:
    """Raise `Problem` for what an engine is not told the same way as we load it."""
    if bits:
        raise Problem(
            _("No engine loads a model in {bits} bits").format(bits=bits),
            _("An engine loads a model as it is stored."),
            _("Load it without an engine, or export it quantized first."),
            ways=("engine",),
        )


def served_name(spec: ModelSpec) -> str:
    """What `spec` is called there."""
    return ADAPTER if spec.adapter else MODEL


def _find(name: str, settings: Settings) -> Engine | None:
    beside = str(Path(settings.python).parent)
    program = shutil.which(name, path=beside) or shutil.which(name)
    return None if program is None else Engine(name, program)


def _vllm(spec: ModelSpec, place: Place) -> list[str]:
    words = ["serve", spec.model, "--served-model-name", MODEL, "--dtype", _DTYPES[spec.dtype]]
    words += ["--uds", place.socket] if place.socket else ["--host", HOST]
    words += [] if place.socket else ["--port", str(place.port)]
    words += ["--tensor-parallel-size", str(place.cards)] if place.cards > 1 else []
    words += ["--gpu-memory-utilization", f"{place.part:.2f}"] if place.part else []
    words += ["--trust-remote-code"] if spec.trust else []
    if spec.adapter:
        rank = _rank(Path(spec.adapter))
        words += ["--enable-lora", "--lora-modules", f"{ADAPTER}={spec.adapter}"]
        words += ["--max-lora-rank", str(min((one for one in _RANKS if one >= rank), default=rank))]
    return words


def _lmdeploy(spec: ModelSpec, place: Place) -> list[str]:
    words = ["serve", "api_server", spec.model, "--model-name", MODEL]
    words += ["--server-name", HOST, "--server-port", str(place.port), "--api-keys", place.key]
    words += ["--tp", str(place.cards)] if place.cards > 1 else []
    words += ["--dtype", _DTYPES[spec.dtype]] if spec.dtype in ("bf16", "fp16") else []
    words += ["--trust-remote-code"] if spec.trust else []
    # Its other backend, TurboMind, takes no adapters.
    words += ["--backend", "pytorch", "--adapters", f"{ADAPTER}={spec.adapter}"] * bool(
        spec.adapter
    )
    return words


def _sglang(spec: ModelSpec, place: Place) -> list[str]:
    words = ["serve", "--model-path", spec.model, "--served-model-name", MODEL]
    words += ["--host", HOST, "--port", str(place.port), "--api-key", place.key]
    words += ["--dtype", _DTYPES[spec.dtype]]
    words += ["--tp", str(place.cards)] if place.cards > 1 else []
    words += ["--mem-fraction-static", f"{place.part:.2f}"] if place.part else []
    words += ["--trust-remote-code"] if spec.trust else []
    words += ["--lora-paths", f"{ADAPTER}={spec.adapter}"] if spec.adapter else []
    return words


_KNOWN: dict[str, Callable[[ModelSpec, Place], list[str]]] = {
    "vllm": _vllm,
    "lmdeploy": _lmdeploy,
    "sglang": _sglang,
}


def _rank(adapter: Path) -> int:
    """The adapter's rank; 16, as vLLM assumes, where its config does not say."""
    try:
        return int(json.loads((adapter / "adapter_config.json").read_bytes())["r"])
    except (OSError, ValueError, KeyError, TypeError):
        return 16
