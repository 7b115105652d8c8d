"""Going through a dataset by keys: searched, filtered, marked, jumped in, read again."""

from __future__ import annotations

import gzip
import json

import pytest

from engine.dataset.checking import tally
from engine.dataset.preview import Sample, Segment
from engine.workspace import Workspace
from tests.support.data_pane import ROWS, cursor, remember, table, write
from tests.support.driver import Driver, opened
from tui.panes.data.segments import LONGEST, sample_figures, sample_text, value_text


async def find(screen: Driver, text: str) -> None:
    await screen.press("slash")
    await screen.shows("Find in all rows")
    await screen.erase()
    await screen.type(text)
    await screen.press("enter")


async def test_search_in_the_background_and_next(workspace: Workspace) -> None:
    remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("down", "down")
        await find(screen, "自己1")  # 1 and 10 to 19
        await screen.shows("/自己1  11 rows", "n next  N previous")
        await screen.until(lambda _: cursor(screen) == 10)  # the first from the cursor on
        await screen.press("n", "n")
        assert cursor(screen) == 12
        await screen.press("N", "N", "N")
        assert cursor(screen) == 1
        await screen.press("N")
        assert cursor(screen) == 19, "around the beginning"
        # Only the matches; Escape ends the search, and all rows are there again.
        await screen.press("f")
        await screen.shows("matches of the search  11")
        await screen.type("match")
        await screen.press("enter")
        await screen.shows("matches of the search 11")
        assert table(screen).count == 11 and cursor(screen) == 19
        await screen.press("escape")
        await screen.hides("/自己1", "matches of the search")
        assert table(screen).count == 30 and cursor(screen) == 19
        await find(screen, "没有这个词")
        text = await screen.shows("/没有这个词  0 rows")
        assert "capitals" not in text
        await find(screen, "super nova")
        await screen.shows("/super nova  0 rows  as it stands: capitals count")


async def test_search_by_a_pattern_and_what_it_says_of_wrong_ones(workspace: Workspace) -> None:
    remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("slash", "enter")
        await screen.shows("Nothing to look for")
        await screen.press("ctrl+r")
        await screen.type("自己(2")
        await screen.press("enter")
        await screen.shows("is not a regular expression", "自己(2")
        await screen.type(")$")
        await screen.press("enter")
        await screen.shows("/自己(2)$  1 row")
        await screen.until(lambda _: cursor(screen) == 2)
        await find(screen, "没有这个词")
        await screen.shows("/没有这个词  0 rows")
        assert cursor(screen) == 2


async def test_jump_to_a_row(workspace: Workspace) -> None:
    write(workspace, "many.jsonl", (json.dumps(ROWS[0]) + "\n") * 50_000)
    remember(workspace, "many.jsonl")
    async with opened(workspace) as screen:
        await screen.shows("50,000 rows")
        await screen.press("g")
        await screen.shows("Go to a row", "row, 0 to 49999")
        await screen.type("x")
        await screen.press("enter")
        await screen.shows("Give a whole number")
        await screen.erase()
        await screen.type("43210")
        await screen.press("enter")
        await screen.shows("43210")
        assert cursor(screen) == 43_210
        await screen.press("g")
        await screen.type("50000")
        await screen.press("enter")
        await screen.shows("There is no row 50000", "50,000 rows are known")
        assert cursor(screen) == 43_210


async def test_views_after_a_check(workspace: Workspace) -> None:
    rows = [dict(one) for one in ROWS]
    rows[7] = {"conversation": [{"input": "写一首诗", "output": None}]}
    rows[9] = rows[8]
    write(workspace, "flawed.json", json.dumps(rows, ensure_ascii=False))
    remember(workspace, "flawed.json")
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("f")
        await screen.shows("all rows", "c checks every row")
        await screen.press("escape", "c")
        await screen.shows("1 broken: row 7", "1 duplicate")
        await screen.press("f")
        await screen.shows("broken", "duplicates", "all that deserve a look  2")
        await screen.type("deserve")
        await screen.press("enter")
        text = await screen.shows("all that deserve a look 2", "✗", "dup")
        assert "请介绍一下你自己8" in text and "请介绍一下你自己0" not in text
        await screen.press("end")
        await screen.shows("! the same questions and answers as row 8")
        # A number that the view hides brings back all rows.
        await screen.press("g")
        await screen.type("20")
        await screen.press("enter")
        await screen.hides("all that deserve a look")
        assert cursor(screen) == 20
        await screen.press("f")
        await screen.type("broken")
        await screen.press("enter")
        await screen.shows("broken 1", "Esc  all rows again")
        await screen.press("escape")
        await screen.shows("▸ n  to the next broken row")
        await screen.hides("broken 1 ")


async def test_marks(workspace: Workspace) -> None:
    remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press("space", "down", "space")
        await screen.shows("▪ 0", "▪ 2", "2 rows marked:")
        assert cursor(screen) == 3
        await screen.press("f")
        await screen.type("marked")
        await screen.press("enter")
        await screen.shows("marked 2")
        await screen.press("asterisk")
        await screen.hides("▪", "rows marked:")


