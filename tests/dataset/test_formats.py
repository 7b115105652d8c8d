"""Every format gives the rows that the datasets library, and so XTuner, gets of it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from engine.dataset import named
from engine.dataset.files import offsets
from engine.dataset.files.delimited import _MISSING
from engine.dataset.reader import Dataset
from engine.errors import Problem
from engine.settings import Settings

ROWS = [
    {"instruction": f"你是谁 {index}", "input": "x", "output": 'a "q", b\n\\ \t' + "好" * index}
    for index in range(60)
]
CSV = {
    "plain": "a,b\n1,x\n2,y\n",
    "line breaks in quotes": 'a,b\n1,"x\ny"\r\n2,"""q"", z"\r\n',
    "quotes inside bare cells": 'a,b\n5" disk,x\n"a"b"c,y\nd""e,"f""g"\n',
    "blank lines": "a,b\n\n1,x\n\n  \n\t\n2,y\n\n",
    "one column": 'a\nx\n\n""\ny\n',
    "no value": "a,b,c\nNA,x,\n3,None,\n4.5,null,\n",
    "whole numbers with holes": "a,b\n1,x\n,y\n",
    "truth": "a,b,c\nTrue,x,TRUE\nfalse,y,\n",
    "numbers": "a,b,c,d\n1e5,inf, 7 ,007\n2,-Infinity,8,-1\n",
    "numbers and texts": "a,b\n1.50,1_000\nfoo,2\n",
    "numbers in quotes": 'a,b\n"1","NA"\n"2","x"\n',
    "names twice and none": "a,a,,a.1\n1,x,3,4\n2,y,4,5\n",
    "byte order mark": "\ufeffa,b\n1,x\n",
    "semicolons": 'a;b\n1;"x;y"\n2,5;z\n',
    "carriage returns": "a,b\r1,x\r2,y\r",
    "no line break at the end": "a,b\n1,x\n2,y",
    "dates stay texts": "a,b\n2020-01-01,x\n2020-01-02,y\n",
}
TEXT = {
    "lines": "x\n\ny  \n你好",
    "all line breaks": "x\r\ny\rz\n\r\n\rw",
    "odd spaces": "a\x0cb\u2028c\x85d\n",
    "byte order mark": "\ufeffx\n",
}


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_csv(rows, delimiter=",") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, list[Path]]:
    """Files of every format, by what is special about them."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import zstandard

    folder = tmp_path_factory.mktemp("formats")
    table = pa.Table.from_pylist([row | {"n": n, "list": [n] * 3} for n, row in enumerate(ROWS)])
    found = {
        "json": [write(folder / "array [1]*.json", json.dumps(ROWS, indent=2))],
        "json with a mark": [write(folder / "mark.json", "\ufeff" + json.dumps(ROWS))],
        "json of texts": [write(folder / "texts.json", json.dumps(["你好", "x\ny"]))],
        "jsonl": [write(folder / "a.jsonl", lines(ROWS))],
        "jsonl with a mark": [write(folder / "mark.jsonl", "\ufeff" + lines(ROWS))],
        "jsonl.gz": [write(folder / "b.jsonl.gz", gzip.compress(lines(ROWS).encode()))],
        "jsonl.zst": [
            write(folder / "c.jsonl.zst", zstandard.ZstdCompressor().compress(lines(ROWS).encode()))
        ],
        "json.gz": [write(folder / "d.json.gz", gzip.compress(json.dumps(ROWS).encode()))],
        "csv.gz": [write(folder / "e.csv.gz", gzip.compress(as_csv(ROWS).encode()))],
        "tsv": [write(folder / "f.tsv", as_csv(ROWS, "\t"))],
        "mixed types of a column": [
            write(folder / "mixed.jsonl", '{"a": {"b": 1}}\n{"a": [1]}\n{"a": "x"}\n')
        ],
        "several files": [
            write(folder / f"part{number}.jsonl", lines(ROWS[number::3])) for number in range(3)
        ],
        "parquet": [folder / "g.parquet"],
        "arrow file": [folder / "h.arrow"],
        "arrow stream": [folder / "i.arrow"],
        "arrow with dictionaries": [folder / "j.arrow"],
    }
    found |= {
        f"csv: {name}": [write(folder / f"csv{number}.csv", content)]
        for number, (name, content) in enumerate(CSV.items())
    }
    found |= {
        f"text: {name}": [write(folder / f"text{number}.txt", content)]
        for number, (name, content) in enumerate(TEXT.items())
    }
    pq.write_table(table, folder / "g.parquet", row_group_size=25)
    with pa.ipc.new_file(folder / "h.arrow", table.schema) as sink:
        sink.write_table(table, max_chunksize=7)
    with pa.ipc.new_stream(folder / "i.arrow", table.schema) as sink:
        sink.write_table(table, max_chunksize=11)
    coded = pa.table({"a": pa.array(["x", "y", "x"] * 5).dictionary_encode(), "b": range(15)})
    with pa.ipc.new_file(folder / "j.arrow", coded.schema) as sink:
        sink.write_table(coded, max_chunksize=4)
    saved(folder / "disk", table, shards=3)
    saved(folder / "dict" / "train", table.slice(0, 10), shards=1)
    saved(folder / "dict" / "test", table, shards=1)
    write(folder / "dict" / "dataset_dict.json", '{"splits": ["train", "test"]}')
    return found | {"save_to_disk": [folder / "disk"], "DatasetDict": [folder / "dict"]}


def saved(folder: Path, table, shards: int) -> None:
    """What `Dataset.save_to_disk` writes (which the slow test reads back with the library)."""
    import pyarrow as pa

    folder.mkdir(parents=True)
    names = [f"data-{number:05}-of-{shards:05}.arrow" for number in range(shards)]
    each = -(-len(table) // shards)
    for number, name in enumerate(names):
        with pa.ipc.new_stream(folder / name, table.schema) as sink:
            sink.write_table(table.slice(number * each, each), max_chunksize=6)
    state = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": "0123456789abcdef",
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    write(folder / "state.json", json.dumps(state))
    write(folder / "dataset_info.json", "{}")


def ours(paths: list[Path]) -> tuple[list, dict]:
    with Dataset.open(paths if len(paths) > 1 else paths[0]) as dataset:
        rows = list(dataset.records())
        assert [row.problem for row in rows] == [None] * len(rows)
        assert [row.index for row in rows] == list(range(len(rows)))
        assert dataset.rows == dataset.index() == len(rows)
        assert dataset.faults() == []
        for index in random.Random(1).sample(range(len(rows)), min(8, len(rows))):
            assert dataset.row(index) == rows[index].value
            assert dataset.line(index) == rows[index].line
            assert dataset.file(index) == rows[index].path
        assert set(dataset.columns()) >= set(rows[0].value)
        return [row.value for row in rows], dataset.load_args()


REFUSED = {
    "names twice.jsonl": '{"a": 1, "a": 2}\n{"a": 3}\n',
    "spaces before.json": '\n [{"a": 1}]',
    "nested too deep.json": '[{"a": ' + "[" * 3000 + "]" * 3000 + "}]",
    "a comma too few.jsonl": '{"a": 1}\n{"a" 2}\n',
    "no utf8.csv": b"a,b\n1,\xff\n",
    "a cell too many.csv": "a,b\n1,2\n2,y,3\n",
    "not closed.csv": 'a,b\n1,"x\n2,y\n',
    "text behind numbers.csv": "a,b\n" + "1,x\n" * 10_001 + "foo,y\n",
    "cut off.jsonl.gz": gzip.compress(random.Random(1).randbytes(9999).hex().encode())[:5000],
}
"""Files that the library cannot read."""


def flagged(path: Path) -> bool:
    """Whether we say that something is wrong."""
    with Dataset.open(path) as dataset:
        rows = list(dataset.records())
        return bool(any(row.problem for row in rows) or dataset.faults() or dataset.notes)


@pytest.mark.slow
def test_what_datasets_makes_of_the_same_files(made, tmp_path):
    """The same rows; and what it refuses is flagged. One process for all: its import is slow."""
    mine = {name: ours(paths) for name, paths in made.items()}
    asked = [arguments for _rows, arguments in mine.values()]
    for name, content in REFUSED.items():
        path = write(tmp_path / name, content)
        assert flagged(path), name
        with Dataset.open(path) as dataset:
            asked.append(dataset.load_args())
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("datasets_says.py")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = iter(json.loads(done.stdout))
    for name, (rows, _arguments) in mine.items():
        assert next(answers) == {"rows": json.loads(json.dumps(rows))}, name
    for name in REFUSED:
        assert "error" in next(answers), name


def test_every_format_opens(made):
    for name, paths in made.items():
        rows, _arguments = ours(paths)
        assert rows, name


def test_what_is_said_of_a_format(made):
    def about(name):
        with Dataset.open(made[name] if len(made[name]) > 1 else made[name][0]) as dataset:
            return dataset.format, dataset.compression, dataset.line(1)

    assert about("json") == ("json", "", 7)
    assert about("jsonl.zst") == ("jsonl", "zst", 2)
    assert about("json.gz") == ("json", "gz", 1)
    assert about("csv.gz") == ("csv", "gz", 4)
    assert about("tsv") == ("tsv", "", 4)
    assert about("text: lines") == ("text", "", 2)
    assert about("parquet") == ("parquet", "", None)
    assert about("arrow stream") == ("arrow", "", None)
    assert about("save_to_disk") == ("disk", "", None)


def test_a_dataset_dict_opens_its_train_split_and_says_so(made):
    with Dataset.open(made["DatasetDict"][0]) as dataset:
        assert dataset.index() == 10
        assert any("train" in note for note in dataset.notes)
        assert any("test" in note for note in dataset.notes)
        assert dataset.load_args()["dataset_path"].endswith("dict/train")


def test_several_files_are_numbered_through(made):
    paths = made["several files"]
    with Dataset.open(paths) as dataset:
        expected = [row for number in range(3) for row in ROWS[number::3]]
        assert dataset.rows is None or dataset.rows == len(ROWS)
        assert dataset.row(len(ROWS) - 1) == expected[-1]
        assert dataset.paths == paths
        assert (dataset.file(20), dataset.line(20)) == (paths[1], 1)
        page = dataset.page(18, 4)
        assert [(row.index, row.line, row.path.name) for row in page] == [
            (18, 19, "part0.jsonl"),
            (19, 20, "part0.jsonl"),
            (20, 1, "part1.jsonl"),
            (21, 2, "part1.jsonl"),
        ]
        assert json.loads(dataset.raw(20)) == expected[20]
        assert [json.loads(span) for _row, span in dataset.spans()] == expected
        seen = []
        dataset.index(lambda done, total: seen.append((done, total)))
        with pytest.raises(Problem, match="not one file"):
            dataset.head()


def test_a_broken_row_of_several_files_names_its_file(tmp_path):
    good = write(tmp_path / "a.jsonl", lines(ROWS[:2]))
    bad = write(tmp_path / "b.jsonl", '{"a": 1}\n{"a" 2}\n')
    with Dataset.open([good, bad]) as dataset:
        (row,) = [row for row in dataset.records() if row.problem]
        assert (row.index, row.line, row.path) == (3, 2, bad)
        assert row.problem.startswith("b.jsonl, line 2, column 6: a colon is missing")


def test_more_files_than_a_process_may_open_at_first(tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    paths = [write(tmp_path / f"{number:04}.jsonl", lines(ROWS[:2])) for number in range(300)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        with Dataset.open(paths) as dataset:
            assert dataset.index() == 600
            assert dataset.row(599) == ROWS[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# -- folders ------------------------------------------------------------------


def test_a_folder_opens_as_its_files_of_one_format(tmp_path):
    for name in ("b.jsonl", "a.jsonl", ".hidden.jsonl", "c.jsonl.gz"):
        content = lines([{"text": name}]).encode()
        write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    write(tmp_path / "README.md", "# data")
    write(tmp_path / "requirements.txt", "x")
    with Dataset.open(tmp_path) as dataset:
        assert [row.value["text"] for row in dataset.records()] == [
            "a.jsonl",
            "b.jsonl",
            "c.jsonl.gz",
        ]
        assert "3 files" in dataset.notes[0]


def test_a_folder_whose_files_lie_deeper(tmp_path):
    (tmp_path / "data" / ".cache").mkdir(parents=True)
    write(tmp_path / "data" / "a.csv", "a,b\nx,y\n")
    write(tmp_path / "data" / ".cache" / "b.csv", "a,b\nz,y\n")
    with Dataset.open(tmp_path) as dataset:
        assert [row.value for row in dataset.records()] == [{"a": "x", "b": "y"}]


def test_folders_that_cannot_be_opened(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "both").mkdir()
    write(tmp_path / "both" / "a.csv", "a\nx\n")
    write(tmp_path / "both" / "b.jsonl", "{}\n")
    (tmp_path / "torn").mkdir()
    write(tmp_path / "torn" / "state.json", "{")
    (tmp_path / "split").mkdir()
    write(tmp_path / "split" / "dataset_dict.json", '{"splits": ["train"]}')
    for name, why in (
        ("empty", "without dataset files"),
        ("both", "1 csv, 1 json"),
        ("torn", "state.json"),
        ("split", "train/state.json"),
    ):
        with pytest.raises(Problem) as caught:
            Dataset.open(tmp_path / name)
        assert why in caught.value.why
        assert caught.value.todo and caught.value.status == 2


def test_files_of_different_formats_are_not_joined(tmp_path):
    first, second = write(tmp_path / "a.csv", "a\nx\n"), write(tmp_path / "b.jsonl", "{}\n")
    with Dataset.open(first) as dataset:
        assert dataset.index() == 1
    with pytest.raises(Problem, match="another format"):
        Dataset.open([first, second])


def test_a_file_whose_name_is_mistyped_is_not_looked_for_on_a_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("data/gone", "other/gone.csv"):
        assert named.files([name], settings=Settings()) == Path(name)
        with pytest.raises(Problem, match="Cannot read") as caught:
            Dataset.open(name)
        assert "no such file" in caught.value.why


# -- CSV ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(150))
def test_csv_rows_begin_where_python_says(tmp_path, monkeypatch, seed):
    """Any mess of quotes and line breaks, looked at in pieces of any size."""
    random_ = random.Random(seed)
    monkeypatch.setattr(offsets, "CHUNK", random_.choice([1, 2, 3, 5, 64, 1000]))
    pieces = ['"', '"', ",", ",", "\n", "\r\n", "a", "尖", '""', '"b"', "\r", '","']
    text = "a,b\nx,y\n" + "".join(random_.choices(pieces, k=random_.randrange(60)))
    records = [cells for cells in csv.reader(io.StringIO(text, newline="")) if cells]
    with Dataset.open(write(tmp_path / "a.csv", text)) as dataset:
        rows = list(dataset.records())
        assert len(rows) == len(records) - 1
        for row, cells in zip(rows, records[1:], strict=True):
            if row.problem is None:
                assert list(row.value.values()) == [
                    None if cell in _MISSING else cell for cell in cells
                ]
            else:
                assert len(cells) != 2 or (row is rows[-1] and "not closed" in row.problem)
        whole = dataset.head() + b"".join(span for _row, span in dataset.spans()) + dataset.tail()
        assert whole == text.encode()


def test_csv_rows_with_a_wrong_number_of_cells_are_flagged(tmp_path):
    path = write(tmp_path / "a.csv", 'a,b\n1,x\n2\n3,"y\n",z\n4,w\n')
    with Dataset.open(path) as dataset:
        rows = dataset.page(0, 9)
        assert [row.value for row in rows] == [
            {"a": 1, "b": "x"},
            None,
            None,
            {"a": 4, "b": "w"},
        ]
        assert rows[1].problem == "line 3, column 1: 1 cells, where the header has 2"
        assert rows[2].problem.startswith("line 4, column 1: 3 cells")
        assert [row.line for row in rows] == [2, 3, 4, 6]
        with pytest.raises(Problem, match="broken row"):
            dataset.row(1)


def test_a_text_behind_ten_thousand_numbers_is_flagged(tmp_path):
    path = write(tmp_path / "a.csv", "a,b\n" + "1,x\n" * 10_000 + "2,y\nfoo,z\n")
    with Dataset.open(path) as dataset:
        assert dataset.row(10_000) == {"a": 2, "b": "y"}
        assert "'a' is a text here" in dataset.page(10_001, 1)[0].problem


def test_a_quoted_cell_that_is_never_closed(tmp_path):
    path = write(tmp_path / "a.csv", 'a,b\n1,x\n2,"y\n3,z\n')
    with Dataset.open(path) as dataset:
        rows = dataset.page(0, 9)
        assert [row.problem is None for row in rows] == [True, False]
        assert "not closed" in rows[1].problem
        assert dataset.faults() == [(1, "line 3, column 3: a quoted cell that is not closed")]


# -- compressed text ----------------------------------------------------------


def test_a_compressed_file_is_unpacked_as_far_as_asked(tmp_path):
    row = json.dumps({"instruction": "x" * 900, "input": "", "output": "y"}) + "\n"
    packed = gzip.compress((row * 20_000).encode(), 1)
    with Dataset.open(write(tmp_path / "a.jsonl.gz", packed)) as dataset:
        text = dataset._parts[0].source
        assert len(dataset.page(0, 50)) == 50
        assert text._length < 4 << 20
        seen = []
        assert dataset.index(lambda done, total: seen.append((done, total))) == 20_000
        assert seen == sorted(seen)
        assert all(done <= total == dataset.size == len(packed) for done, total in seen)


def test_a_gzip_file_of_several_members(tmp_path):
    packed = b"".join(gzip.compress(lines([row]).encode()) for row in ROWS)
    with Dataset.open(write(tmp_path / "a.jsonl.gz", packed)) as dataset:
        assert [row.value for row in dataset.records()] == ROWS


def test_no_room_to_unpack_is_said(tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    path = write(tmp_path / "a.jsonl.gz", gzip.compress(lines(ROWS).encode()))
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Problem, match="No room") as caught:
        Dataset.open(path)
    assert "No space left" in caught.value.why and "TMPDIR" in caught.value.todo
