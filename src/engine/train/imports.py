"""XTuner's imports, without the work in them that a run may not need.

They are most of a start: XTuner and its libraries import all that they can do.
Nothing here takes anything away; what is left out happens when it is asked for.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from engine.train import late


@contextlib.contextmanager
def lightly() -> Iterator[None]:
    """Import what is imported inside with less work; what is there already stays as it is."""
    late.install()
    with _garbage_waits():
        when_imported("transformers.utils.import_utils", _remember_structure)
        _import_without_compiling("torch.jit", "script", _classes_later, "torch.distributed.optim")
        _import_without_compiling("torch", "compile", _compiled_when_called, "bitsandbytes")
        yield


def when_imported(name: str, change: Callable[[ModuleType], None]) -> None:
    """Have `change` get the module `name` when it has been imported, before anyone uses it."""
    sys.meta_path.insert(0, _Then(name, change))


@contextlib.contextmanager
def _garbage_waits() -> Iterator[None]:
    """Keep the garbage collector from walking all modules again and again while they come.

    A fifth of an import's time, and next to nothing of theirs is garbage. Afterwards
    they are set apart, so that it does not walk them during training either; what is
    garbage by then goes first, or it would hold the callers' variables for good.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def _import_without_compiling(
    place: str, name: str, instead: Callable[[Callable[..., Any]], Callable[..., Any]], module: str
) -> None:
    """Import `module` while what `name` is in the module `place` does its work later.

    A module that is not installed is left alone: its users say so themselves.
    """
    home = import_module(place)
    compiler = getattr(home, name)
    setattr(home, name, instead(compiler))
    try:
        import_module(module)
    except ImportError:
        pass  # full fine-tuning and LoRA need no bitsandbytes
    finally:
        setattr(home, name, compiler)


def _compiled_when_called(compile_now: Callable[..., Any]) -> Callable[..., Any]:
    """``torch.compile`` that compiles a function at its first call.

    bitsandbytes hands it four functions while it is imported, which imports
    inductor, an eighth of a start, for a run that may call none of them.
    """

    def compile_later(model: Any = None, **options: Any) -> Any:
        if model is None:
            return functools.partial(compile_later, **options)
        compiled = functools.cache(lambda: compile_now(model, **options))

        @functools.wraps(model)
        def call(*args: Any, **words: Any) -> Any:
            return compiled()(*args, **words)

        return call

    return compile_later


def _classes_later(script: Callable[..., Any]) -> Callable[..., Any]:
    """``torch.jit.script`` that leaves classes to the script that names them first.

    mmengine imports torch's eight functional optimizers to get at one class beside
    them, and each is compiled. A compiled class is the class itself; TorchScript
    compiles one that it does not know yet wherever it meets it.
    """

    @functools.wraps(script)
    def functions_only(obj: Any, *args: Any, **options: Any) -> Any:
        return obj if isinstance(obj, type) else script(obj, *args, **options)

    return functions_only


class _Then(MetaPathFinder, Loader):
    """Changes the module `name` when it has been imported, before anyone uses it."""

    def __init__(self, name: str, change: Callable[[ModuleType], None]) -> None:
        self._name, self._change = name, change
        self._loader: Loader | None = None

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's spec, this being the loader in it; None for any other."""
        spec = late.find_without(self, name, path, target) if name == self._name else None
        if spec is not None:
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        assert self._loader is not None
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert self._loader is not None and module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._change(module)


def _remember_structure(import_utils: ModuleType) -> None:
    """Let transformers look into its 1,400 files of models once.

    It reads each for the names in it, twice over: what it remembers of the first
    time are the last 128 of 400 folders.
    """
    name = "create_import_structure_from_path"
    look: Any = getattr(import_utils, name, None)
    if hasattr(look, "__wrapped__"):
        setattr(import_utils, name, functools.cache(look.__wrapped__))
