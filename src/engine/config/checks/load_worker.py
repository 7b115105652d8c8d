"""Loads a config exactly as the trainer will, in a process that may be lost.

A config is a program: it can hang, crash or eat memory. Here mmengine itself
parses it (its lazy imports import none of the libraries that a config names),
and what came out goes back as plain data. Needs mmengine, nothing heavier.
"""

from __future__ import annotations

import difflib
import os
import resource
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

from engine.config import references
from engine.config.known import vocabulary
from engine.i18n import _
from engine.worker.serve import Cancelled, Emit, serve

_MEMORY = 2 << 30
"""Bytes of address space that a config may take while it loads."""
_PACKAGES = (
    "accelerate", "bitsandbytes", "datasets", "deepspeed", "flash_attn", "huggingface_hub",
    "mmengine", "peft", "torch", "transformers", "triton", "xtuner",
)  # fmt: skip


def load(request: Mapping[str, Any], emit: Emit, cancelled: Cancelled) -> dict[str, Any]:
    """``load {path}`` → ``values`` (a tree), ``wrong`` (names and keys),
    ``versions`` of the libraries, …; or ``error``.

    In the tree an object that a config only names is ``{"$ref": "module:name"}``,
    a function of the config's own ``{"$function": name, "columns": […]}``, a
    tuple a list.
    """
    from mmengine.config import Config

    path = request["path"]
    sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115 (requests come there: input() must not)
    emit("loading")
    try:
        config = Config.fromfile(path, format_python_code=False)
        values = config._to_lazy_dict() if hasattr(config, "_to_lazy_dict") else config.to_dict()
    except BaseException as error:  # sys.exit and the like are the config's doing too
        return {"error": _explain(error, path)}
    with references.beside(Path(path).parent):
        return _told(config, values)


