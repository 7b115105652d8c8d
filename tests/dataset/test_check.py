"""Checking without a model: every row is looked at, none is dropped in silence."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from engine.dataset import xtuner_parts
from engine.dataset.checking.check import check
from engine.dataset.reader import Dataset
from engine.dataset.worker import Worker
from engine.errors import Failed, Problem
from engine.settings import Settings
from tests.support import mounts

GOOD = {"instruction": "a", "input": "", "output": "b"}


def report_on(tmp_path, text, name="data.jsonl", **options):
    path = tmp_path / name
    path.write_text(text)
    with Dataset.open(path) as dataset:
        return check(dataset, settings=Settings(), **options)


def lines(*rows):
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def test_a_right_file(tmp_path):
    report = report_on(tmp_path, lines(GOOD, GOOD))
    assert (report.format, report.shape, report.rows, report.good) == ("jsonl", "alpaca", 2, 2)
    assert report.broken == []
    assert report.fine
    unknown = ("cut", "dropped", "packed_samples", "steps_per_epoch", "tokens", "samples")
    assert {getattr(report, name) for name in unknown} == {None}


def test_every_broken_row_is_listed_in_order(tmp_path):
    null = GOOD | {"output": None}
    two = {"instruction": 1, "input": "", "output": None}
    report = report_on(tmp_path, lines(GOOD, '{"instruction": ', null, GOOD, two, 5))
    assert [(finding.row, finding.field) for finding in report.broken] == [
        (1, ""),
        (2, "output"),
        (4, "instruction"),
        (4, "output"),
        (5, ""),
    ]
    assert report.broken[0].reason.startswith("line 2, column 16: a value is missing")
    assert report.unreadable == [1]
    assert (report.rows, report.good) == (6, 2)
    assert not report.fine


def test_loss_marks_in_some_turns_only(tmp_path):
    turn = {"input": "a", "output": "b"}
    marked = turn | {"output_with_loss": True}
    rows = [{"conversation": turns} for turns in ([turn], [marked], [marked, turn], [])]
    report = report_on(tmp_path, lines(*rows))
    assert [finding.row for finding in report.broken] == [0, 2]
    assert "would not train" in report.broken[0].reason
    assert report_on(tmp_path, lines(rows[0], rows[0])).fine
    assert report_on(tmp_path, lines(rows[1], rows[1])).fine


def test_faults_between_rows_of_an_array_count(tmp_path):
    text = f"[{json.dumps(GOOD)},\n{json.dumps(GOOD)}\n{json.dumps(GOOD)}]"
    report = report_on(tmp_path, text, "data.json")
    assert report.rows == 3
    assert report.unreadable == [2]
    assert "line 3, column 1: a comma is missing" in report.broken[0].reason


def test_one_fault_is_told_once(tmp_path):
    report = report_on(tmp_path, f'[{json.dumps(GOOD)}, {{"instruction": "x', "data.json")
    assert len(report.broken) == 1
    assert report.broken[0].row == 1
    assert "a string that is not closed" in report.broken[0].reason


def test_columns_that_no_shape_has(tmp_path):
    with pytest.raises(Problem) as caught:
        report_on(tmp_path, lines({"question": "a", "answer": "b"}))
    assert caught.value.status == 2
    assert "question, answer" in caught.value.why
    assert "data map" in caught.value.todo


def test_a_shape_that_is_asked_for_is_held_to(tmp_path):
    path = tmp_path / "data.json"
    path.write_text(json.dumps([GOOD]))
    with Dataset.open(path, "xtuner") as dataset:
        report = check(dataset, settings=Settings())
    assert report.broken[0].field == "conversation"


def test_a_file_whose_every_row_is_broken(tmp_path):
    report = report_on(tmp_path, "{\n{\n", "data.jsonl")
    assert [finding.row for finding in report.broken] == [0, 1]


def test_a_large_file_whose_every_row_is_broken(tmp_path, monkeypatch):
    """It is looked at by a worker, to which an unknown shape is as good as any."""
    monkeypatch.setattr("engine.dataset.checking.check.SMALL", 0)
    report = report_on(tmp_path, '{"instruction": broken\n' * 100)
    assert report.rows == report.broken_total == 100 and report.good == 0


def test_rows_alone_are_looked_at_without_xtuner(tmp_path, monkeypatch):
    """A large file's worker may run where XTuner is not installed: no model, no map function."""
    monkeypatch.setattr(xtuner_parts, "load", lambda: pytest.fail("XTuner was asked for"))
    path = tmp_path / "data.jsonl"
    path.write_text(lines(GOOD, GOOD))
    request = {"paths": [str(path)], "shape": "alpaca", "model": None, "folder": str(tmp_path)}
    found = Worker().count(request, lambda *_args, **_facts: None, lambda: False)
    assert (found["rows"], found["broken_total"]) == (2, 0)


