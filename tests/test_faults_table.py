"""The table of faults (docs/faults.md) and the tests that it names are the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "docs" / "faults.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> list[list[str]]:
    """The cells of every row, without the tables' heads."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "what was done" and set(row[0]) != {"-"}]


def functions(file: Path) -> set[str]:
    """The names of the test functions in a file."""
    defined = ast.parse(file.read_text(encoding="utf-8")).body
    found = (one for one in defined if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
    return {one.name for one in found if one.name.startswith("test_")}


def test_every_row_is_a_test() -> None:
    assert len(rows()) >= 20
    for row in rows():
        assert len(row) == 3 and all(row), row
        named = NAMED.findall(row[2])
        assert named, f"no test: {row[0]}"
        for file, name in named:
            assert name in functions(ROOT / file), f"{file} has no {name}"


def test_every_test_of_a_fault_is_a_row() -> None:
    named = {(file, name) for row in rows() for file, name in NAMED.findall(row[2])}
    for file in sorted(ROOT.glob("tests/run/test_faults_*.py")):
        where = str(file.relative_to(ROOT))
        unnamed = {(where, name) for name in functions(file)} - named
        assert not unnamed, f"not in {TABLE.name}: {sorted(unnamed)}"
