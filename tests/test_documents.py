"""The documents name what there is: verbs, flags, modules, codes, settings, keys."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import settings
from engine.cli.main import VERBS, parser
from engine.run.alarms import table

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WORDS = re.compile(r"`([^`]+)`")


def verbs(top: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every verb with its own parser: "train", "data show"."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield name, inner
                yield from ((f"{name} {deeper}", one) for deeper, one in verbs(inner))


PARSERS = dict(verbs(parser()))


def rows() -> list[tuple[str, str]]:
    """The table of docs/cli.md: what is called, and the rest of its row."""
    lines = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").splitlines()
    cells = [re.split(r"(?<!\\)\|", line.strip("|")) for line in lines if line.startswith("| `")]
    return [(one[0], " ".join(one[1:])) for one in cells]


def called(cell: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The verbs in a cell, each with the words behind it: ```stop RUN`, `kill RUN```."""
    group = last = ""
    for words in WORDS.findall(cell):
        first = words.replace("\\|", "|").split()
        group = first[0] if first[0] in ("data", "config") else group
        name = " ".join(first[:2]) if first[0] == group else first[0]
        name = name if name in PARSERS else f"{group} {first[0]}"
        last = name if name in PARSERS else last  # "doctor --install FOLDER`, `--try-hook"
        yield words, PARSERS[last]


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row[0])[:30].strip())
def test_the_flags_of_a_verb_are_those_of_its_parser(row: tuple[str, str]) -> None:
    for words, one in called(row[0]):
        known = {flag for action in one._actions for flag in action.option_strings}
        named = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", words))
        assert named <= known, (words, named - known)


def test_every_verb_has_its_row_and_every_option_its_help() -> None:
    told = {id(one) for row, _rest in rows() for _words, one in called(row)}
    whole = {name for name, one in PARSERS.items() if not any(_is_group(one))}
    assert {name for name in whole if id(PARSERS[name]) not in told} == set()
    assert {name.split()[0] for name in whole} == set(VERBS)
    for name, one in PARSERS.items():
        assert [a.dest for a in one._actions if not a.help and not _is_sub(a)] == [], name


def _is_group(one: argparse.ArgumentParser) -> list[bool]:
    return [True for action in one._actions if _is_sub(action)]


def _is_sub(action: argparse.Action) -> bool:
    return isinstance(action, argparse._SubParsersAction)


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_a_flag_anywhere_in_the_documents_is_one_of_ours(document: Path) -> None:
    """In what begins with ``tunedeck VERB``."""
    text = document.read_text(encoding="utf-8")
    for words in re.findall(r"(?:`|    )(?:\.venv/bin/)?tunedeck ([a-z][^`\n]*)", text):
        parts = words.split()
        name = " ".join(parts[:2]) if " ".join(parts[:2]) in PARSERS else parts[0]
        assert name in PARSERS or parts[0] == "demo", (document.name, words)
        known = {flag for action in PARSERS[name]._actions for flag in action.option_strings}
        named = set(re.findall(r"(?<=\s)--?[a-z][\w-]*", words))
        assert named <= known, (document.name, words)


def test_the_map_names_every_module_of_the_engines_ground_and_nothing_else() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = text.partition("## The tree")[2].partition("\n## ")[0]
    engine = ROOT / "src" / "engine"
    first = [cell for cell in re.findall(r"^\| (`.*?) \|", tree, re.M)]
    named = {word.strip().rstrip("/") for cell in first for word in WORDS.findall(cell)}
    there = {one.name for one in engine.iterdir() if one.suffix != ".typed" and one.name[0] != "_"}
    assert there - named == set()
    for name in named - there:
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_a_path_in_the_documents_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    places = [ROOT, ROOT / "src", ROOT / "src" / "engine", ROOT / "docs"]
    places += [one for one in (ROOT / "src" / "engine").iterdir() if one.is_dir()]
    places += [ROOT / "src" / "tui", ROOT / "src" / "engine" / "config" / "text"]
    for name in re.findall(r"[`(]((?:[\w-]+/)+[\w-]+\.(?:py|md|png)|[\w-]+\.md)[`)]", text):
        assert any((place / name).exists() for place in places), (document.name, name)


def test_the_alarms_codes_are_those_of_the_table() -> None:
    text = (ROOT / "docs" / "alarms.md").read_text(encoding="utf-8")
    first = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {word for cell in first for word in WORDS.findall(cell) if word.islower()}
    assert {word for word in named if not word.startswith("tunedeck")} == set(table.CODES)


def test_the_preflights_codes_are_those_of_the_checks() -> None:
    text = (ROOT / "docs" / "preflight.md").read_text(encoding="utf-8")
    codes = text.partition("## Codes")[2].partition("\n## ")[0]
    named = set(WORDS.findall(codes))
    engine = ROOT / "src" / "engine"
    files = [*(engine / "config").rglob("*.py"), *(engine / "joined").glob("*.py")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in files)
    assert {code for code in named if f'"{code}"' not in source} == set()
    made = set()
    for node in (node for path in files for node in ast.walk(ast.parse(path.read_text("utf-8")))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding" and node.args[1:]:
            made |= {node.args[1].value} if isinstance(node.args[1], ast.Constant) else set()
    assert made and made - named == set()


@pytest.mark.parametrize("document", ["slurm.md", "alarms.md"])
def test_the_settings_of_the_documents_are_those_that_are_known(document: str) -> None:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    known, table_name = set(settings.known()), ""
    for line in text.splitlines():
        if found := re.match(r"\s*\[(\w+)\]\s*$", line):
            table_name = found[1]
        elif table_name and (found := re.match(r"\s*(\w+) = ", line)):
            assert f"{table_name}.{found[1]}" in known, line
