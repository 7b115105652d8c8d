"""The shell by keys: tabs, palette, keys, messages, language, the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import OptionList

from engine import i18n, settings, settings_file
from engine.errors import Failed, Problem
from engine.run.listing import list_runs
from engine.workspace import Workspace
from tests.support.driver import opened
from tests.support.nvml import Card, Nvml
from tests.support.run_files import write_run
from tests.support.screen import NASTY
from tui.dialogs.choose import Choose
from tui.overlays import NOTICES, RESTART
from tui.panes.base import Pane
from tui.widgets.table import VirtualTable

ESCAPE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test does to the language ends with it."""
    monkeypatch.setattr(i18n, "_language", i18n._language)
    monkeypatch.setattr(i18n, "_current", i18n._current)


# In Chat the cursor is in a field, where digits are text.
@pytest.mark.parametrize("keys", [["2", "3", "4", "1", "5"], ["f3", "f4", "f5", "f2", "f6", "f2"]])
async def test_tabs_by_digit_and_by_function_key(workspace: Workspace, keys: list[str]) -> None:
    names = ["config", "train", "export", "data", "chat", "data"]
    async with opened(workspace) as screen:
        for key, name in zip(keys, names, strict=False):
            await screen.press(key)
            assert screen.app.current == name
            shown = [pane.TAB for pane in screen.app.query(Pane) if pane.display]
            assert shown == [name]
    assert workspace.last().tab == screen.app.current


