"""A chart as files."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from engine.chart.picture import as_svg
from engine.chart.series import Level, Series, Shown
from tui.panes.train.chart_files import as_csv, as_png, save

LOSS = Series("loss <one>", [10, 20, 30], [2.0, math.nan, 1.0])
OTHER = Series("loss two", [20, 40], [5.0, 4.0])


def test_the_table_has_a_row_for_each_step() -> None:
    assert as_csv([LOSS, OTHER]).splitlines() == [
        "step,loss <one>,loss two",
        "10,2.0,",
        "20,nan,5.0",
        "30,1.0,",
        "40,,4.0",
    ]


@pytest.mark.parametrize("log_y", [False, True])
def test_the_picture_names_lines_and_levels(log_y: bool) -> None:
    picture = ElementTree.fromstring(
        as_svg(Shown([LOSS, OTHER], [Level("card", 80.0)], log_y=log_y))
    )
    words = [text for text in picture.itertext() if text.strip()]
    assert {"loss <one>", "loss two", "card 80", "20", "40"} <= set(words)
    dashed = [one for one in picture if one.get("stroke-dasharray") == "6 3"]
    assert len(dashed) == 1, "the level"
    lines = [one for one in picture if one.get("fill") == "none"]
    assert len(lines) == 3, "the gap cuts the first line in two"


def test_all_three_are_saved(tmp_path: Path) -> None:
    saved = save(tmp_path / "charts", Shown([LOSS]))
    assert saved.endings == [".csv", ".svg", ".png"] and not saved.lack
    assert saved.path.name.startswith("loss-one-")
    assert saved.path.with_name(saved.path.name + ".png").read_bytes().startswith(b"\x89PNG")
    assert len([*saved.path.parent.iterdir()]) == 3


def test_without_resvg_the_others_are_and_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    saved = save(tmp_path, Shown([LOSS]))
    assert saved.endings == [".csv", ".svg"]
    assert "pip install resvg-py" in saved.lack


def test_without_a_font_it_says_that_the_png_has_no_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resvg_py

    real = resvg_py.svg_to_bytes
    monkeypatch.setattr(resvg_py, "svg_to_bytes", lambda **how: real(**how, skip_system_fonts=True))
    saved = save(tmp_path, Shown([LOSS]))
    assert len(saved.endings) == 3 and "no font" in saved.lack


def test_a_hundred_thousand_points_make_a_small_picture() -> None:
    xs = range(100_000)
    svg = as_svg(Shown([Series("loss", xs, [math.sin(x) for x in xs])]))
    assert len(svg) < 100_000
    assert as_png(svg).startswith(b"\x89PNG")


def test_the_picture_keeps_spikes_and_gaps() -> None:
    ys = [5.0 if x == 777 else x % 7 / 10 for x in range(100_000)]
    ys[50_000:60_000] = [math.nan] * 10_000
    drawn = as_svg(Shown([Series("loss", range(100_000), ys)]))
    lines = [one for one in ElementTree.fromstring(drawn) if one.get("fill") == "none"]
    assert len(lines) == 2, "two pieces"
    pieces = [[float(y) for y in re.findall(r",([\d.]+)", one.get("d") or "")] for one in lines]
    assert min(pieces[0]) < 50 < 400 < min(pieces[1]), "the spike reaches the top"
    for few in ([], [1.5], [math.inf]):
        ElementTree.fromstring(as_svg(Shown([Series("loss", range(len(few)), few)])))


def test_the_picture_shows_what_the_screen_shows() -> None:
    xs = range(1000)
    shown = Shown([Series("loss", xs, [float(x) for x in xs])])
    shown.part.zoom(shown.whole, 0.25)
    words = [text for text in ElementTree.fromstring(as_svg(shown)).itertext()]
    assert "900" in words and "500" not in words, "the part that is zoomed to"
    shown.smooth = True
    lines = [one for one in ElementTree.fromstring(as_svg(shown)) if one.get("fill") == "none"]
    assert [one.get("opacity") for one in lines] == ["0.3", None], "the raw line lies below"