async def test_all_duplicates_go_at_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than are spelt out: whoever deleted those kept the rest unawares."""
    monkeypatch.setattr(tally, "LISTED_OF_A_KIND", 2)
    rows = [*ROWS[:3], *[ROWS[1]] * 6, ROWS[4]]
    path = write(workspace, "again.jsonl", "".join(json.dumps(one) + "\n" for one in rows))
    remember(workspace, "again.jsonl")
    async with opened(workspace) as screen:
        await screen.shows("10 rows")
        await screen.press("A")
        await screen.hides("marked:")
        await screen.press("c")
        await screen.shows("10 good · 6 duplicates")
        await screen.press("v")
        await screen.shows("Findings", "as row 1", "… and 4 more")
        await screen.press("escape", "f")
        await screen.type("duplicates")
        await screen.press("enter")
        await screen.shows("duplicates 6", "A  mark them all", "! the same questions and answers")
        await screen.press("end")
        await screen.shows("as an earlier row")
        await screen.press("A")
        await screen.shows("6 rows marked:")
        await screen.press("d")
        await screen.shows("Delete 6 marked rows?")
        await screen.press("y")
        await screen.shows("6 rows were deleted", "4 rows")
    kept = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert kept == [*ROWS[:3], ROWS[4]]


async def test_a_list_that_is_cut_says_of_how_many(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "LISTED_ROWS", 5)
    write(workspace, "again.jsonl", (json.dumps(ROWS[0]) + "\n") * 10)
    remember(workspace, "again.jsonl")
    async with opened(workspace) as screen:
        await screen.shows("10 rows")
        await screen.press("c")
        await screen.shows("9 duplicates")
        await screen.press("f")
        await screen.type("duplicates")
        await screen.shows("5 of 9")
        await screen.press("enter")
        await screen.shows("duplicates 5 of 9")


async def test_a_file_that_changes_is_read_again_on_a_key(workspace: Workspace) -> None:
    path = remember(workspace)
    async with opened(workspace) as screen:
        await screen.shows("30 rows")
        await screen.press(*["down"] * 12)
        other = write(workspace, "other", json.dumps(ROWS[:1] + ROWS, ensure_ascii=False))
        other.replace(path)
        await screen.shows("▸ The file has changed on disk.   r  read it again")
        await screen.press("r")
        await screen.shows("31 rows", "请介绍一下你自己11", "▸ Enter  use this dataset")
        assert cursor(screen) == 12


async def test_folders_and_compressed_files_are_offered_and_open(workspace: Workspace) -> None:
    shards = workspace.data / "shards"
    shards.mkdir()
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    for name in ("a.jsonl", "b.jsonl"):
        (shards / name).write_text(lines, encoding="utf-8")
    (workspace.data / "packed.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    write(workspace, "table.csv", "instruction,input,output\n你好,,好\n再见,,再见\n")
    async with opened(workspace, (140, 45)) as screen:
        for name, words in (
            ("shards", ["data/shards", "2 files", "60 rows"]),
            ("packed", ["data/packed.jsonl.gz", "jsonl.gz", "30 rows"]),
            ("table", ["data/table.csv", "csv", "2 rows", "你好"]),
        ):
            await screen.press("o")
            await screen.shows("data/shards/", "2 files", "data/packed.jsonl.gz", "data/table.csv")
            await screen.type(name)
            await screen.press("enter")
            await screen.shows(*words)
        await screen.press("e")
        await screen.shows("cannot be edited here", "Export it to JSON Lines")


async def test_the_keys_line_is_short_and_the_keys_screen_has_all(workspace: Workspace) -> None:
    remember(workspace)
    async with opened(workspace, (140, 60)) as screen:
        await screen.shows("30 rows")
        shown = next(line for line in screen.lines() if "c check all" in line)
        assert len(shown.strip().split("  ")) == 6
        pane = screen.app.screen.query_one("#data")
        keys: dict[str, str] = {}
        for node in (pane, *pane.query("*").results()):
            for key, bindings in node._bindings.key_to_bindings.items():
                for binding in bindings:
                    if binding.id and binding.id.startswith(("data.", "rows.")):
                        assert keys.setdefault(key, binding.id) == binding.id, key
        assert not set("12345q?").intersection(keys), "the shell's"
        await screen.press("f1")
        await screen.shows(
            "In this pane", "split off a validation set", "go to a row by its number"
        )


# -- drawing ------------------------------------------------------------------


def test_a_mask_in_signs_and_rows_packed_together() -> None:
    segments = [Segment("问\n", False), Segment("答\n二", True), Segment("\n", False)]
    sample = Sample(9, 4, 3, "".join(one.text for one in segments), segments)
    assert sample_text(sample, plain=True).plain == "问⏎\n«答⏎\n二»⏎\n"
    assert sample_text(sample).plain == "问⏎\n▌答⏎\n▌二⏎\n"
    figures = sample_figures(sample, [4, 8, 15, 16, 23, 42, 99])
    assert figures.endswith("3 cut at max_length · packs with rows 4, 8, 15, 16, 23, 42, …")
    assert "packs" not in sample_figures(sample, [])


def test_a_huge_row_is_drawn_in_part() -> None:
    segments = [Segment("一" * 300_000, True)]
    text = sample_text(Sample(1, 1, 0, segments[0].text, segments)).plain
    assert len(text) < LONGEST + 100 and "[280,000 more characters]" in text
    rows = {"a": "x" * 10**6, "b": [["y" * 100] * 10**5], "c": 1}
    assert len(value_text(rows).plain) < 3 * LONGEST
    assert "more characters" in value_text(rows).plain
    assert json.loads(value_text({"a": [1, {"b": "尖"}], "c": None}).plain) == {
        "a": [1, {"b": "尖"}],
        "c": None,
    }