async def test_the_tab_that_was_open_is_open_again(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        await screen.press("4")
    async with opened(workspace) as screen:
        assert screen.app.current == "export"
        await screen.shows("Checkpoint", "Hand over")


async def test_a_digit_typed_in_a_field_stays_there(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        await screen.press("o")
        await screen.shows("Open a dataset")
        await screen.type("2")
        assert screen.app.current == "data"
        await screen.press("escape")
        await screen.press("2")
        assert screen.app.current == "config"


async def test_the_keys_screen_lists_what_really_works(workspace: Workspace) -> None:
    async with opened(workspace, (140, 80)) as screen:  # high enough for all of them
        await screen.press("f1")
        text = await screen.shows("Keys", "Everywhere")
        for key, what in (("o", "open"), ("F2 1", "Data"), ("F9", "language"), ("^Q q", "quit")):
            assert re.search(rf"{re.escape(key)} +{what}", text), what
        assert "DataPane" not in text, "a class is no word for a person"
        await screen.press("escape")
        await screen.hides("Everywhere")
        await screen.press("4", "question_mark")
        text = await screen.shows("Keys", "checkpoint")
        assert "substitute" not in text, "keys of another pane"


async def test_the_palette_finds_and_does_an_action(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        await screen.press("ctrl+p")
        await screen.shows("model and template", "open")
        await screen.press("ctrl+n", "ctrl+n", "ctrl+p")  # moves in the list, as in a shell
        assert screen.app.screen.query_one(OptionList).highlighted == 1
        await screen.type("Export")
        await screen.hides("model and template")
        await screen.shows("Export", "F5 4")
        await screen.press("enter")
        await screen.until(lambda _: not isinstance(screen.app.screen, Choose))
        await screen.until(lambda _: screen.app.current == "export")


async def test_the_palette_acts_on_the_pane(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        await screen.press("ctrl+p")
        await screen.type("open")
        await screen.shows("open")
        await screen.press("enter")
        await screen.shows("Open a dataset", "type to narrow, or a path")


async def test_a_problem_stays_until_it_is_put_away(workspace: Workspace) -> None:
    problem = Failed("It broke", "because of that", "do this", "Traceback:\n  line 7 of x.py")
    async with opened(workspace) as screen:
        screen.app.show_problem(problem)
        await screen.shows("It broke", "because of that", "do this")
        assert "line 7" not in screen.text()
        await screen.press("escape")
        await screen.hides("It broke")
        screen.app.show_problem(Problem("Another one"))
        await screen.press("f7")
        text = await screen.shows("Notices", "because of that", "line 7 of x.py")
        assert text.index("Another one") < text.index("It broke"), "newest first"
        await screen.press("f7")
        await screen.hides("Notices")


async def test_what_was_said_in_passing_is_among_the_notices(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        await screen.press("f7")
        await screen.shows("Nothing has happened yet.")
        await screen.press("f7")
        screen.app.notify("said in passing", markup=False)
        await screen.press("f7")
        await screen.shows("Notices", "said in passing")


async def test_the_notices_are_the_newest_and_say_so(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        for number in range(NOTICES + 1):
            screen.app.show_problem(Problem(f"number {number}."), aside=True)
        await screen.press("f7")
        await screen.shows(f"number {NOTICES}.")
        await screen.press("end")
        text = await screen.shows("number 1.", "What was told before is not kept.")
        assert "number 0." not in text


async def test_the_machine_screen(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        await screen.until(lambda _: screen.app.sight is not None)
        await screen.press("f8")
        await screen.shows("Machine", "CPU", "free of")


async def test_a_name_in_wide_characters_keeps_its_place_beside_the_gpus(
    tmp_path: Path, nvml: Nvml
) -> None:
    nvml.set(Card())
    name = "模型微调" * 5
    (tmp_path / name).mkdir()
    async with opened(Workspace(tmp_path / name)) as screen:
        await screen.until(lambda _: "GPU" in screen.lines()[0])
        assert f"  {name}/ " in screen.lines()[0]


@pytest.mark.usefixtures("in_english")
async def test_the_language_is_kept_and_the_app_opens_again(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        await screen.press("f9")
        await screen.shows("English", "中文")
        await screen.type("中")
        await screen.press("enter")
        await screen.pilot.pause()
        assert screen.app.return_code == RESTART
    assert 'language = "zh"' in settings_file.path().read_text(encoding="utf-8")
    assert str(settings_file.path()).startswith(os.environ["XDG_CONFIG_HOME"])
    assert settings.load().language == i18n.language() == "zh"


@pytest.mark.usefixtures("in_english")
async def test_settings_that_cannot_be_saved_are_said(workspace: Workspace) -> None:
    Path(os.environ["XDG_CONFIG_HOME"]).write_text("a file where a folder should be")
    async with opened(workspace) as screen:
        await screen.press("f9")
        await screen.type("中")
        await screen.press("enter")
        await screen.shows("Cannot read the settings in", "Not a directory")
        assert screen.app.return_code is None


async def test_the_key_that_puts_a_message_away_stands_in_one_piece(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        for what in ("It broke", "A name that fills the line " * 3 + "and more"):
            screen.app.show_problem(Problem(what, "Why it did.", "What to do. " * 9))
            await screen.shows("Why it did.", "Esc  put away")
        await screen.press("escape")
        await screen.hides("put away")


async def test_a_theme_chosen_and_taken_back_is_kept(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        for theme in ("nord", "tunedeck"):
            await screen.press("ctrl+t")
            await screen.shows("Theme", "type to narrow")
            await screen.type(theme)
            await screen.press("enter")
            await screen.pilot.pause()
            assert settings.load().theme == theme


async def test_nasty_text_reaches_the_screen_as_text(tmp_path: Path) -> None:
    root = tmp_path / NASTY.replace("/", "|")
    root.mkdir()
    workspace = Workspace(root)
    write_run(workspace, NASTY.replace("/", "|"), "failed", step=3)
    async with opened(workspace) as screen:
        screen.app.show_problem(Problem(NASTY, NASTY, NASTY, NASTY))
        await screen.until(lambda _: bool(screen.app.sight and screen.app.sight.runs))
        text = await screen.shows("[/x] [b] 中文 abc", "[|x] [b] 中文 abc/")
        assert not ESCAPE.search(text)
        await screen.press("f7")
        text = await screen.shows("Notices", "[/x] [b] 中文 abc")
        assert not ESCAPE.search(text)


async def test_a_run_that_cannot_be_read_does_not_blind_the_watch(workspace: Workspace) -> None:
    write_run(workspace, "good", "finished", step=100)
    bad = write_run(workspace, "bad", "finished", step=100)
    for file in ("run.json", "state.json", "trainer.json"):
        (bad / file).write_bytes(b'{"torn": \xff')
    async with opened(workspace) as screen:
        await screen.until(lambda _: screen.app.sight is not None)
        assert screen.app.sight is not None
        assert "good" in [run.run for run in screen.app.sight.runs]
        await screen.shows("Cannot read the run", "state.json")
        screen.app._watch.look_now()
        await screen.pilot.pause(0.2)
        assert len(screen.app.notices) == 1, "said once, not at every look"


@pytest.mark.parametrize("size", [(40, 10), (20, 5), (1, 1)])
async def test_a_small_terminal_is_survived(workspace: Workspace, size: tuple[int, int]) -> None:
    write_run(workspace, "小助手", "failed", step=3)
    async with opened(workspace, size) as screen:
        await screen.until(lambda _: screen.app.sight is not None)
        for key in ["2", "3", "4", "5", "1", "f1", "escape", "f7", "escape"]:
            await screen.press(key)
        await screen.pilot.resize_terminal(80, 24)
        await screen.shows("1 Data", "5 Chat")


async def test_every_tab_fits_the_small_screen(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        for number, title in enumerate(["Data", "Config", "Train", "Export", "Chat"], 1):
            await screen.press(str(number))
            lines = screen.lines()
            assert f"{number} {title}" in lines[1]
            assert all(f" {other} " in lines[1] for other in range(1, 6))
            assert "F1 keys" in lines[-1]


@pytest.mark.parametrize(("count", "words"), [(1, "1 run goes on"), (2, "2 runs go on")])
async def test_the_last_words_say_what_becomes_of_runs(
    workspace: Workspace, count: int, words: str
) -> None:
    for number in range(count):
        write_run(workspace, f"run-{number}", "training", step=3)
    write_run(workspace, "old", "finished", step=100)
    async with opened(workspace) as screen:
        await screen.press("q")
        assert screen.app.return_code == 0
        assert words in screen.app.parting_words()
    assert len(list_runs(workspace)) == count + 1


async def test_nothing_is_said_when_nothing_runs(workspace: Workspace) -> None:
    write_run(workspace, "old", "finished", step=100)
    async with opened(workspace) as screen:
        await screen.press("ctrl+q")
        assert (screen.app.return_code, screen.app.parting_words()) == (0, "")


async def test_without_colours_the_tab_and_the_cursor_show(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with opened(workspace) as screen:
        await screen.press("4")
        strips = screen.app.screen._compositor.render_strips(screen.app.size)
        assert any(s.style and s.style.reverse and "4 Export" in s.text for s in strips[1])
        under_cursor = [s for s in strips[4] if s.style and s.style.reverse]
        assert "Checkpoint" in "".join(s.text for s in under_cursor)
        # In a dialog the choice and the place where one types as well.
        await screen.press("ctrl+p")
        await screen.shows("Commands", "checkpoint", "first row")
        strips = screen.app.screen._compositor.render_strips(screen.app.size)
        drawn = [s for strip in strips for s in strip if s.style]
        assert any(s.style.underline and "checkpoint" in s.text for s in drawn if s.style)
        assert not any(s.style.underline and "first row" in s.text for s in drawn if s.style)
        assert any(s.style.reverse and s.text == "t" for s in drawn if s.style)


def tunedeck(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "tui", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=60,
    )


WRONG: list[tuple[Callable[[Path], list[str]], str]] = [
    (lambda folder: [str(folder / "none")], "is not a folder"),
    (lambda folder: [str(folder / "file.json")], "is not a folder"),
    (lambda folder: [str(folder), "two"], "Too many arguments"),
    (lambda folder: [str(folder)], "The app needs a terminal"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG)
def test_a_wrong_start_is_said_in_words(
    tmp_path: Path, arguments: Callable[[Path], list[str]], words: str
) -> None:
    (tmp_path / "file.json").write_text("[]")
    done = tunedeck(*arguments(tmp_path))
    assert done.returncode == 2
    assert words in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_nasty_name_is_no_command_to_the_terminal(tmp_path: Path) -> None:
    done = tunedeck(str(tmp_path / NASTY))
    assert done.returncode == 2
    assert "is not a folder" in done.stderr
    assert not ESCAPE.search(done.stderr)


def test_broken_settings_are_said_before_anything_is_drawn(tmp_path: Path) -> None:
    done = tunedeck(str(tmp_path), TUNEDECK_MOUSE="perhaps")
    assert done.returncode == 2
    assert "mouse" in done.stderr.lower() and done.stdout == ""


async def test_a_dialog_leaves_the_keys_of_the_pane_and_what_was_typed(
    workspace: Workspace,
) -> None:
    workspace.data.mkdir()
    (workspace.data / "one.json").write_text('[{"conversation": [{"input": "a", "output": "b"}]}]')
    workspace.remember(data=str(workspace.data / "one.json"))
    async with opened(workspace) as screen:
        await screen.shows("c check all", "1 row")
        await screen.press("s")
        await screen.shows("Substitute in one.json")
        await screen.type("aa")
        await screen.press("escape")
        await screen.hides("Substitute in")
        await screen.shows("c check all", "F1 keys")
        await screen.press("s")
        await screen.shows("Substitute in one.json", " aa ")


async def test_good_news_do_not_look_like_trouble(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        screen.app.show_problem(Problem("It is done"), good=True)
        await screen.shows("It is done   Esc  put away")
        assert screen.app.query_one("#trouble").has_class("-good")
        screen.app.show_problem(Problem("It broke"))
        assert not screen.app.query_one("#trouble").has_class("-good")


async def test_f1_tells_the_keys_of_a_dialog(workspace: Workspace) -> None:
    async with opened(workspace) as screen:
        await screen.press("o")
        await screen.shows("Open a dataset")
        await screen.press("f1")
        text = await screen.shows("In this dialog", "Esc", "In a text:")
        assert "Focus Next" not in text
        await screen.press("f1")
        await screen.hides("In this dialog")
        await screen.shows("Open a dataset")


async def test_the_row_under_the_cursor_is_seen_on_the_smallest_screen(
    workspace: Workspace,
) -> None:
    """Ten rows have room for little: titles, help and rules give way before it."""
    data, config = workspace.root / "data.jsonl", workspace.configs / "mine.py"
    data.write_text('{"text": "the first row"}\n{"text": "another"}\n')
    config.parent.mkdir(parents=True)
    config.write_text("lr = 2e-4\nmax_length = 77\n")
    write_run(workspace, "run-01", "failed", step=3)
    workspace.remember(data=str(data), config=str(config))
    async with opened(workspace, (40, 10)) as screen:
        rows = {"f2": "the first", "f3": "keep_base_dtype", "f4": "run-01", "f5": "Checkpoint"}
        for key, row in rows.items():
            await screen.press(key)
            await screen.shows(row, "F1 keys")
            table = screen.app.focused
            assert isinstance(table, VirtualTable)
            shown = screen.lines()[table.region.y + 1 : table.region.bottom]
            assert any(row in line for line in shown), key
            assert table.region.bottom <= screen.app.query_one("#next").region.y, "it is cut"


async def test_a_notice_says_nothing_twice(workspace: Workspace) -> None:
    """The details of news begin with what is said of them already."""
    told = Problem("Two things\nhappened", "the first\nthe second", details="the first\nthe third")
    async with opened(workspace) as screen:
        screen.app.show_problem(told, aside=True)
        await screen.press("f7")
        text = await screen.shows("Notices", "the third")
        lines = [line.strip(" │") for line in text.splitlines() if "│" in line]
        at = next(at for at, line in enumerate(lines) if line.endswith("Two things"))
        assert lines[at + 1 : at + 5] == ["happened", "the first", "the second", "the third"]
