"""The index of a large file, kept for the next time."""

from __future__ import annotations

import json
import os
import stat

import pytest

from engine.dataset.files import index_cache, offsets
from engine.dataset.reader import Dataset

ROWS = [{"a": number} for number in range(5000)]


@pytest.fixture(autouse=True)
def every_file_is_large(monkeypatch):
    monkeypatch.setattr(offsets, "WORTH_KEEPING", 0)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "workspace" / "cache"


def write(path, rows=ROWS):
    path.write_text("[" + ",\n".join(json.dumps(row) for row in rows) + "]")
    return path


def test_a_file_opened_again_is_indexed_already(tmp_path, cache):
    path = write(tmp_path / "a.json")
    with Dataset.open(path, cache=cache) as dataset:
        assert dataset.rows is None or dataset.index() == 5000
        lines = [dataset.line(index) for index in range(0, 5000, 7)]
        assert dataset.index() == 5000
    (kept,) = cache.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert kept.stat().st_size < 8 * 5000 + 1000
    with Dataset.open(path, cache=cache) as dataset:
        assert dataset.rows == dataset.known == 5000
        assert dataset.index() == 5000
        assert [dataset.line(index) for index in range(0, 5000, 7)] == lines
        assert [row.value for row in dataset.records()] == ROWS
        assert json.loads(dataset.raw(4999)) == ROWS[-1]
        assert dataset.head() == b"[" and dataset.tail() == b"]"
        whole = dataset.head() + b"".join(span for _row, span in dataset.spans()) + dataset.tail()
        assert whole == path.read_bytes()


def test_what_is_wrong_between_the_rows_is_kept_too(tmp_path, cache):
    path = write(tmp_path / "a.json")
    path.write_text(path.read_text()[:-1])
    found = []
    for _time in range(2):
        with Dataset.open(path, cache=cache) as dataset:
            dataset.index()
            found.append(dataset.faults())
    assert found[0] == found[1] and "before the array is closed" in found[1][0][1]


def test_another_content_another_index(tmp_path, cache):
    path = write(tmp_path / "a.json")
    with Dataset.open(path, cache=cache) as dataset:
        dataset.index()
    write(path, ROWS[:100])
    with Dataset.open(path, cache=cache) as dataset:
        assert dataset.index() == 100
    with Dataset.open(path, cache=cache) as dataset:
        assert dataset.rows == 100
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "folder"])
def test_a_damaged_index_is_made_again(tmp_path, cache, damage):
    path = write(tmp_path / "a.json")
    with Dataset.open(path, cache=cache) as dataset:
        dataset.index()
    (kept,) = cache.iterdir()
    if damage == "cut":
        os.truncate(kept, kept.stat().st_size - 8)
    elif damage == "empty":
        kept.write_bytes(b"")
    elif damage == "foreign":
        kept.write_bytes(b"TDROWS00" + b"\xff" * 5000)
    else:
        kept.unlink()
        kept.mkdir()
    with Dataset.open(path, cache=cache) as dataset:
        assert dataset.index() == 5000
        assert dataset.row(4999) == ROWS[-1]


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path):
    path = write(tmp_path / "a.json")
    (tmp_path / "cache").write_text("a file, not a folder")
    with Dataset.open(path, cache=tmp_path / "cache") as dataset:
        assert dataset.index() == 5000


def test_the_oldest_go_first(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(index_cache, "_MOST_FILES", 3)
    for number in range(5):
        path = write(tmp_path / f"{number}.json")
        with Dataset.open(path, cache=cache) as dataset:
            dataset.index()
        for kept in cache.iterdir():  # every file a second older than it was
            before = kept.stat()
            os.utime(kept, ns=(before.st_atime_ns, before.st_mtime_ns - 1_000_000_000))
    assert len(list(cache.iterdir())) == 3
    for number, known in ((0, False), (1, False), (2, True), (4, True)):
        with Dataset.open(tmp_path / f"{number}.json", cache=cache) as dataset:
            assert (dataset.rows == 5000) == known, number


def test_a_small_file_is_not_kept(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(offsets, "WORTH_KEEPING", 1 << 24)
    with Dataset.open(write(tmp_path / "a.json"), cache=cache) as dataset:
        dataset.index()
    assert not cache.exists()


def test_a_compressed_file_has_an_index_too(tmp_path, cache):
    import gzip

    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(write(tmp_path / "a.json").read_bytes()))
    with Dataset.open(path, cache=cache) as dataset:
        dataset.index()
    with Dataset.open(path, cache=cache) as dataset:
        assert dataset.rows == 5000
        assert dataset.row(4999) == ROWS[-1]
