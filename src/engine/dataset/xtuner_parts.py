"""XTuner's own functions, imported without the rest of XTuner.

``import xtuner.dataset.utils`` takes 20 to 30 seconds, because the packages
around it import torch, transformers' models, bitsandbytes and deepspeed. The
modules we need import none of them. So the packages' own ``__init__`` are put
off until somebody asks for a name that only they have (a user's map function
may): then they run, and nothing is missing.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from engine.errors import Problem
from engine.i18n import _


class Parts(NamedTuple):
    """What tokenizing a row takes, all of it XTuner's."""

    encode_fn: Callable[..., dict[str, list[int]]]
    bos_and_eos: Callable[[Any], tuple[list[int] | None, list[int] | None]]
    """The ids that encode_fn puts around a sample; it fails where one is needed and None."""
    packer: Callable[[int], Callable[[dict[str, Any]], dict[str, Any]]]
    map_fns: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]
    template_map_fn_factory: Callable[[Any], Callable[[dict[str, Any]], dict[str, Any]]]
    templates: Mapping[str, Mapping[str, Any]]


class _LaterPackage(ModuleType):
    """A package whose ``__init__`` runs when a name is asked for that it does not have yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__version__":
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        spec = self.__spec__
        assert spec is not None and spec.loader is not None
        spec.loader.exec_module(self)
        return getattr(self, name)


def _put_off(name: str) -> ModuleType:
    """Make the package `name` known without running its ``__init__``."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise Problem(
            _("XTuner is not installed in {python}").format(python=sys.executable),
            todo=_("Run `tunedeck doctor`, or set 'interpreter' to the Python that has XTuner."),
        )
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _LaterPackage
    sys.modules[name] = module
    parent, _dot, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return module


def load() -> Parts:
    """Import what is needed of XTuner: about 2 s instead of 30."""
    # A tokenizer needs no framework; transformers imports one when it may.
    os.environ.setdefault("USE_TORCH", "0")
    os.environ.setdefault("USE_TF", "0")
    os.environ.setdefault("USE_FLAX", "0")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    for package in ("xtuner", "xtuner.utils", "xtuner.dataset"):
        utils = _put_off(package)
        if package == "xtuner.utils":
            for name in ("constants", "templates"):
                module = importlib.import_module(f"{package}.{name}")
                vars(utils).update({k: v for k, v in vars(module).items() if k.isupper()})
    encoding = importlib.import_module("xtuner.dataset.utils")
    map_fns = importlib.import_module("xtuner.dataset.map_fns")
    templates = importlib.import_module("xtuner.utils.templates")
    return Parts(
        encoding.encode_fn,
        encoding.get_bos_eos_token_ids,
        encoding.Packer,
        vars(map_fns),
        map_fns.template_map_fn_factory,
        templates.PROMPT_TEMPLATE,
    )
