"""Files that are damaged, huge, strange, or change while they are open."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.dataset.editing.replace import replace
from engine.dataset.reader import Dataset
from engine.errors import Problem

ROW = {"instruction": "你是谁", "input": "", "output": "x" * 200}
LINE = (json.dumps(ROW, ensure_ascii=False) + "\n").encode()


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parquet(path: Path, rows: int = 5000) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [f"{number:08}" * 20 for number in range(rows)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=500, compression="none")
    return path


def arrow(path: Path, kind: str) -> Path:
    import pyarrow as pa

    table = pa.table({"text": [f"{number:08}" * 20 for number in range(5000)]})
    new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with new(path, table.schema) as sink:
        sink.write_table(table, max_chunksize=100)
    return path


# -- a file that changes ------------------------------------------------------


def make(folder: Path, kind: str) -> Path:
    if kind == "parquet":
        return parquet(folder / "a.parquet")
    if kind.startswith("arrow"):
        return arrow(folder / "a.arrow", kind.split()[1])
    content = {
        "json": b"[" + b",\n".join([LINE.strip()] * 20_000) + b"]",
        "jsonl": LINE * 20_000,
        "csv": b"a,b\n" + b"x,yyyyyyyyyyyyyyyyy\n" * 200_000,
        "text": b"a line\n" * 200_000,
        "gz": gzip.compress(os.urandom(2_000_000).hex("\n", 32).encode()),
    }[kind]
    name = {"text": "a.txt", "gz": "a.txt.gz"}.get(kind, f"a.{kind}")
    return write(folder / name, content)


ALL = ["json", "jsonl", "csv", "text", "gz", "parquet", "arrow file", "arrow stream"]


@pytest.mark.parametrize("kind", ALL)
def test_a_file_that_is_cut_short_while_it_is_open(tmp_path, kind):
    path = make(tmp_path, kind)
    with Dataset.open(path) as dataset:
        assert not dataset.changed()
        os.truncate(path, path.stat().st_size // 2)
        assert dataset.changed()
        with pytest.raises(Problem, match="changed since it was opened") as caught:
            dataset.index()
            dataset.page(dataset.known - 1, 1)
        assert caught.value.todo


def test_a_file_that_grows_while_it_is_open(tmp_path):
    path = write(tmp_path / "a.jsonl", LINE * 20_000)
    with Dataset.open(path) as dataset:
        with path.open("ab") as file:
            file.write(LINE)
        assert dataset.changed()
        with pytest.raises(Problem, match="changed since it was opened"):
            dataset.page(10_000, 50)
    with Dataset.open(path) as dataset:
        assert dataset.index() == 20_001


def test_a_file_that_is_written_over_with_the_same_length(tmp_path):
    path = write(tmp_path / "a.jsonl", LINE * 100)
    with Dataset.open(path) as dataset:
        write(path, b"#" * len(LINE) * 100)
        with pytest.raises(Problem, match="changed since it was opened"):
            dataset.page(50, 5)


def test_a_file_that_is_replaced_stays_readable_as_it_was(tmp_path):
    path = write(tmp_path / "a.jsonl", LINE * 100)
    with Dataset.open(path) as dataset:
        write(tmp_path / "new", b"{}\n").replace(path)
        assert dataset.changed()
        assert dataset.row(99) == ROW
        path.unlink()
        assert dataset.changed()
        assert dataset.index() == 100


# -- a file that is cut off or damaged ----------------------------------------


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_compressed_file_that_is_cut_off(tmp_path, kind):
    import zstandard

    text = b"".join(
        json.dumps({"text": os.urandom(40).hex()}).encode() + b"\n" for _ in range(5000)
    )
    packed = gzip.compress(text) if kind == "gz" else zstandard.ZstdCompressor().compress(text)
    path = write(tmp_path / f"a.jsonl.{kind}", packed[: len(packed) * 2 // 3])
    with Dataset.open(path) as dataset:
        rows = list(dataset.records())
        assert len(rows) > 1000
        assert all(row.problem is None for row in rows[:-1])
        ((row, reason),) = dataset.faults()
        assert row == len(rows) - 1
        assert reason.startswith(f"line {len(rows)}, ") and "cut off" in reason


def test_an_array_whose_compressed_file_is_cut_off(tmp_path):
    """What is broken is the file, not the place in the text where that shows."""
    packed = gzip.compress(json.dumps([{"text": os.urandom(40).hex()}] * 500).encode())
    path = write(tmp_path / "a.json.gz", packed[:-30])
    with Dataset.open(path) as dataset:
        dataset.index()
        said = dataset.unreadable("line 1, column 9: a string that is not closed")
    assert "compressed file is damaged or cut off" in said.why and "Copy it again" in said.todo
    with pytest.raises(Problem) as caught:
        replace(path, "text", "word", out=tmp_path / "b.json")
    assert caught.value.lines() == said.lines()


def test_a_compressed_file_that_is_nothing_but_its_beginning(tmp_path):
    for name, content in (
        ("a.json.gz", gzip.compress(LINE)[:10]),
        ("b.json.zst", b"\x28\xb5\x2f\xfd"),
    ):
        with pytest.raises(Problem) as caught:
            Dataset.open(write(tmp_path / name, content))
        assert "Copy it again" in caught.value.todo or "empty" in caught.value.why


def test_a_parquet_file_that_is_cut_off(tmp_path):
    path = parquet(tmp_path / "a.parquet")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(Problem) as caught:
        Dataset.open(path)
    assert "damaged or cut off" in caught.value.why


def test_a_parquet_file_with_a_damaged_page_opens_before_it(tmp_path):
    path = parquet(tmp_path / "a.parquet")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = os.urandom(4000)
    with Dataset.open(write(path, bytes(content))) as dataset:
        assert dataset.rows == 5000
        assert dataset.row(10)["text"].startswith("00000010")
        # The text itself has no checksum: what is read is an error, or rows of the right kind.
        try:
            rows = list(dataset.records())
        except Problem as problem:
            assert "damaged" in problem.why
        else:
            assert len(rows) == 5000


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_an_arrow_file_that_is_cut_off_opens_as_far_as_it_goes(tmp_path, kind):
    path = arrow(tmp_path / "a.arrow", kind)
    os.truncate(path, path.stat().st_size // 2)
    with Dataset.open(path) as dataset:
        count = dataset.index()
        assert 1000 < count < 4000 and count % 100 == 0
        assert dataset.row(count - 1)["text"].startswith(f"{count - 1:08}")
        assert dataset.faults() == [
            (count - 1, f"the file is damaged or cut off behind row {count - 1}")
        ]


@pytest.mark.parametrize("seed", range(40))
def test_an_arrow_file_with_any_damage_never_crashes(tmp_path, seed):
    import random

    random_ = random.Random(seed)
    content = bytearray(
        arrow(tmp_path / "a.arrow", random_.choice(["file", "stream"])).read_bytes()
    )
    for _count in range(20):
        content[random_.randrange(len(content))] = random_.randrange(256)
    try:
        with Dataset.open(write(tmp_path / "b.arrow", bytes(content))) as dataset:
            for row in dataset.records():
                assert row.value is None or isinstance(row.value, dict)
    except Problem as problem:
        assert problem.todo


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.json", b"", "empty"),
        ("a.csv", b"", "empty"),
        ("a.txt", b"", "empty"),
        ("a.parquet", b"PAR1PAR1", "damaged"),
        ("a.arrow", b"ARROW1\0\0", "damaged"),
        ("a.arrow", b"\xff\xff\xff\xff\0\0", "damaged"),
        ("a.json", os.urandom(4096) + b"\x00\x01\x02" * 500, "no text"),
        ("a.csv", "a,b\n你,好\n".encode("utf-16"), "UTF-16"),
        ("a.csv", "instruction,output\n你,好\n".encode("utf-16-le"), "UTF-16"),
        ("a.csv", ("问题,回答\n" + "你是谁,我是书生\n" * 9).encode("gb18030"), "GBK"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_remedy(tmp_path, name, content, why):
    with pytest.raises(Problem) as caught:
        Dataset.open(write(tmp_path / name, content))
    assert why in caught.value.why
    assert caught.value.todo and caught.value.status == 2
    if why in ("UTF-16", "GBK"):
        assert "iconv -f" in caught.value.todo


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*_arguments, **_more):
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path / "a.jsonl", LINE)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Problem) as caught:
        Dataset.open(path)
    assert caught.value.why == "Permission denied" and "permissions" in caught.value.todo


def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch):
    path = parquet(tmp_path / "a.parquet", 10)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Problem) as caught:
        Dataset.open(path)
    assert "pip install pyarrow" in caught.value.todo


# -- strange rows -------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_strange_rows_are_flagged_or_shown_and_the_others_open(tmp_path, name):
    bomb = "[" * 200_000 + "]" * 200_000
    strange = {
        f'{{"a": {bomb}}}': "nested too deep",
        '{"a": 1, "b": 2, "a": 3}': "the name 'a' is given twice",
        '{"a": {"b": [{"c": 1, "c": 1}]}}': "the name 'c' is given twice",
        '{"a": ' + "9" * 5000 + "}": "digits",
        '{"a": "\\ud83d"}': None,
        '{"a": NaN, "b": -Infinity}': None,
        '{"a": {"b": 1}}': None,
        '{"a": ["b"]}': None,
    }
    good = '{"a": "x"}'
    rows = [row for broken in strange for row in (broken, good)]
    text = "[" + ",\n".join(rows) + "]" if name == "a.json" else "\n".join(rows)
    with Dataset.open(write(tmp_path / name, text)) as dataset:
        found = dataset.page(0, 99)
        assert [row.value for row in found[1::2]] == [{"a": "x"}] * len(strange)
        for number, (row, reason) in enumerate(zip(found[::2], strange.values(), strict=True)):
            assert (row.problem is None) == (reason is None), row
            assert row.line == 2 * number + 1
            assert reason is None or reason in row.problem
        assert dataset.faults() == []


READ_A_HUGE_ROW = """
import sys
from engine.dataset.editing.replace import replace
from engine.dataset.reader import Dataset
with Dataset.open(sys.argv[1]) as dataset:
    print([row.problem or row.value["a"] for row in dataset.page(0, 9)], dataset.index())
    print([row.line for row in dataset.records()], dataset.shape == "")
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(peak.split()[1])
"""


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_a_row_of_200_megabytes_is_flagged_in_little_memory(tmp_path, name):
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(b'[{"a": 1},\n{"a": "' if name == "a.json" else b'{"a": 1}\n{"a": "')
        for _count in range(200):
            file.write(b"x" * (1 << 20))
        file.write(b'"},\n{"a": 3}]' if name == "a.json" else b'"}\n{"a": 3}\n')
    done = subprocess.run(
        [sys.executable, "-c", READ_A_HUGE_ROW, path], capture_output=True, text=True, check=True
    )
    path.unlink()
    rows, more, peak = done.stdout.splitlines()
    assert "line 2, column 1: the row is longer than 16 MB" in rows and rows.endswith("3] 3")
    assert more.startswith("[1, 2, 3]")
    assert int(peak) < 150_000  # kB


def test_a_text_of_many_megabytes_between_the_brackets(tmp_path):
    """A row that is no object, over many of the scanner's pieces."""
    rows = ["[{" * 1_500_000 + '\\"', 12345, "y"]
    with Dataset.open(write(tmp_path / "a.json", json.dumps(rows))) as dataset:
        assert [row.value["text"] for row in dataset.records()] == rows
        assert dataset.faults() == []
