"""Any columns made into XTuner's conversations, by a module that stands beside the config.

A `Mapping` says what is where. `source` writes it as a Python module that
stands alone (one of `engine.dataset.map_modules` with its constants filled in),
and `apply` runs that very text: what is previewed is what will be trained on.
"""

from __future__ import annotations

import ast
import keyword
import re
import sys
from collections.abc import Callable
from collections.abc import Mapping as Entries
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.errors import Problem
from engine.i18n import _

FUNCTION = "map_fn"
"""The name of the function in a module of ours."""
SIDES = ("system", "question", "answer")
_MODULES = Path(__file__).parent / "map_modules"


@dataclass(frozen=True)
class Mapping:
    """Which columns make up a conversation.

    Either `question`, `extra` and `answer` name columns with texts (one turn a
    row), or `messages` names a column with lists of objects that have a `role` and
    a `text` key; `roles` then pairs the roles' names with `SIDES`, and `loss` is
    the key that says whether an answer is trained on. `system` is a column,
    `system_text` stands for every row that has no system text of its own.
    """

    answer: str = ""
    question: str = ""
    extra: tuple[str, ...] = ()
    messages: str = ""
    role: str = ""
    text: str = ""
    roles: tuple[tuple[str, str], ...] = ()
    loss: str = ""
    system: str = ""
    system_text: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a row must have."""
        return tuple(filter(None, (self.messages, self.question, self.answer)))

    @property
    def complete(self) -> bool:
        """Whether it says where the answers are."""
        return bool(self.answer or (self.messages and self.role and self.text and self.roles))


def refuse_incomplete(mapping: Mapping) -> None:
    """Raise `Problem` for a mapping that does not say where the answers are."""
    if not mapping.complete:
        raise Problem(
            _("The mapping does not say where the answers are"),
            todo=_("Name the column that holds what the model is to answer."),
        )


def apply(mapping: Mapping, row: Entries[str, Any]) -> list[dict[str, Any]]:
    """The turns that XTuner is given of `row`: ``system``, ``input``, ``output``, ….

    Raises KeyError or TypeError for a row that does not fit, as the module will.
    """
    turns: list[dict[str, Any]] = function(mapping)(row)["conversation"]
    return turns


@lru_cache(maxsize=64)
def function(mapping: Mapping) -> Callable[[Entries[str, Any]], dict[str, Any]]:
    """The `map_fn` of the module that `source` writes for `mapping`."""
    namespace: dict[str, Any] = {"__name__": "map_module"}
    exec(compile(source(mapping), "<map module>", "exec", dont_inherit=True), namespace)
    made: Callable[[Entries[str, Any]], dict[str, Any]] = namespace[FUNCTION]
    return made


def source(mapping: Mapping, name: str = "THIS_MODULE") -> str:
    """The text of the module that maps rows so; `name` is what it will be imported as."""
    refuse_incomplete(mapping)
    template = "messages" if mapping.messages else "columns"
    text = (_MODULES / f"{template}.py").read_text(encoding="utf-8")
    lines = text.replace("THIS_MODULE", name).replace("THIS_FILE", f"{name}.py").splitlines()
    values = _constants(mapping)
    for node in reversed(ast.parse(text).body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            head = f"{node.target.id}: {ast.unparse(node.annotation)}"
            assert node.end_lineno is not None
            lines[node.lineno - 1 : node.end_lineno] = [f"{head} = {values[node.target.id]}"]
    return "\n".join(lines) + "\n"


def _constants(mapping: Mapping) -> dict[str, str]:
    """The module's constants as they are written in it."""
    roles = "".join(f"    {_quoted(role)}: {_quoted(side)},\n" for role, side in mapping.roles)
    return {
        "QUESTION": _quoted(mapping.question),
        "ANSWER": _quoted(mapping.answer),
        "EXTRA": _tuple(mapping.extra),
        "MESSAGES": _quoted(mapping.messages),
        "ROLE": _quoted(mapping.role),
        "TEXT": _quoted(mapping.text),
        "ROLES": f"{{\n{roles}}}",
        "LOSS": _quoted(mapping.loss),
        "SYSTEM": _quoted(mapping.system),
        "SYSTEM_TEXT": _quoted(mapping.system_text),
    }


