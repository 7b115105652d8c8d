"""The map functions that rows go through: XTuner's own, ours, and the user's.

Runs in the dataset worker, under the training interpreter.
"""

from __future__ import annotations

import ast
import copy
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from engine.dataset import mapping, shapes
from engine.dataset.xtuner_parts import Parts
from engine.errors import Failed, Problem
from engine.i18n import _

MapFunction = Callable[[dict[str, Any]], dict[str, Any]]


class MapFunctions:
    """The function of each shape, found once, and again when its module has changed."""

    def __init__(self, parts: Parts | None) -> None:
        """`parts` may be None where no function is XTuner's."""
        self._parts = parts
        self._known: dict[str, tuple[shapes.Shape, MapFunction | None]] = {}

    def apply(self, row: Any, shape: str) -> dict[str, Any]:
        """A copy of `row` with the ``conversation`` that its map function makes.

        Raises whatever a function of XTuner's raises; `Failed` where the user's own
        cannot take the row or makes something else of it.
        """
        function = self.of(shape)
        example: dict[str, Any] = copy.deepcopy(row)
        if function is not None:
            example.update(function(example))
        return example

    def of(self, shape: str) -> MapFunction | None:
        """The function of a shape; None where it needs none. Raises `Problem` for a wrong one."""
        found = shapes.by_name(shape)
        if shape not in self._known or self._known[shape][0] is not found:
            self._known[shape] = found, self._find(found)
        return self._known[shape][1]

    def conversation(self, row: Any, shape: str) -> list[dict[str, Any]]:
        """The turns that `row` is made into. Raises `Failed` with what the function raised."""
        try:
            turns: list[dict[str, Any]] = self.apply(row, shape)["conversation"]
        except Problem:
            raise
        except Exception as error:
            raise Failed(
                _("The map function cannot take this row"),
                f"{type(error).__name__}: {error}",
                _("Correct the row, or choose another function."),
                repr(error),
            ) from error
        return turns

    def _find(self, shape: shapes.Shape) -> MapFunction | None:
        if shape.module:
            path = Path(shape.module)
            return _held_to_account(load_module(path), path)
        if shape.mapping is not None:
            return mapping.function(shape.mapping)
        if not shape.map_fn:
            return None
        assert self._parts is not None
        found = self._parts.map_fns.get(shape.map_fn)
        if found is None:
            known = ", ".join(name for name in self._parts.map_fns if name.endswith("_map_fn"))
            raise Problem(
                _("XTuner has no map function called {name}").format(name=shape.map_fn),
                todo=_("It has: {names}.").format(names=known),
            )
        return found


def load_module(path: Path) -> MapFunction:
    """The ``map_fn`` of the module at `path`, which is run for it as the trainer will run it."""
    what = _("Cannot use the map module {path}").format(path=path)
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    try:
        # Not imported: a compiled file beside it would hide an edit within the same second.
        exec(compile(path.read_bytes(), path, "exec"), module.__dict__)
        found: MapFunction = getattr(module, mapping.FUNCTION)
    except (Exception, SystemExit) as error:  # a user's code: whatever it raises ends the run too
        todo = _("Correct it. What it imports must be in the training environment.")
        raise Problem(what, _said(error, path), todo, repr(error)) from error
    return found


def _held_to_account(function: MapFunction, path: Path) -> MapFunction:
    """The user's own `function` from `path`; what goes wrong in it is told with its line."""
    todo = _("Correct the function, or this row.")

    def call(example: dict[str, Any]) -> dict[str, Any]:
        try:
            made = function(example)
        except (Exception, SystemExit) as error:
            what = _("{name} cannot take this row").format(name=path.name)
            raise Failed(what, _said(error, path), todo, repr(error)) from error
        what = _("{name} makes no conversation of this row").format(name=path.name)
        if not isinstance(made, dict):
            why = _("It returns {kind}, not an object with 'conversation'.")
            raise Failed(what, why.format(kind=shapes.kind(made)), todo)
        wrong = shapes.errors(shapes.by_name("xtuner").check(0, {**example, **made}))
        if wrong:
            at = "" if wrong[0].field == "conversation" else f"{wrong[0].field}: "
            raise Failed(what, at + wrong[0].reason, todo)
        return made

    return call


def _said(error: BaseException, path: Path) -> str:
    """What was raised, and the last line of `path` that was being run."""
    said = f"{type(error).__name__}: {error}"
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == str(path)]
    return _("Line {line}: {said}").format(line=lines[-1], said=said) if lines else said


class Offered(NamedTuple):
    """One of XTuner's map functions: its name, and the columns that it asks a row for."""

    name: str
    columns: list[str]


def offered() -> list[Offered]:
    """XTuner's map functions, read from its source without importing it; none without XTuner."""
    spec = importlib.util.find_spec("xtuner")
    places = spec.submodule_search_locations if spec is not None else None
    folder = Path(next(iter(places or [""]))) / "dataset/map_fns/dataset_map_fns"
    found = {
        node.name: Offered(node.name, _columns(node))
        for path in sorted(folder.glob("*_map_fn.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_map_fn")
    }
    return [found[name] for name in sorted(found)]


def _columns(function: ast.FunctionDef) -> list[str]:
    """The keys that `function` asks its argument for."""
    row = function.args.args[0].arg
    keys = [
        node.slice.value
        for node in ast.walk(function)
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == row
        and isinstance(node.slice, ast.Constant)
    ]
    return list(dict.fromkeys(key for key in keys if isinstance(key, str)))
