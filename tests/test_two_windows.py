"""Two windows on one workspace that do the same thing at once: neither loses what the other did."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import files
from engine.config.text import textfile
from engine.config.text.source import ConfigSource
from engine.errors import Failed, Problem
from engine.run import history, notes
from engine.run.folder import RunFolder

WHILE = 0.5
"""Seconds that the other window gets in the middle of what this one does: it is over by
then, where it does not wait."""


def other(do: Callable[[], object]) -> threading.Thread:
    """Another window, that does something at this moment."""
    window = threading.Thread(target=do)
    window.start()
    window.join(WHILE)
    return window


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_notes_of_both_are_kept(tmp_path: Path) -> None:
    windows = []

    def edit(now: notes.Notes) -> notes.Notes:
        windows.append(other(lambda: history.tag(RunFolder(tmp_path), add=["theirs"])))
        return notes.Notes("mine", now.tags, now.archived)

    notes.change(tmp_path, edit)
    windows[0].join()
    assert notes.read(tmp_path) == notes.Notes("mine", ["theirs"])


def test_an_edit_between_the_look_and_the_writing_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.py"
    path.write_text("lr = 1\nepochs = 1\n")
    mine, theirs = ConfigSource.open(path), ConfigSource.open(path)
    mine.set("lr", 2)
    theirs.set("epochs", 2)
    refused, windows, write = [], [], textfile.write

    def save() -> None:
        try:
            theirs.save()
        except Problem as problem:
            refused.append(problem)

    def slow(*given: object, **options: bool) -> Path:
        if not windows:
            windows.append(other(save))
        return write(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(textfile, "write", slow)
    mine.save()
    windows[0].join()
    assert path.read_text() == "lr = 2\nepochs = 1\n"
    assert [one.what for one in refused] == [f"{path} was changed by someone else"]


def test_a_folder_that_is_being_made_is_left_to_who_makes_it(tmp_path: Path) -> None:
    out = tmp_path / "model"
    with files.replacing_folder(out) as mine:
        (mine / "weights").write_text("mine")
        for force in (False, True):
            with (
                pytest.raises(Failed, match="is being made already"),
                files.replacing_folder(out, force=force),
            ):
                raise AssertionError("two at once")
    assert (out / "weights").read_text() == "mine" and names(tmp_path) == ["model"]


def test_what_a_killed_one_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / ".model.part"
    (left / "deep").mkdir(parents=True)
    (left / "weights").touch()
    (left / "link").symlink_to(tmp_path)
    with files.replacing_folder(tmp_path / "model") as made:
        assert not any(made.iterdir())
    assert names(tmp_path) == ["model"]


def test_a_link_in_the_place_of_a_leftover_leads_nowhere(tmp_path: Path) -> None:
    """Where several may write, somebody may have put one there."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis").touch()
    (tmp_path / ".model.part").symlink_to(home)
    with files.replacing_folder(tmp_path / "model") as made:
        (made / "weights").touch()
    assert names(home) == ["thesis"] and names(tmp_path) == ["home", "model"]
    assert names(tmp_path / "model") == ["weights"] and not (tmp_path / "model").is_symlink()


def test_what_came_to_its_place_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "model"
    with pytest.raises(Problem, match="exists already"), files.replacing_folder(out):
        out.mkdir()
        (out / "theirs").touch()
    assert names(out) == ["theirs"]
    file = tmp_path / "rows.json"
    with pytest.raises(Problem, match="exists already"), files.replacing(file, force=False) as mine:
        mine.write(b"mine")
        file.write_text("theirs")
    assert file.read_text() == "theirs"
    with files.replacing(tmp_path / "new.json", force=False) as mine:
        mine.write(b"mine")
    assert (tmp_path / "new.json").read_text() == "mine"
    assert names(tmp_path) == ["model", "new.json", "rows.json"]


def test_a_disk_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", none)
    with files.replacing(tmp_path / "new.json", force=False) as mine:
        mine.write(b"mine")
    assert names(tmp_path) == ["new.json"]
