"""The config that is open: several hands edit one file, and no edit is lost. No screen needed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.settings import Settings
from tui.panes.config.opened import OpenConfig

TEXT = "lr = 2e-4  # peak\nbetas = (0.9, 0.999)\nmax_epochs = 3\nresume = False\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "助手.py"
    found.write_text(TEXT, encoding="utf-8")
    return found


@pytest.fixture
def config(path: Path) -> OpenConfig:
    return OpenConfig.read(path, Settings())


def elsewhere(path: Path, old: str, new: str) -> None:
    """Someone else edits the file."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_edits_are_undone_and_done_again_to_the_byte(config: OpenConfig, path: Path) -> None:
    one = config.edited("lr", "5e-4", path.parent)
    two = one.edited("max_epochs", "9", path.parent)
    texts = [config.source.text, one.source.text, two.source.text]
    back = two.undone().undone()
    assert path.read_text(encoding="utf-8") == texts[0] == TEXT
    again = back.redone()
    assert path.read_text(encoding="utf-8") == texts[1]
    assert again.redone().source.text == texts[2] == path.read_text(encoding="utf-8")
    assert not again.edited("betas", "(0.8, 0.9)", path.parent).future
    with pytest.raises(Problem, match="nothing to undo"):
        config.undone()
    with pytest.raises(Problem, match="nothing to do again"):
        config.redone()


def test_an_edit_meets_one_made_elsewhere_on_the_next_line(config: OpenConfig, path: Path) -> None:
    elsewhere(path, "0.999", "0.95")
    edited = config.edited("lr", "5e-4", path.parent)
    both = TEXT.replace("2e-4", "5e-4").replace("0.999", "0.95")
    assert path.read_text(encoding="utf-8") == both == edited.source.text
    assert edited.joined(config)
    assert not edited.edited("resume", "True", path.parent).joined(edited)


def test_undo_takes_back_ones_own_edit_and_leaves_the_others(
    config: OpenConfig, path: Path
) -> None:
    edited = config.edited("lr", "5e-4", path.parent)
    elsewhere(path, "max_epochs = 3", "max_epochs = 7")
    seen = edited.looked_again(Settings())
    assert seen.source.get("max_epochs") == 7 and seen.past
    undone = seen.undone()
    assert path.read_text(encoding="utf-8") == TEXT.replace("= 3", "= 7")
    undone.redone()
    assert path.read_text(encoding="utf-8") == TEXT.replace("= 3", "= 7").replace("2e-4", "5e-4")


def test_a_file_that_is_being_written_is_read_when_it_is_whole(
    config: OpenConfig, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(_seconds: float) -> None:
        path.write_text(TEXT.replace("2e-4", "1e-5"), encoding="utf-8")
        monkeypatch.setattr(time, "sleep", lambda _seconds: None)

    monkeypatch.setattr(time, "sleep", written)
    path.write_text("", encoding="utf-8")
    seen = config.looked_again(Settings())
    assert seen is config
    assert seen.looked_again(Settings()).source.get("lr") == 1e-5


def test_two_edits_of_one_value_are_shown_and_nothing_is_written(
    config: OpenConfig, path: Path
) -> None:
    elsewhere(path, "2e-4", "1e-5")
    before = path.read_bytes()
    with pytest.raises(Problem, match="on line 1") as caught:
        config.edited("lr", "5e-4", path.parent)
    assert "lr = 1e-5" in caught.value.why and "lr = 5e-4" in caught.value.why
    assert path.read_bytes() == before


def test_what_was_done_in_the_editor_can_be_undone(config: OpenConfig, path: Path) -> None:
    elsewhere(path, "resume = False", "resume = True  # mine")
    edited = config.looked_again(Settings(), undoable=True)
    assert edited.undone().source.text == TEXT == path.read_text(encoding="utf-8")


def test_a_file_deleted_under_the_editor_is_told_and_can_be_written_again(
    config: OpenConfig, path: Path
) -> None:
    path.unlink()
    with pytest.raises(Problem, match="deleted or moved") as caught:
        config.edited("lr", "5e-4", path.parent)
    assert "W" in caught.value.todo and not path.exists()
    with pytest.raises(Problem, match="deleted or moved"):
        config.looked_again(Settings())
    gone = config.overlooked()
    assert gone.gone and gone.looked_again(Settings()) is gone
    there = gone.written_again()
    assert not there.gone and path.read_text(encoding="utf-8") == TEXT
    path.write_text("x = 1\n", encoding="utf-8")
    with pytest.raises(Problem, match="exists already"):
        gone.written_again()


def test_a_read_only_file_and_one_that_is_no_text_now_are_left_alone(
    config: OpenConfig, path: Path
) -> None:
    path.chmod(0o400)
    with pytest.raises(Problem, match="read-only"):
        config.edited("lr", "5e-4", path.parent)
    path.chmod(0o600)
    path.write_bytes("x = '尖'".encode("gbk"))
    with pytest.raises(Problem, match="not UTF-8"):
        config.edited("lr", "5e-4", path.parent)
    assert path.read_bytes() == "x = '尖'".encode("gbk")