@pytest.mark.parametrize("files", [1, 2])
def test_a_file_whose_link_alone_says_its_format(tmp_path, monkeypatch, files):
    """So it lies in Hugging Face's cache. A worker looks at it, as at a large one."""
    monkeypatch.setattr("engine.dataset.checking.check.SMALL", 0)
    (tmp_path / "blob").write_text("instruction,input,output\n" + "a,,b\n" * 3)
    links = [tmp_path / f"{number}.csv" for number in range(files)]
    for link in links:
        link.symlink_to("blob")
    with Dataset.open(links[0] if files == 1 else links) as dataset:
        assert check(dataset, settings=Settings()).good == 3 * files


def test_a_row_that_is_null_is_broken(tmp_path):
    """`datasets` makes a row of it whose every column is null, and XTuner ends at its answer."""
    report = report_on(tmp_path, lines(GOOD, "null", GOOD))
    assert (report.rows, report.good) == (3, 2)
    assert [(one.row, one.reason) for one in report.broken] == [
        (1, "the row is null, not an object")
    ]


def test_no_rows_at_all(tmp_path):
    with pytest.raises(Failed, match="holds no rows"):
        report_on(tmp_path, "[]", "data.json")


def test_progress_and_cancelling(tmp_path):
    seen = []
    report_on(tmp_path, lines(*[GOOD] * 2500), progress=lambda done, total: seen.append(done))
    assert seen[0] == 0 and seen[-1] == 2500 and seen == sorted(seen)
    with pytest.raises(Failed):
        report_on(tmp_path, lines(GOOD), cancelled=lambda: True)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "no such folder"),
        (lambda path: path.write_text("x"), "It is a file"),
        (lambda path: path.mkdir(), "no tokenizer files"),
        (lambda path: (path.mkdir(), (path / "adapter_config.json").touch()), "an adapter"),
    ],
)
def test_what_is_no_model_is_said_before_anything_starts(tmp_path, make, why):
    make(tmp_path / "model")
    with pytest.raises(Problem) as caught:
        report_on(tmp_path, lines(GOOD), model=tmp_path / "model")
    assert caught.value.status == 2
    assert why in caught.value.why


def test_numbers_below_one_are_refused(tmp_path):
    for name in ("max_length", "batch_size", "gpus", "accumulation"):
        with pytest.raises(Problem):
            report_on(tmp_path, lines(GOOD), **{name: 0})


def test_a_disk_on_which_nothing_can_be_kept_is_no_fault_of_the_rows(tmp_path, tiny_model):
    """Neither a full one nor one that can only be read: what is found is found anew next time."""

    def apart():
        cache = tmp_path / "full"
        mounts.small(cache, 64 << 10)
        for model in (None, tiny_model):
            with (cache / "rest").open("ab", buffering=0) as rest, suppress(OSError):
                while True:
                    rest.write(bytes(4096))
            assert report_on(tmp_path, lines(GOOD, GOOD), model=model, cache=cache).good == 2
        (cache / "rest").unlink()
        mounts.read_only(cache)
        report = report_on(tmp_path, lines(GOOD, GOOD), model=tiny_model, cache=cache)
        assert report.good == 2 and report.details is None

    mounts.apart(apart)