def _tuple(values: tuple[str, ...]) -> str:
    """A tuple of texts, on lines of their own where one line is too short."""
    if not values:
        return "()"
    quoted = [_quoted(value) for value in values]
    short = f"({', '.join(quoted)}{',' if len(quoted) == 1 else ''})"
    if len(short) < 60:
        return short
    return "(\n" + "".join(f"    {value},\n" for value in quoted) + ")"


def _quoted(text: str) -> str:
    """`text` as a formatter writes it: in double quotes, unless it holds more of those."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    plain = {"'": "'", '"': '"', quote: f"\\{quote}"}
    body = "".join(plain.get(one) or repr(one)[1:-1] for one in text)
    return f"{quote}{body}{quote}"


# -- modules ------------------------------------------------------------------


def write_map_module(mapping: Mapping, path: Path, force: bool = False) -> Path:
    """Write the module for `mapping` to `path`, from where a config beside it imports it.

    Raises `Problem` for a name that cannot be imported, and for a file that is there.
    """
    from engine import files  # which the training interpreter need not be able to import

    check_name(path)
    files.refuse_existing(path, force)
    with files.replacing(path, force=force) as file:
        file.write(source(mapping, path.stem).encode("utf-8"))
    return path


def check_name(path: Path) -> None:
    """Raise `Problem` unless a config can import the module at `path` by its name."""
    name = path.stem
    taken = name in sys.stdlib_module_names or name in ("engine", "xtuner", "torch", "datasets")
    if path.suffix == ".py" and name.isidentifier() and not keyword.iskeyword(name) and not taken:
        return
    raise Problem(
        _("{path} cannot be the name of a map module").format(path=path),
        _("A config imports it by name: letters, digits and _ only, .py at its end.")
        if not taken
        else _("Python has a module of that name already."),
        _("Name it for example {name}.").format(name=f"{module_name(name)}.py"),
    )


def module_name(stem: str) -> str:
    """A name for the map module of the dataset called `stem`: ``my-data`` → ``my_data_map``."""
    plain = re.sub(r"\W+", "_", stem).strip("_") or "data"
    return f"{'data_' if plain[0].isdigit() else ''}{plain}_map"


def read_map_module(path: Path) -> Mapping | None:
    """The mapping that the module at `path` was written from; None for a module that is not ours.

    One that was changed by hand in more than its constants is not. Nothing of it is
    run. Raises `Problem` when it cannot be read or is no Python.
    """
    what = _("Cannot use the map module {path}").format(path=path)
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except FileNotFoundError as error:
        raise Problem(what, _("There is no such file.")) from error
    except OSError as error:
        raise Problem(what, error.strerror or str(error)) from error
    except SyntaxError as error:
        why = _("It is not Python: line {line}: {error}.")
        raise Problem(what, why.format(line=error.lineno, error=error.msg)) from error
    except ValueError as error:  # not UTF-8, or with a null byte
        raise Problem(what, _("It is not Python: {error}.").format(error=error)) from error
    if not any(getattr(node, "name", "") == FUNCTION for node in tree.body):
        todo = _("Name the function in it {name}.").format(name=FUNCTION)
        raise Problem(what, _("It has no function {name}.").format(name=FUNCTION), todo)
    found = _mapping_in(tree)
    ours = found is not None and found.complete and _same(source(found, path.stem), text)
    return found if ours else None


def _mapping_in(tree: ast.Module) -> Mapping | None:
    values: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            try:
                values[node.target.id.lower()] = ast.literal_eval(node.value)
            except ValueError:
                return None
    if isinstance(values.get("roles"), dict):
        values["roles"] = tuple(values["roles"].items())
    return Mapping(**values) if _valid(values) else None


def _valid(values: dict[str, Any]) -> bool:
    """Whether these can be a mapping's: texts, but for `extra` and `roles`."""
    extra, roles = values.get("extra", ()), values.get("roles", ())
    texts = [value for name, value in values.items() if name not in ("extra", "roles")]
    return (
        values.keys() <= Mapping.__dataclass_fields__.keys()
        and isinstance(extra, tuple)
        and all(isinstance(value, str) for value in (*texts, *extra))
        and all(isinstance(role, str) and side in SIDES for role, side in roles)
    )


def _same(one: str, other: str) -> bool:
    """Whether two modules do the same: their syntax trees without the texts that explain."""
    return _bare(one) == _bare(other)


def _bare(text: str) -> str:
    tree = ast.parse(text)
    tree.body = [node for node in tree.body if not isinstance(node, ast.Expr)]
    return ast.dump(tree)