def _told(config: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The answer for a config that did load."""
    imported = sorted(getattr(config, "_imported_names", ()))
    tree = {key: _plain(value) for key, value in values.items() if key not in imported}
    return {
        "values": tree,
        "imported": imported,
        "wrong": [*_wrong_names(values, imported), *_wrong_keys(tree, ())],
        "columns": _map_columns(tree),
        "template": _template(tree),
        "versions": _versions(),
        "templates": references.members("xtuner.utils.templates", "PROMPT_TEMPLATE") or [],
    }


def _versions() -> dict[str, str | None]:
    """The installed versions of the packages that a training stands on."""
    return {name: _version(name) for name in _PACKAGES}


def _version(name: str) -> str | None:
    import importlib.metadata as metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _explain(error: BaseException, path: str) -> dict[str, Any]:
    """The error in the config, with the line of the config that raised it."""
    line = None
    if isinstance(error, SyntaxError):
        line = error.lineno
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == path:
            line = frame.lineno
    text = str(error).strip()
    if not text and isinstance(error, RuntimeError):
        # mmengine's own word (none) for a call of what it did not import.
        text = _("a config cannot call what it imports: mmengine keeps only the name")
    near: list[str] = []
    if isinstance(error, NameError) and getattr(error, "name", None):
        near = difflib.get_close_matches(str(error.name), _assigned(path), n=1)
    return {
        "kind": type(error).__name__,
        "text": text,
        "line": line,
        "near": near[0] if near else None,
        "details": traceback.format_exc(),
    }


def _assigned(path: str) -> list[str]:
    import ast
    from pathlib import Path

    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    return [
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]


def reference(value: Any) -> str | None:
    """``module:name`` of an object that mmengine did not import; None for anything else."""
    from mmengine.config.lazy import LazyAttr, LazyObject

    if isinstance(value, LazyObject):
        return f"{value.module}:{value._imported or ''}"
    if isinstance(value, LazyAttr):
        module, _colon, name = (reference(value.source) or ":").partition(":")
        return f"{module}:{name}.{value.name}" if name else f"{module}:{value.name}"
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    named = reference(value)
    if named is not None:
        return {"$ref": named}
    if isinstance(value, FunctionType):
        return {"$function": value.__name__, "columns": _own_columns(value)}
    if isinstance(value, type) or callable(value):
        return {"$ref": f"{value.__module__}:{getattr(value, '__qualname__', '')}"}
    return {"$value": repr(value)}


def _own_columns(function: FunctionType) -> list[str] | None:
    import ast
    from pathlib import Path

    try:
        tree = ast.parse(Path(function.__code__.co_filename).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            return references.function_columns(node)
    return None


def _references(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str, str]]:
    """Every (module, name, dotted key) that the values name."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _references(one, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            yield from _references(one, (*path, str(index)))
    else:
        named = reference(value)
        if named is not None:
            module, _colon, name = named.partition(":")
            yield module, name, ".".join(path)


def _wrong_names(values: Mapping[str, Any], imported: list[str]) -> Iterator[dict[str, Any]]:
    """Names that the libraries do not have. Imports that nothing uses are never built."""
    seen = set()
    used = {key: value for key, value in values.items() if key not in imported}
    for module, name, key in _references(used):
        if (module, name) in seen:
            continue
        seen.add((module, name))
        first, _dot, attribute = name.partition(".")
        if gone := references.missing(module):
            yield {"kind": "module", "field": key, "name": gone, "near": None}
        elif references.exists(module, first) is False:
            near = difflib.get_close_matches(first, references.names_of(module), n=1)
            yield {
                "kind": "name",
                "field": key,
                "name": f"{module}.{first}",
                "near": near[0] if near else None,
            }
        elif attribute:
            known = references.members(module, first)
            part = attribute.partition(".")[0]
            if known is not None and part not in known:
                near = difflib.get_close_matches(part, known, n=1)
                yield {
                    "kind": "member",
                    "field": key,
                    "name": f"{first}.{part}",
                    "near": f"{first}.{near[0]}" if near else None,
                }


def _wrong_keys(tree: Any, path: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Keywords that the class or function in ``type`` does not take, or what reads the block."""
    if isinstance(tree, list):
        for index, one in enumerate(tree):
            yield from _wrong_keys(one, (*path, str(index)))
    if not isinstance(tree, dict):
        return
    for key, one in tree.items():
        yield from _wrong_keys(one, (*path, key))
    named = tree.get("type")
    if not isinstance(named, dict) or "$ref" not in named:
        place = ".".join(path)
        for key, meant in vocabulary.misspelt(place, tree):
            kind = "key-near" if place in vocabulary.LENIENT else "key"
            yield {"kind": kind, "field": f"{place}.{key}", "name": place, "near": meant}
        return
    module, _colon, name = named["$ref"].partition(":")
    known = references.signature(module, name)
    if known is None:
        return
    for key in tree:
        if key in vocabulary.BUILDER or key in known.names:
            continue
        near = difflib.get_close_matches(key, known.names, n=1, cutoff=vocabulary.NEAR)
        if near or not known.open:
            yield {
                "kind": "key" if not known.open else "key-near",
                "field": ".".join((*path, key)),
                "name": name,
                "near": near[0] if near else None,
            }


def _dataset(tree: Mapping[str, Any]) -> Any:
    loader = tree.get("train_dataloader")
    dataset = loader.get("dataset") if isinstance(loader, dict) else tree.get("train_dataset")
    return dataset if isinstance(dataset, dict) else {}


def _map_columns(tree: Mapping[str, Any]) -> list[str] | None:
    """The columns that the config's dataset_map_fn needs; None when that cannot be told."""
    function = _dataset(tree).get("dataset_map_fn")
    if function is None:
        return ["conversation"]
    if isinstance(function, dict) and "$function" in function:
        columns: list[str] | None = function["columns"]
        return columns
    if isinstance(function, dict) and "$ref" in function:
        module, _colon, name = function["$ref"].partition(":")
        return references.columns(module, name)
    return None


def _template(tree: Mapping[str, Any]) -> dict[str, Any] | None:
    """The prompt template's name and entries, when it is one of XTuner's."""
    factory = _dataset(tree).get("template_map_fn")
    value = factory.get("template") if isinstance(factory, dict) else None
    value = value if value is not None else tree.get("prompt_template")
    if not isinstance(value, dict):
        return None
    if "$ref" not in value:
        return {"name": "", "entries": value}
    module, _colon, name = value["$ref"].partition(":")
    owner, _dot, key = name.partition(".")
    entries = references.template(module, owner, key)
    return {"name": key, "entries": entries} if entries is not None else None


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    serve({"load": load})
