"""What all dialogs have in common: their size, and what an empty list says."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from textual.widgets import OptionList

from engine.errors import Problem
from engine.workspace import Workspace
from tests.support.driver import Driver, opened
from tui.dialogs.ask import Ask
from tui.dialogs.choose import Choice, Choose
from tui.dialogs.confirm import Confirm
from tui.dialogs.correct import Correct
from tui.dialogs.keys_line import laid_out
from tui.dialogs.reading import Reading

LARGE = (140, 45)


def box(screen: Driver) -> tuple[int, int]:
    """The first and last line of the dialog's frame."""
    lines = screen.lines()
    top = next(at for at, line in enumerate(lines) if "╭" in line)
    return top, next(at for at, line in enumerate(lines) if "╰" in line)


async def test_a_dialog_is_as_high_as_what_is_in_it(tmp_path: Path) -> None:
    async with opened(Workspace(tmp_path), LARGE) as screen:
        screen.app.push_screen(Choose("Which?", [Choice(str(at), f"no. {at}") for at in range(3)]))
        await screen.shows("no. 2", "Esc  back")
        top, end = box(screen)
        assert end - top == 1 + 1 + 1 + 3 + 2  # title, field, the three, keys
        await screen.type("no. 1")
        await screen.hides("no. 2")
        assert box(screen) == (top, end)  # it does not jump while one types
        await screen.press("escape")
        screen.app.push_screen(Reading("Text", ["long " * 40, "last"]))
        await screen.shows("last")
        top, end = box(screen)
        assert end - top == 1 + 1 + 2 + 1 + 2  # title, a line in two, the last, keys


async def test_with_little_in_it_it_is_small_on_a_low_screen_too(tmp_path: Path) -> None:
    async with opened(Workspace(tmp_path), (60, 15)) as screen:
        screen.app.push_screen(Choose("Which?", [Choice(str(at), f"no. {at}") for at in range(3)]))
        await screen.shows("no. 2", "Esc  back")
        top, end = box(screen)
        assert end - top == 1 + 1 + 1 + 3 + 1  # without the blank line above the keys


async def test_a_dialog_with_much_in_it_scrolls(tmp_path: Path) -> None:
    for size, most in ((LARGE, 36), ((80, 24), 24), ((60, 15), 15)):
        async with opened(Workspace(tmp_path), size) as screen:
            screen.app.push_screen(Choose("Which?", [Choice(str(at), str(at)) for at in range(50)]))
            await screen.shows("Which?", "Esc  back")
            for _page in range(7):
                screen.app.simulate_key("pagedown")
            await screen.shows("49")
            top, end = box(screen)
            assert end - top + 1 == most
            await screen.press("escape")
            screen.app.push_screen(Reading("Text", map(str, range(99))))
            await screen.shows("Text", "Esc  close")
            await screen.press("end")
            await screen.shows("98", "Esc  close")


async def test_a_list_without_a_match_says_so(tmp_path: Path) -> None:
    async with opened(Workspace(tmp_path)) as screen:
        chosen: list[str | None] = []
        one = [Choice("a", "apple")]
        screen.app.push_screen(Choose("Which?", one), chosen.append)
        await screen.shows("apple")
        await screen.type("pear")
        await screen.shows("Nothing fits.")
        await screen.press("enter", "down", "enter")
        assert not chosen
        await screen.press("escape")
        screen.app.push_screen(Choose("Which?", one, free=True), chosen.append)
        await screen.shows("apple")
        await screen.type("pear")
        await screen.shows("Nothing listed fits: Enter takes what is typed.")
        await screen.press("enter")
        assert chosen == [None, "pear"]
        screen.app.push_screen(Choose("Which?", [], free=True))
        await screen.shows("Nothing is listed: type it.")
        await screen.press("escape")
        screen.app.push_screen(Choose("Which?", []))
        await screen.shows("There is nothing to choose from.")


async def test_language_and_theme_begin_on_what_holds_now(tmp_path: Path) -> None:
    async with opened(Workspace(tmp_path)) as screen:
        screen.app.theme = "nord"
        for key, now in (("f9", "English"), ("ctrl+t", "nord")):
            await screen.press(key)
            await screen.shows(now, "Esc  back")
            options = screen.app.screen.query_one(OptionList)
            assert options.highlighted is not None
            line = options.get_option_at_index(options.highlighted).prompt
            assert str(line).split()[0] == now
            await screen.press("escape")


SMALL = [(60, 15), (60, 12), (40, 10)]


