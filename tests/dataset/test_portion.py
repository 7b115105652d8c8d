"""Rows exported, a validation set split off: by the engine and by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.cli.main import main
from engine.dataset.editing.portion import draw, export, split
from engine.dataset.reader import Dataset
from engine.errors import Failed, Problem

ROWS = [{"instruction": f"问{n}", "input": "", "output": f"答{n}"} for n in range(40)]


@pytest.fixture
def array(tmp_path: Path) -> Path:
    path = tmp_path / "rows.json"
    path.write_text("\ufeff" + json.dumps(ROWS, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\r\n" for row in ROWS))
    return path


def read(path: Path) -> list[Any]:
    text = path.read_text("utf-8-sig")
    return json.loads(text) if path.suffix == ".json" else list(map(json.loads, text.splitlines()))


def exported(source: Path, rows: set[int] | None, out: Path) -> Path:
    with Dataset.open(source) as dataset:
        assert export(dataset, rows, out).rows == len(rows if rows is not None else ROWS)
    return out


def test_in_the_same_format_to_the_byte(array: Path, lines: Path, tmp_path: Path) -> None:
    assert exported(lines, {3, 39}, tmp_path / "o.jsonl").read_bytes() == b"".join(
        json.dumps(ROWS[n]).encode() + b"\r\n" for n in (3, 39)
    )
    some = exported(array, {0, 5}, tmp_path / "o.json")
    assert (
        some.read_text("utf-8")
        == "\ufeff" + json.dumps([ROWS[0], ROWS[5]], indent=1, ensure_ascii=False) + "\n"
    )
    whole = exported(array, None, tmp_path / "all.json")
    assert whole.read_bytes() == array.read_bytes()


def test_to_the_other_format(array: Path, lines: Path, tmp_path: Path) -> None:
    out = exported(array, {1, 2}, tmp_path / "o.jsonl")
    assert read(out) == ROWS[1:3] and out.read_bytes().count(b"\n") == 2
    assert read(exported(lines, {1, 2}, tmp_path / "o.json")) == ROWS[1:3]


def test_from_parquet_and_csv(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    assert read(exported(tmp_path / "rows.parquet", {7}, tmp_path / "p.jsonl")) == [ROWS[7]]
    (tmp_path / "rows.csv").write_text("q,a\n你,好\n我,行\n", "utf-8")
    assert read(exported(tmp_path / "rows.csv", {1}, tmp_path / "c.json")) == [
        {"q": "我", "a": "行"}
    ]


def test_from_several_files(lines: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.jsonl").write_bytes(lines.read_bytes())
    assert read(exported(folder, {39, 40}, tmp_path / "o.jsonl")) == [ROWS[39], ROWS[0]]


def test_broken_rows_stay_what_they_are_or_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"a": 1}\n{"a": broken\n')
    out = exported(source, {1}, tmp_path / "o.jsonl")
    assert out.read_text() == '{"a": broken\n'
    with Dataset.open(source) as dataset, pytest.raises(Problem, match="Row 1 is broken"):
        export(dataset, None, tmp_path / "o.json")
    assert not (tmp_path / "o.json").exists()


def test_what_is_refused(array: Path, tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("mine")
    cases = [
        (tmp_path / "there.json", {0}, Problem, "exists already"),
        (array, {0}, Problem, "is the file that is read"),
        (tmp_path / "o.csv", {0}, Problem, "Cannot write"),
        (tmp_path / "o.json", set(), Failed, "No row was chosen"),
    ]
    for out, rows, kind, words in cases:
        with Dataset.open(array) as dataset, pytest.raises(kind, match=words):
            export(dataset, rows, out)
    assert (tmp_path / "there.json").read_text() == "mine"
    assert not (tmp_path / "o.json").exists()


def test_the_same_seed_gives_the_same_split(array: Path, tmp_path: Path) -> None:
    parts = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        train, val = tmp_path / f"{name}-t.json", tmp_path / f"{name}-v.json"
        with Dataset.open(array) as dataset:
            done = split(dataset, train, val, share=0.25, seed=seed)
        assert (done.train_rows, done.validation_rows) == (30, 10)
        parts.append((read(train), read(val)))
        order = [ROWS.index(row) for row in read(val)]
        assert order == sorted(order), "the order is kept"
        assert sorted(map(str, parts[-1][0] + parts[-1][1])) == sorted(map(str, ROWS))
    assert parts[0] == parts[1] != parts[2]


def test_the_draw_never_changes() -> None:
    """Another version of Python or of ours must draw the same rows."""
    assert [n for n, taken in enumerate(draw(20, 5, 0)) if taken] == [3, 7, 12, 15, 19]
    counts = [sum(draw(100, 30, seed)[:50]) for seed in range(200)]
    assert 14 < sum(counts) / 200 < 16, "no half of the file is preferred"


@pytest.mark.parametrize(
    ("much", "words"),
    [
        ({"share": 1.0}, "leaves nothing"),
        ({"count": 40}, "cannot be split off"),
        ({"count": 0}, "cannot be split off"),
        ({}, "once"),
    ],
)
def test_a_split_needs_rows_on_both_sides(
    array: Path, tmp_path: Path, much: dict[str, Any], words: str
) -> None:
    with Dataset.open(array) as dataset, pytest.raises(Problem, match=words):
        split(dataset, tmp_path / "t.json", tmp_path / "v.json", **much)
    assert not (tmp_path / "t.json").exists()


def test_a_torn_array_is_not_dealt_out(tmp_path: Path) -> None:
    path = tmp_path / "torn.json"
    path.write_text(json.dumps(ROWS)[:-1])
    with Dataset.open(path) as dataset, pytest.raises(Problem, match="not right JSON"):
        split(dataset, tmp_path / "t.json", tmp_path / "v.json", count=3)


# -- the verbs ----------------------------------------------------------------


def test_verbs(array: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, val, some = (str(tmp_path / name) for name in ("t.json", "v.json", "s.jsonl"))
    verb = ["data", "split", str(array), "--count", "4", "--seed", "3", "-o", train, val]
    assert main([*verb, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {
        "train": train,
        "validation": val,
        "train_rows": 36,
        "validation_rows": 4,
        "seed": 3,
    }
    assert main(verb) == 2, "nothing is overwritten unasked"
    assert "exists already" in capsys.readouterr().err
    assert main([*verb, "--force"]) == 0
    assert "36 rows for training" in capsys.readouterr().out

    assert main(["data", "export", str(array), "--rows", "2,38:", "-o", some]) == 0
    assert "3 rows written" in capsys.readouterr().out
    assert read(Path(some)) == [ROWS[2], *ROWS[38:]]
    find = ["data", "export", str(array), "--find", "^问1.$", "--regex", "--rows", ":15"]
    assert main([*find, "-o", some, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": 5, "out": some}
    assert read(Path(some)) == ROWS[10:15]
    assert main([*find[:-2], "-o", str(tmp_path / "n.jsonl"), "--find", "没有"]) == 1
    assert "No row was chosen" in capsys.readouterr().err
    assert main(["data", "export", str(array), "--rows", "x", "-o", some]) == 2
    assert "names no rows" in capsys.readouterr().err
