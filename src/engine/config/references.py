"""What the names in a config refer to, read from installed sources without importing them.

A config names classes and functions of torch, peft, mmengine, xtuner, … and
passes keywords to them. Whether those names exist and take those keywords is
told here from the files' syntax trees, in milliseconds. What cannot be told
this way is never reported: a false alarm is worse than a miss.

Runs in the load worker: standard library only.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_MAX_DEPTH = 12


@dataclass(frozen=True)
class Signature:
    """The keywords that a callable takes; `open` when it takes any."""

    names: tuple[str, ...]
    open: bool


Definition = ast.ClassDef | ast.FunctionDef


_beside: Path | None = None


@contextmanager
def beside(folder: Path) -> Iterator[None]:
    """Modules that lie in `folder` count as installed, as the trainer finds them there too."""
    global _beside
    _beside = folder
    try:
        yield
    finally:
        _beside = None


def _own(module: str) -> Path | None:
    """The file of a module of the user's own; never remembered, for it may change."""
    path = _beside / f"{module}.py" if _beside is not None and module.isidentifier() else None
    return path if path is not None and path.is_file() else None


def package_folder(name: str) -> Path | None:
    """The folder of a top-level package (or the file of a module); None when not installed."""
    return _library_folder(name) or _own(name)


@cache
def _library_folder(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None


def installed(module: str) -> bool:
    """Whether the top-level package of `module` can be found."""
    top = module.partition(".")[0]
    try:
        return importlib.util.find_spec(top) is not None or _own(top) is not None
    except (ImportError, ValueError):
        return False


def module_file(module: str) -> Path | None:
    """The source file of `module`; None when there is none to read."""
    return _library_file(module) or _own(module)


@cache
def _library_file(module: str) -> Path | None:
    top, _dot, rest = module.partition(".")
    found = _library_folder(top)
    if found is None:
        return None
    if found.is_file():
        return found if not rest and found.suffix == ".py" else None
    inside = found.joinpath(*rest.split(".")) if rest else found
    for path in (inside / "__init__.py", inside.with_name(inside.name + ".py")):
        if path.is_file():
            return path
    return None


def _tree(path: Path) -> ast.Module | None:
    try:
        return _parsed(path, path.stat().st_mtime_ns)
    except OSError:
        return None


@cache
def _parsed(path: Path, _changed: int) -> ast.Module | None:
    try:
        return ast.parse(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, SyntaxError, ValueError):
        return None


def missing(module: str) -> str:
    """The part of `module` that is not installed ("peftt", "mmengine.hookz"), or ""."""
    if not installed(module):
        return module.partition(".")[0]
    return "" if module_file(module) is not None or _compiled(module) else module


def exists(module: str, name: str) -> bool | None:
    """Whether the installed `module` has `name`; None when its source does not tell."""
    path = module_file(module)
    if path is None:
        return None
    if not name or module_file(f"{module}.{name}") is not None:
        return True
    text = path.read_text(encoding="utf-8", errors="replace")
    if re.search(rf"\b{re.escape(name)}\b", text):
        return True
    if re.search(r"import \*|__getattr__|LazyModule|globals\(\)|sys\.modules", text):
        return None
    return False


def _compiled(module: str) -> bool:
    """Whether `module` may exist without a source file of its own."""
    top, _dot, rest = module.partition(".")
    folder = package_folder(top)
    if not rest or folder is None or folder.is_file():
        return True
    inside = folder.joinpath(*rest.split("."))
    return inside.is_dir() or any(inside.parent.glob(f"{inside.name}.*"))


def names_of(module: str) -> list[str]:
    """Names that `module` defines or imports, for "did you mean"."""
    path = module_file(module)
    tree = _tree(path) if path else None
    found: set[str] = set()
    for node in tree.body if tree else ():
        if isinstance(node, Definition):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            found.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            found.update(one.id for one in node.targets if isinstance(one, ast.Name))
    return sorted(found)


def members(module: str, name: str) -> list[str] | None:
    """The keys of a module's ``name = ConfigDict(key=…, …)`` (XTuner's templates); else None."""
    found = _find(module, name)
    if found is None or not isinstance(found[1], ast.Call):
        return None
    keywords = found[1].keywords
    if any(one.arg is None for one in keywords):
        return None
    return [one.arg for one in keywords if one.arg is not None]


def template(module: str, name: str, key: str) -> dict[str, object] | None:
    """The literal entries of one member of such a ConfigDict, e.g. a prompt template."""
    found = _find(module, name)
    if found is None or not isinstance(found[1], ast.Call):
        return None
    for one in found[1].keywords:
        if one.arg == key and isinstance(one.value, ast.Call):
            try:
                return {
                    str(entry.arg): ast.literal_eval(entry.value) for entry in one.value.keywords
                }
            except ValueError:
                return None
    return None


def columns(module: str, name: str) -> list[str] | None:
    """The columns of a row that a dataset map function cannot do without."""
    found = _find(module, name)
    if found is None or not isinstance(found[1], ast.FunctionDef):
        return None
    return function_columns(found[1])


def function_columns(function: ast.FunctionDef) -> list[str]:
    """The keys that `function` takes from its first argument: ``row["x"]``, ``**row`` formats."""
    if not function.args.args:
        return []
    row = function.args.args[0].arg
    found: list[str] = []
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and node.value.id == row
            and isinstance(node.slice, ast.Constant)
            and isinstance(node.slice.value, str)
        ):
            found.append(node.slice.value)
        elif isinstance(node, ast.Call) and any(
            one.arg is None and isinstance(one.value, ast.Name) and one.value.id == row
            for one in node.keywords
        ):
            found += _placeholders(node)
    return list(dict.fromkeys(found))


