"""Modules that are there at once and run when something is asked of them.

A late module has its name, its place and its spec, and stands in ``sys.modules``;
the code of it runs when its first attribute is asked for. From then on it is what
an import would have made of it at once. Where nothing is asked, nothing runs.

``from module import name`` asks for an attribute, too. For functions and classes
that are only ever called, `NAMES` gives stand-ins: the module runs at the call.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

NAMES: Mapping[str, frozenset[str]] = {
    "deepspeed": frozenset(),  # imported by mmengine whether it is used or not
    "matplotlib": frozenset(),
    # xtuner.dataset draws pictures of RefCOCO with these three:
    "matplotlib.patches": frozenset({"Polygon", "Rectangle"}),
    "matplotlib.pyplot": frozenset(),
    "skimage.io": frozenset(),
    # transformers matches boxes of object detection with it:
    "scipy.optimize": frozenset({"linear_sum_assignment"}),
}
"""The late modules, and which of their names are only called by those who import them."""


class LateModule(ModuleType):
    """A module whose code has not run yet."""

    def __getattr__(self, name: str) -> Any:
        if name == "__path__":  # what a package has from the start; this is none
            raise AttributeError(name)
        if name in NAMES[self.__name__]:
            return _called_later(self, name)
        _run(self)
        return getattr(self, name)

    def __dir__(self) -> list[str]:
        _run(self)
        return dir(self)


_running = threading.RLock()


def _run(module: ModuleType) -> None:
    """Run a late module, after its package, as an import would; any other one is left alone."""
    with _running:
        package = sys.modules.get(module.__name__.rpartition(".")[0])
        if package is not None and type(package) is LateModule:
            _run(package)
        if type(module) is not LateModule:
            return
        module.__class__ = ModuleType  # type: ignore[assignment]  # a class above its own
        assert module.__spec__ is not None and module.__spec__.loader is not None
        try:
            module.__spec__.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(module.__name__, None)  # the next import tries again
            raise


def _called_later(module: ModuleType, name: str) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        _run(module)
        return getattr(module, name)(*args, **options)

    return call


class _Late(Loader):
    """Makes a late module of what `loader` would run at once."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        module.__class__ = LateModule


class _There(Loader):
    """Gives a module that was imported while its late package ran.

    Python asks the module's own spec how to load it, so this stands in there, once.
    """

    def __init__(self, module: ModuleType, spec: ModuleSpec) -> None:
        self._module, self._spec, self._loader = module, spec, spec.loader
        spec.loader = self

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        self._spec.loader = self._loader


def find_without(
    own: MetaPathFinder, name: str, path: Sequence[str] | None, target: ModuleType | None
) -> ModuleSpec | None:
    """What the finders besides `own` find."""
    others = [finder for finder in sys.meta_path if finder is not own]
    found = (finder.find_spec(name, path, target) for finder in others)
    return next((spec for spec in found if spec is not None), None)


class Finder(MetaPathFinder):
    """Finds late modules; before any other module of a late package it runs the package."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a late module; None for one that the other finders are to find."""
        if name in NAMES:
            spec = find_without(self, name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Late(spec.loader)
            return spec
        package = sys.modules.get(name.rpartition(".")[0])
        if package is not None and type(package) is LateModule:
            _run(package)
            module = sys.modules.get(name)
            if module is not None and module.__spec__ is not None:
                _There(module, module.__spec__)
                return module.__spec__
        return None


def install() -> None:
    """Let the modules of `NAMES` be late from now on; those that are imported stay as they are."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
