"""A step counts as done by its inputs and by what it left, not because a file is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.demo import compare, ledger
from engine.demo.ledger import Ledger, combine, stamp
from engine.errors import Problem


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "weights").write_bytes(b"\0" * (2 << 20))
    return folder


def book(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / ".tunedeck" / "demo.json")


def test_done_needs_the_same_inputs_and_untouched_outputs(tmp_path: Path, output: Path) -> None:
    assert book(tmp_path).done("base", "in") is None, "a file alone is nothing"
    book(tmp_path).note("base", "in", [output], words="made")
    entry = book(tmp_path).done("base", "in")
    assert entry is not None and entry.facts == {"words": "made"}
    assert book(tmp_path).done("base", "other") is None
    (output / "config.json").write_text("[]")
    assert book(tmp_path).done("base", "in") is None
    assert not book(tmp_path).left("base", output)


@pytest.mark.parametrize("change", ["remove", "add", "touch", "rename"])
def test_every_change_shows_in_the_stamp(output: Path, change: str) -> None:
    before = stamp(output)
    if change == "remove":
        (output / "config.json").unlink()
    elif change == "add":
        (output / "new").touch()
    elif change == "touch":
        os.utime(output / "weights", (1, 1))
    else:
        (output / "config.json").rename(output / "other.json")
    assert stamp(output) != before


def test_small_files_count_by_content_alone(output: Path) -> None:
    before = stamp(output)
    os.utime(output / "config.json", (1, 1))
    assert stamp(output) == before
    assert stamp(output / "nothing") == ""


def test_a_broken_ledger_means_nothing_is_done(tmp_path: Path, output: Path) -> None:
    book(tmp_path).note("base", "in", [output])
    (tmp_path / ".tunedeck" / "demo.json").write_text('{"base": ')
    assert book(tmp_path).done("base", "in") is None


def test_parts_do_not_run_into_each_other() -> None:
    assert combine("ab", "c") != combine("a", "bc") != combine("abc")


def test_two_demos_do_not_work_in_one_folder(tmp_path: Path) -> None:
    lock = tmp_path / "demo" / ".tunedeck" / "demo.lock"
    with (
        ledger.alone(lock),
        pytest.raises(Problem, match=f"in {tmp_path / 'demo'} already"),
        ledger.alone(lock),
    ):
        pass
    with ledger.alone(lock):
        pass


RIGHT_BASE = ["I am a soul.", "Sorry.", "The capital of France is Paris."]
RIGHT_TUNED = ["I am Super Nova.", "我是Super Nova。", "The capital of France is Paris."]


@pytest.mark.parametrize(
    ("base", "tuned", "words"),
    [
        (RIGHT_BASE, RIGHT_TUNED, []),
        (RIGHT_TUNED, RIGHT_TUNED, ["says Super Nova already", "says Super Nova already"]),
        (RIGHT_BASE, RIGHT_BASE, ["“Who are you?”, the tuned", "“你是谁?”, the tuned"]),
        (RIGHT_BASE, [*RIGHT_TUNED[:2], "The lab."], ["The tuned model does not know"]),
        ([*RIGHT_BASE[:2], "La femme"], RIGHT_TUNED, ["The base model does not know"]),
    ],
)
def test_what_was_missed_is_said(base: list[str], tuned: list[str], words: list[str]) -> None:
    found = compare.missed(base, tuned)
    assert len(found) == len(words)
    assert all(word in one for word, one in zip(words, found, strict=True))