def _placeholders(call: ast.Call) -> list[str]:
    function = call.func
    if not (
        isinstance(function, ast.Attribute)
        and function.attr == "format"
        and isinstance(function.value, ast.Constant)
        and isinstance(function.value.value, str)
    ):
        return []
    return [name for _text, name, *_rest in string.Formatter().parse(function.value.value) if name]


def signature(module: str, name: str) -> Signature | None:
    """The keywords that ``module.name`` takes; None when its source does not tell."""
    found = _find(module, name)
    if found is None:
        return None
    where, node = found
    if isinstance(node, ast.FunctionDef):
        return _of_function(node)
    if isinstance(node, ast.ClassDef):
        return _of_class(where, node, 0)
    return None


def _of_function(node: ast.FunctionDef, skip: int = 0) -> Signature:
    arguments = node.args
    names = [one.arg for one in (*arguments.posonlyargs, *arguments.args)][skip:]
    names += [one.arg for one in arguments.kwonlyargs]
    return Signature(tuple(names), arguments.kwarg is not None or bool(node.decorator_list))


def _of_class(module: str, node: ast.ClassDef, depth: int) -> Signature | None:
    if depth > _MAX_DEPTH or node.keywords or _odd(node.decorator_list):
        return None
    if any(_name(one) == "dataclass" for one in node.decorator_list):
        return _of_dataclass(module, node, depth)
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__new__":
            return None
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            own = _of_function(member, skip=1)
            if not own.open:
                return own
            base = _of_bases(module, node, depth)
            return Signature((*own.names, *(base.names if base else ())), True)
    return _of_bases(module, node, depth)


def _of_bases(module: str, node: ast.ClassDef, depth: int) -> Signature | None:
    for base in node.bases:
        if not isinstance(base, ast.Name):
            return None
        found = _find(module, base.id)
        if found is None or not isinstance(found[1], ast.ClassDef):
            return None
        known = _of_class(found[0], found[1], depth + 1)
        if known is not None:
            return known
    return None


def _of_dataclass(module: str, node: ast.ClassDef, depth: int) -> Signature | None:
    names: list[str] = []
    for base in node.bases:
        found = _find(module, base.id) if isinstance(base, ast.Name) else None
        if found is None or not isinstance(found[1], ast.ClassDef):
            return None
        if any(_name(one) == "dataclass" for one in found[1].decorator_list):
            inherited = _of_dataclass(found[0], found[1], depth + 1)
            if inherited is None:
                return None
            names += inherited.names
    for member in node.body:
        if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
            names.append(member.target.id)
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            return None
    return Signature(tuple(names), False)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")


def _odd(decorators: list[ast.expr]) -> bool:
    """Whether a class has decorators that may change how it is called."""
    return any(_name(one) not in ("dataclass", "register_module") for one in decorators)


def _find(module: str, name: str) -> tuple[str, ast.AST] | None:
    """The definition of ``module.name``, re-exports followed, with the module it stands in."""
    return _search(module, name, 0) if _own(module) else _find_in_library(module, name)


@cache
def _find_in_library(module: str, name: str) -> tuple[str, ast.AST] | None:
    return _search(module, name, 0)


def _search(module: str, name: str, depth: int) -> tuple[str, ast.AST] | None:
    path = module_file(module)
    tree = _tree(path) if path and depth < _MAX_DEPTH else None
    if path is None or tree is None:
        return None
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    stars: list[str] = []
    for node in tree.body:
        if isinstance(node, Definition) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and any(
            isinstance(one, ast.Name) and one.id == name for one in node.targets
        ):
            return module, node.value
        if isinstance(node, ast.ImportFrom):
            origin = _absolute(package, node)
            for alias in node.names:
                if alias.name == "*":
                    stars.append(origin)
                elif (alias.asname or alias.name) == name:
                    return _search(origin, alias.name, depth + 1)
    for origin in stars:
        found = _search(origin, name, depth + 1)
        if found is not None:
            return found
    return None


def _absolute(package: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    base = package.split(".")
    kept = base[: len(base) - (node.level - 1)]
    return ".".join([*kept, *([node.module] if node.module else [])])