@pytest.mark.parametrize("size", SMALL)
@pytest.mark.parametrize("name", ["ask", "confirm", "choose", "correct", "reading"])
async def test_no_dialog_is_larger_than_the_screen(
    tmp_path: Path, size: tuple[int, int], name: str
) -> None:
    """Whatever is in it: its frame is whole, and the key that leads out can be read."""
    long = "a line that is longer than the screen is wide, and then some " * 3
    fields = [(f"field number {at}", str(at)) for at in range(9)]
    dialog, out = {
        "ask": (Ask("Many fields", fields, note=long), "Esc  back"),
        "confirm": (Confirm("Throw it away?", long * 4 + "the end"), "n  no (also Enter, Esc)"),
        "choose": (Choose("Which?", [Choice("a", "apple")], note=long), "Esc  back"),
        "correct": (Correct("question", "answer", "", "data.json", "beside.json", ""), "Esc  back"),
        "reading": (Reading(long, [long]), "Esc  close"),
    }[name]
    async with opened(Workspace(tmp_path), size) as screen:
        screen.app.push_screen(dialog)
        await screen.shows(out, "╭", "╮", "╰", "╯")
        inside = dialog.query_one(".dialog").region
        assert screen.app.screen.region.contains_region(inside)


async def test_a_correction_is_seen_where_it_is_typed(tmp_path: Path) -> None:
    async with opened(Workspace(tmp_path), (40, 10)) as screen:
        why = "no row can be put into it " * 4
        screen.app.push_screen(Correct("who?", "I am", "", "", "beside.json", why))
        await screen.shows("I am", "The right answer", "Esc  back")
        await screen.type(" Nova")
        await screen.shows("I am Nova")
        await screen.press("tab")
        await screen.type("system")
        await screen.shows("system", "Esc  back")
        await screen.press("shift+tab", "shift+tab")
        await screen.shows("who?", "Esc  back")


async def test_what_does_not_fit_is_scrolled_to(tmp_path: Path) -> None:
    async with opened(Workspace(tmp_path), (40, 10)) as screen:
        screen.app.push_screen(Ask("Fields", [(f"field {at}", f"value{at}") for at in range(9)]))
        await screen.shows("value0", "Esc  back")
        for _field in range(8):
            await screen.press("enter")
        await screen.shows("value8", "Esc  back")
        await screen.press("escape")
        screen.app.push_screen(Confirm("Throw it away?", "much of it " * 40 + "the end"))
        await screen.shows("Throw it away?", "n  no")
        await screen.press("end")
        await screen.shows("the end", "n  no")


async def test_a_dialog_answers_keys_while_a_disk_is_asked_about_what_it_says(
    tmp_path: Path,
) -> None:
    answered, asked, said = threading.Event(), list[str](), list[list[str] | None]()

    def check(texts: list[str]) -> None:
        asked.append(threading.current_thread().name)
        answered.wait()
        if texts[0] == "taken":
            raise Problem("That name is taken")

    async with opened(Workspace(tmp_path)) as screen:
        screen.app.push_screen(Ask("A file", [("name", "taken")], check), said.append)
        await screen.shows("A file")
        await screen.press("enter")
        try:
            await screen.until(lambda _text: bool(asked))
            await screen.press("enter", "end", "x")
            await screen.shows("takenx")
        finally:
            answered.set()
        await screen.shows("That name is taken")
        assert len(asked) == 1 and asked != [threading.current_thread().name]
        await screen.press("enter")
        await screen.hides("A file")
        assert said == [["takenx"]]


def test_keys_come_closer_then_break_and_the_way_out_stays() -> None:
    keys = ["Enter  take", "Tab  next", "^R  regex", "Esc  back"]
    assert laid_out(keys, 60) == ["Enter  take      Tab  next      ^R  regex      Esc  back"]
    assert laid_out(keys, 50) == ["Enter  take    Tab  next    ^R  regex    Esc  back"]
    assert laid_out(keys, 45) == ["Enter  take  Tab  next  ^R  regex  Esc  back"]
    assert laid_out(keys, 30) == ["Enter  take  Tab  next", "^R  regex  Esc  back"]
    assert laid_out(keys, 20) == ["Enter  take  …", "Esc  back"]
    assert laid_out(["Enter  选用", "Esc  返回"], 22) == ["Enter  选用  Esc  返回"]
    assert laid_out(["Enter  选用", "Esc  返回"], 20) == ["Enter  选用", "Esc  返回"]
