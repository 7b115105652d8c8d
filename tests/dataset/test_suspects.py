"""What is odd about a row is warned of, and told from what is broken."""

from __future__ import annotations

import json

from engine.dataset.checking import tally
from engine.dataset.checking.check import check
from engine.dataset.checking.counting import BINS, histogram
from engine.dataset.checking.suspects import Marks, look
from engine.dataset.reader import Dataset
from engine.dataset.shapes import Turn
from engine.settings import Settings

GOOD = {"instruction": "a", "input": "", "output": "b"}


def report_on(tmp_path, rows, name="data.jsonl", **options):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Dataset.open(path) as dataset:
        return check(dataset, settings=Settings(), **options)


def told(report):
    return [(warning.row, warning.field, warning.code) for warning in report.warnings]


def test_duplicates_name_the_first_row(tmp_path):
    other = GOOD | {"output": "c"}
    again = {"output": "b", "id": 7, "instruction": "a", "input": ""}  # says the same
    report = report_on(tmp_path, [GOOD, other, again, other, GOOD])
    assert told(report) == [(row, "", "duplicate") for row in (2, 3, 4)]
    assert [warning.reason.split()[-1] for warning in report.warnings] == ["0", "1", "0"]
    assert report.fine and report.good == 5 and report.broken == []


def test_empty_answers_and_odd_characters(tmp_path):
    rows = [
        GOOD | {"output": " \n"},
        GOOD | {"instruction": "bell\x07"},
        GOOD | {"output": "caf\ufffd"},
        GOOD | {"output": "\ufeffb"},
        GOOD | {"note": "\x07 no model sees this", "output": "tab\tand\nline"},
    ]
    report = report_on(tmp_path, rows)
    assert told(report) == [
        (0, "output", "empty-answer"),
        (1, "instruction", "control-character"),
        (2, "output", "damaged-character"),
        (3, "output", "damaged-character"),
    ]
    assert "U+0007" in report.warnings[1].reason
    assert report.warning_counts == {
        "control-character": 1,
        "damaged-character": 2,
        "empty-answer": 1,
    }
    assert report.warnings_total == 4


def test_the_turn_whose_answer_is_empty(tmp_path):
    turns = [{"input": "a", "output": "b"}, {"input": "", "output": ""}]
    report = report_on(tmp_path, [{"conversation": turns}])
    assert told(report) == [(0, "conversation[1].output", "empty-answer")]
    assert "turn 1" in report.warnings[0].reason


def test_a_column_that_holds_two_kinds(tmp_path):
    notes = [1, None, 2.5, "text", ["list"]]
    report = report_on(tmp_path, [GOOD | {"output": str(n), "n": n} for n in notes])
    assert told(report) == [(3, "n", "mixed-column"), (4, "n", "mixed-column")]
    assert "in row 0" in report.warnings[0].reason


def test_marks_in_a_text():
    marks = Marks({"<|im_end|>", "</s>"}, {"[INST]"})
    turn = Turn("stop <|im_end|> here", "[INST] x", "fine < here [")
    row = {"conversation": [turn._asdict()]}
    found = [(one.field, one.code) for one in look(0, row, [turn], marks)]
    assert found == [
        ("conversation[0].input", "special-token"),
        ("conversation[0].output", "template-mark"),
    ]


def test_lists_are_bounded_and_totals_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(tally, "LISTED", 3)
    monkeypatch.setattr(tally, "LISTED_OF_A_KIND", 2)
    rows = [GOOD] * 9 + [GOOD | {"output": None}] * 7 + [GOOD | {"output": "", "input": "x"}]
    report = report_on(tmp_path, rows)
    assert (len(report.broken), report.broken_total, report.broken_rows) == (3, 7, 7)
    assert report.warning_counts == {"duplicate": 8, "empty-answer": 1}
    assert [one[2] for one in told(report)] == ["duplicate", "duplicate", "empty-answer"]
    assert report.good == 10
    assert report.duplicates == list(range(1, 9)), "their numbers are all there"


def test_every_row_is_in_one_bin():
    import numpy as np

    tokens = np.array([1, 31, 32, 500, 70_000], dtype=np.uint32)
    bins = histogram(tokens)
    assert [(one["low"], one["rows"]) for one in bins if one["rows"]] == [
        (0, 2),
        (32, 1),
        (256, 1),
        (65536, 1),
    ]
    assert bins[-1]["high"] is None and len(bins) == len(BINS)
    assert histogram(tokens[:2]) == [{"low": 0, "high": 32, "rows": 2}]


def test_the_second_check_is_the_first_one_kept(tmp_path):
    cache = tmp_path / "cache"
    first = report_on(tmp_path, [GOOD, GOOD], cache=cache)
    second = report_on(tmp_path, [GOOD, GOOD], cache=cache)
    assert not first.cached
    changed = report_on(tmp_path, [GOOD, GOOD | {"output": "c"}], cache=cache)
    assert (len(first.warnings), len(changed.warnings)) == (1, 0)
    path = tmp_path / "data.jsonl"
    with Dataset.open(path) as dataset:
        again = check(dataset, settings=Settings(), cache=cache)
    assert again.cached and not changed.cached
    assert again.rows == changed.rows and second.rows == 2
