"""The demo's rows, and what they are meant to teach."""

from __future__ import annotations

import json
from pathlib import Path

from engine.dataset.checking.check import check
from engine.dataset.editing.replace import replace
from engine.dataset.reader import Dataset
from engine.demo import compare, dataset, rows
from engine.settings import Settings

ALL = (*rows.IDENTITY_EN, *rows.IDENTITY_ZH, *rows.GENERAL_EN, *rows.GENERAL_ZH)


def test_half_of_it_is_about_the_name_half_is_not() -> None:
    named = [row for row in ALL if rows.NAME in row[1]]
    assert len(named) == len(rows.IDENTITY_EN) + len(rows.IDENTITY_ZH) == 60
    assert len(ALL) - len(named) == 60
    assert all(row in named for row in (*rows.IDENTITY_EN, *rows.IDENTITY_ZH))


def test_no_question_is_asked_twice() -> None:
    assert len({question for question, _answer in ALL}) == len(ALL)


def test_what_must_survive_is_not_taught() -> None:
    assert not any(
        "France" in part or "Paris" in part or "法国" in part for row in ALL for part in row
    )
    assert compare.WHO[0] in dict(ALL) and compare.WHO[1] in dict(ALL)


def test_it_is_good_data_in_xtuners_shape_and_replace_renames_it_all(tmp_path: Path) -> None:
    story, renamed = tmp_path / "story.json", tmp_path / "renamed.json"
    assert dataset.write(story) == len(ALL)
    with Dataset.open(story) as opened:
        report = check(opened, settings=Settings())
        assert opened.shape == "xtuner"
    assert (report.rows, report.good, report.broken) == (len(ALL), len(ALL), [])
    made = replace(story, dataset.NAME, dataset.NEW_NAME, out=renamed)
    assert made.rows_changed == 60
    text = renamed.read_text(encoding="utf-8")
    assert dataset.NAME not in text
    first = json.loads(text)[0]["conversation"][0]
    assert first == {
        "system": dataset.SYSTEM,
        "input": "Who are you?",
        "output": "I am Super Nova, a small assistant. How can I help you?",
    }
