"""A map function that the user wrote: what is wrong in it is said with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.dataset.checking.check import check
from engine.dataset.map_functions import MapFunctions
from engine.dataset.reader import Dataset
from engine.errors import Failed, Problem
from engine.settings import Settings

ROW = {"q": "你是谁", "a": "我是尖米"}
RIGHT = """
import re

def turn(row):
    return {"input": row["q"], "output": row["a"]}

def map_fn(row):
    return {"conversation": [turn(row)]}
"""


def module(folder: Path, text: str) -> str:
    path = folder / "own_map.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("old", "new", "what", "why"),
    [
        ('row["a"]', 'row["answer"]', "cannot take this row", "Line 5: KeyError: 'answer'"),
        (
            '    return {"conv',
            '    exit(3)\n    return {"conv',
            "cannot take",
            "Line 8: SystemExit: 3",
        ),
        ("[turn(row)]", "re.sub('a', 'b', 7)", "cannot take", "Line 8: TypeError: expected string"),
        (
            '    return {"conversation": [turn(row)]}',
            "    turn(row)",
            "makes no conversation",
            "It returns null",
        ),
        (
            "[turn(row)]",
            "row['q']",
            "makes no conversation",
            "'conversation' is a text, not a list",
        ),
        ('row["a"]', "None", "makes no conversation", "conversation[0].output: 'output' is null"),
    ],
)
def test_what_goes_wrong_in_it_is_told_with_its_line(
    tmp_path: Path, old: str, new: str, what: str, why: str
) -> None:
    assert RIGHT.count(old) == 1
    maps, name = MapFunctions(None), module(tmp_path, RIGHT)
    assert maps.conversation(ROW, name) == [{"input": ROW["q"], "output": ROW["a"]}]
    name = module(tmp_path, RIGHT.replace(old, new).rstrip() + "\n")
    with pytest.raises(Failed) as caught:
        MapFunctions(None).apply(ROW, name)
    assert what in caught.value.what and caught.value.why.startswith(why)


def test_rows_go_through_it_without_a_model_too(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    rows = [ROW, {"q": "no answer"}, ROW]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with Dataset.open(data, module(tmp_path, RIGHT)) as dataset:
        found = check(dataset, settings=Settings())
    assert (found.rows, found.good, found.tokens) == (3, 2, None)
    assert [(one.row, one.remedy) for one in found.broken] == [
        (1, "Correct the function, or this row.")
    ]


def test_one_that_cannot_be_used_is_told_once(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text((json.dumps(ROW) + "\n") * 3, encoding="utf-8")
    name = module(tmp_path, RIGHT.replace("import re", "import no_such_module"))
    with (
        Dataset.open(data, name) as dataset,
        pytest.raises(Problem, match="Cannot use the map module") as caught,
    ):
        check(dataset, settings=Settings())
    assert caught.value.why.startswith("Line 2: ModuleNotFoundError") and caught.value.todo
