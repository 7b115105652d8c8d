"""Every form of config in the catalogue: values of each kind set, seen by mmengine, set back.

Of a form are configs that differ in nothing but the values in them. That each single one
can be edited and loaded is shown where all are copied (test_copy.py).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.config.known import fields
from engine.config.stock import catalogue
from engine.config.stock.entry import Entry
from engine.config.text.source import ConfigSource
from engine.config.text.values import Code
from engine.settings import Settings

KINDS = (
    "int",
    "float",
    "str",
    "bool",
    "None",
    "list",
    "expression",
    "shared",
    "nested",
    "augmented",
    "added",
)
OWNERS = ("randomness", "default_hooks.checkpoint", "env_cfg")
"""Blocks of which every config has one, to add a key to."""


def candidates(source: ConfigSource) -> Iterator[tuple[str, str, Any]]:
    """Kind, key and new value for the values of a config."""
    for name in source.names():
        code, value = source.code_of(name), source.get(name)
        if source.is_block(name) or isinstance(value, Code):
            continue  # a name of a library: what it stands for is not ours to make up
        new = another(value)
        if name in source.augmented:
            yield "augmented", name, new
        elif "." in name and source.variable(name) is not None:
            yield "shared", name, new
        elif not literal(code):
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield "expression", name, Code(f"({code}) * 2")
            elif isinstance(value, str) and not isinstance(value, Code):
                yield "expression", name, Code(f'({code}) + "x"')
        elif isinstance(value, list | tuple):
            yield "list", name, new
        elif name.count(".") >= 2:
            yield "nested", name, new
        else:
            yield type(value).__name__.replace("NoneType", "None"), name, new


def literal(code: str) -> bool:
    try:
        ast.literal_eval(code)
    except (ValueError, SyntaxError):
        return False
    return True


def another(value: Any) -> Any:
    """A value of the same type that is not `value`."""
    if value is None:
        return "尖米 'a' \"b\""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + " 'a' \"b\" \\ 尖米"
    if isinstance(value, int | float):
        return value + 7
    return type(value)([*value, "new"])


def edits(source: ConfigSource) -> dict[str, tuple[str, Any]]:
    """One key and its new value for each kind that a config has; no two touch one variable."""
    found: dict[str, tuple[str, Any]] = {}
    touched: set[str] = set()
    for kind, name, new in candidates(source):
        variable = source.variable(name) or name
        if kind not in found and variable not in touched and not isinstance(new, type(None)):
            found[kind] = (name, new)
            touched.add(variable)
    owner = next((one for one in OWNERS if source.is_block(one)), None)
    if owner is not None:
        found["added"] = (f"{owner}.tunedeck_added", 42)
    return found


def loaded(source: ConfigSource, folder: Path) -> Any:
    """The values of the config as mmengine loads them."""
    from mmengine.config import Config

    path = folder / "config.py"
    path.write_bytes(source.text.encode())
    config = Config.fromfile(str(path), format_python_code=False)
    return config._to_lazy_dict() if hasattr(config, "_to_lazy_dict") else config.to_dict()


def at(values: Any, name: str) -> Any:
    for part in name.split("."):
        values = values[int(part) if isinstance(values, list | tuple) else part]
    return values


def agree(ours: Any, theirs: Any) -> bool:
    """Whether they are the same; what only a run can tell (`Code`) agrees with anything."""
    if isinstance(ours, Code):
        return True
    if isinstance(ours, dict):
        return set(ours) == set(theirs) and all(agree(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(agree, ours, theirs))
    return bool(ours == theirs) and isinstance(ours, type(theirs))


def see_all(source: ConfigSource, folder: Path, where: str) -> None:
    """mmengine sees every value as we tell it."""
    values = loaded(source, folder)
    for name in source.names():
        assert agree(source.get(name), at(values, name)), (where, name, source.code_of(name))


def set_and_see(entry: Entry, folder: Path, singly: bool) -> set[str]:
    """Set a value of each kind, let mmengine see them, set them back; the kinds there were."""
    original = entry.path.read_bytes()
    source = ConfigSource.open(entry.path)
    assert all(field.help for field in fields.fields(source) if "." in field.name)
    before = source.text
    chosen = edits(source)
    old = {name: source.code_of(name) for name, _new in chosen.values()}
    for kind, (name, new) in chosen.items():
        last = source.text
        meant = source.code_of(source.variable(name) or name) if kind != "added" else ""
        source.set(name, new)
        if kind not in ("expression", "augmented", "added"):
            assert source.get(name) == new, (entry.name, kind, name)
        if singly:
            see_all(source, folder, f"{entry.name} {kind}")
            undo(source, kind, name, meant)
            assert source.text == last, (entry.name, kind, name)
            source.set(name, new)
    assert source.text != before
    see_all(source, folder, entry.name)
    for kind, (name, _new) in reversed(chosen.items()):
        undo(source, kind, name, old[name])
    assert source.text.encode() == original, entry.name
    return set(chosen)


def undo(source: ConfigSource, kind: str, name: str, code: str) -> None:
    if kind == "added":
        source.unset(name)
    else:
        source.set(name, Code(code))


def test_on_a_sample_each_value_alone(tmp_path: Path) -> None:
    seen: set[str] = set()
    entries = catalogue.load(Settings())
    for entry in entries[:: len(entries) // 5]:
        seen |= set_and_see(entry, tmp_path, singly=True)
    assert seen >= set(KINDS) - {"augmented", "expression"}


def forms(entries: list[Entry]) -> list[Entry]:
    """One config of each form."""
    found: dict[str, Entry] = {}
    for entry in entries:
        tree = ast.parse(entry.path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant):
                node.value = type(node.value).__name__
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "PROMPT_TEMPLATE":
                node.attr = "any"
        found.setdefault(ast.dump(tree), entry)
    return [*found.values()]


@pytest.mark.slow
def test_on_every_form_of_the_catalogue(tmp_path: Path) -> None:
    every = catalogue.load(Settings())
    entries = forms(every)
    assert len(every) > 590 and len(entries) > 150
    counts = dict.fromkeys(KINDS, 0)
    for number, entry in enumerate(entries):
        for kind in set_and_see(entry, tmp_path, singly=number % 40 == 0):
            counts[kind] += 1
    print(len(entries), counts)
    assert min(counts[kind] for kind in KINDS if kind != "augmented") > len(entries) // 2, counts
    assert counts["augmented"] > 60, counts


def test_the_form_knows_nearly_every_setting() -> None:
    told = known = 0
    for entry in catalogue.load(Settings())[::20]:
        for field in fields.fields(ConfigSource.open(entry.path)):
            told += 1
            known += bool(field.help and (field.effects or field.section))
    assert known / told > 0.99
