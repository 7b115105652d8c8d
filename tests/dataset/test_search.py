"""Rows found by a text in them, however the file spells it."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from engine.dataset.reader import Dataset
from engine.dataset.search import Query, search
from engine.errors import Failed, Problem

ROWS: list[dict[str, Any]] = [
    {"instruction": "你是谁？", "output": "我是尖米的小助手"},
    {"instruction": "第一行\n第二行", "output": 'he said "hi" / \\ 😀'},
    {"instruction": "plain", "output": "n\\n is no line break", "number": 42.5},
    {"instruction": "尖", "output": "米", "deep": [{"a": ["在里面：尖米"]}], "none": None},
]
FOUND = [
    ("尖米", [0, 3]),
    ("尖", [0, 3]),
    ("行\n第", [1]),
    ('"hi" / \\', [1]),
    ("😀", [1]),
    ("plain", [2]),
    ("\\n", [2]),
    ("42.5", [2]),
    ("output", []),
    ("None", []),
    ("没有", []),
]


def found(path: Path, text: str, regex: bool = False) -> list[int]:
    with Dataset.open(path) as dataset:
        return list(search(dataset, Query(text, regex)))


def texts(name: str) -> str:
    """The rows in a format, spelled as different writers do."""
    if name == "mixed.jsonl":  # 尖 plain, all else escaped in capital and small letters
        lines = [json.dumps(row) for row in ROWS]
        lines = [line.replace("\\u5c16", "尖").replace("\\u7c73", "\\u7C73") for line in lines]
        return "\n".join(line.replace("plain", "\\u0070lain").replace("/", "\\/") for line in lines)
    if name.startswith("ascii"):
        return "".join(json.dumps(row) + "\n" for row in ROWS)
    if name.endswith(".jsonl"):
        return "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in ROWS)
    return json.dumps(ROWS, ensure_ascii=False, indent=2)


@pytest.mark.parametrize("name", ["plain.json", "plain.jsonl", "ascii.jsonl", "mixed.jsonl"])
def test_every_spelling_is_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(texts(name), encoding="utf-8")
    for text, rows in FOUND:
        assert found(path, text) == rows, text


def test_in_other_formats_too(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([{"q": row["instruction"], "a": row["output"]} for row in ROWS])
    pq.write_table(table, tmp_path / "rows.parquet")
    assert found(tmp_path / "rows.parquet", "尖米") == [0]
    (tmp_path / "rows.csv").write_text('q,a\n你,"一\n二"\n我,尖米\n', encoding="utf-8")
    assert found(tmp_path / "rows.csv", "尖米") == [1]
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(texts("ascii.jsonl").encode()))
    assert found(tmp_path / "rows.jsonl.gz", "尖米") == [0, 3]


def test_several_files_count_on(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(texts("plain.jsonl"), encoding="utf-8")
    with Dataset.open(tmp_path) as dataset:
        assert list(search(dataset, Query("尖米"))) == [0, 3, 4, 7]


def test_a_pattern(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(texts("plain.json"), encoding="utf-8")
    assert found(path, "^plain$|小助手$", regex=True) == [0, 2]
    assert found(path, "PLAIN", regex=True) == []
    assert found(path, "(?i)PLAIN", regex=True) == [2]
    assert found(path, "a.*n") == [], "literally"


def test_broken_rows_are_searched_as_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": "尖米"}\n{"a": "尖米\n{"a": "x"}\n', encoding="utf-8")
    assert found(path, "尖米") == [0, 1]
    assert found(path, "尖.$", regex=True) == [0, 1]


def test_matches_come_as_they_are_found_and_a_search_can_be_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text('{"a": "x"}\n' * 300_000)
    stop = False
    with Dataset.open(path) as dataset:
        rows = search(dataset, Query("x"), cancelled=lambda: stop)
        assert list(itertools.islice(rows, 3)) == [0, 1, 2]
        assert dataset.known < 300_000, "nothing is read before it is wanted"
        assert next(search(dataset, Query("x"), start=1000)) == 1000
        stop = True
        with pytest.raises(Failed, match="Stopped before"):
            list(rows)
        heard: list[tuple[int, int]] = []
        list(search(dataset, Query("y"), progress=lambda *done: heard.append(done)))
        assert heard[-1] == (300_000, 300_000)
        assert heard == sorted(heard)


@pytest.mark.parametrize(
    ("text", "regex", "words"),
    [("", False, "Nothing to look for"), ("(", True, "is not a regular")],
)
def test_what_cannot_be_looked_for_says_why(text: str, regex: bool, words: str) -> None:
    with pytest.raises(Problem, match=words):
        Query(text, regex)
