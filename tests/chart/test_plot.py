from __future__ import annotations

import math

import pytest

from engine.chart.plot import Bin, log_ticks, logs, number, reduce, smooth, ticks
from engine.chart.series import Series, part
from tui.widgets.cells import shares


def test_a_spike_survives_any_reduction() -> None:
    ys = [1.0] * 10_000
    ys[4321] = 50.0
    reduced = reduce(range(10_000), ys, 0, 9_999, 60)
    (stroke,) = reduced.strokes
    assert len(stroke) == 60
    assert max(bin.high for bin in stroke) == 50.0
    assert min(bin.low for bin in stroke) == 1.0


def test_a_bin_knows_its_first_and_last_value() -> None:
    reduced = reduce([0, 1, 2, 3], [5.0, 9.0, 1.0, 7.0], 0, 30, 4)
    assert reduced.strokes == [[Bin(0, 5.0, 1.0, 9.0, 7.0)]]


def test_what_is_not_finite_makes_a_gap_and_is_remembered() -> None:
    ys = [1.0, math.nan, 2.0, math.inf, math.inf, 3.0, -math.inf]
    reduced = reduce(range(7), ys, 0, 6, 7)
    assert [[bin.column for bin in stroke] for stroke in reduced.strokes] == [[0], [2], [5]]
    assert list(reduced.bad) == [1, 3, 4, 6]
    assert math.isnan(reduced.bad[1])
    assert (reduced.bad[3], reduced.bad[6]) == (math.inf, -math.inf)
    assert reduced.bad_count == 4


def test_a_run_resumed_from_an_earlier_step_starts_a_new_stroke() -> None:
    reduced = reduce([1, 2, 3, 2, 3, 4], [9, 8, 7, 5, 4, 3], 1, 4, 4)
    assert [[bin.column for bin in stroke] for stroke in reduced.strokes] == [[0, 1, 2], [1, 2, 3]]


@pytest.mark.parametrize("points", [0, 1])
def test_next_to_nothing(points: int) -> None:
    reduced = reduce([5.0] * points, [1.0] * points, 5, 5, 10)
    assert [len(stroke) for stroke in reduced.strokes] == [1] * points


def test_smoothing_starts_at_the_first_value_and_passes_gaps() -> None:
    smoothed = smooth([4.0, 4.0, math.nan, 8.0], 0.5)
    assert smoothed[:2] == [4.0, 4.0]
    assert math.isnan(smoothed[2])
    assert 4.0 < smoothed[3] < 8.0


def test_logs_of_nothing_lie_below() -> None:
    assert logs([100.0, 0.0, -1.0]) == [2.0, -math.inf, -math.inf]
    assert math.isnan(logs([math.nan])[0])


@pytest.mark.parametrize(
    ("low", "high", "most", "wanted"),
    [
        (0.0, 1.0, 3, [0.0, 0.5, 1.0]),
        (0.48, 2.9, 4, [1.0, 2.0]),
        (10, 1000, 3, [500, 1000]),
        (3.0, 3.0, 3, [3.0]),
        (0.0, math.inf, 3, [0.0]),
    ],
)
def test_ticks_are_round(low: float, high: float, most: int, wanted: list[float]) -> None:
    assert ticks(low, high, most) == pytest.approx(wanted)


@pytest.mark.parametrize("span", [1e-9, 0.37, 1.0, 17.3, 9999.0, 3e12])
@pytest.mark.parametrize("most", [1, 2, 5, 9])
def test_ticks_stay_inside_and_are_not_too_many(span: float, most: int) -> None:
    found = ticks(-span / 3, span, most)
    assert 1 <= len(found) <= most
    assert all(-span / 3 - 1e-9 * span <= tick <= span * (1 + 1e-9) for tick in found)


def test_steps_are_whole() -> None:
    assert ticks(1, 3, 9, least_step=1.0) == [1, 2, 3]


def test_logarithmic_ticks() -> None:
    assert log_ticks(0.01, 100, 5) == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert log_ticks(0.5, 2.9, 4) == pytest.approx([0.5, 1, 2])
    assert len(log_ticks(0.71, 0.74, 4)) >= 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.7312, "0.7312"),
        (1000, "1000"),
        (12_500, "12.5k"),
        (3_000_000, "3M"),
        (1.9e-4, "1.9e-4"),
        (2e12, "2e12"),
        (-0.5, "-0.5"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_many_points_of_one_step_are_one_bin() -> None:
    xs = [float(n // 500) for n in range(5000)]
    reduced = reduce(xs, [float(n) for n in range(5000)], 0, 9, 10)
    assert reduced.strokes == [
        [Bin(at, *(float(at * 500 + n) for n in (0, 0, 499, 499))) for at in range(10)]
    ]


def test_lines_that_are_too_long_share_what_the_short_ones_leave() -> None:
    assert shares([10, 30, 40], 80) == [10, 30, 40]
    assert shares([50, 10, 60], 80) == [35, 10, 35]
    assert shares([5, 5], 4) == [2, 2] and shares([5, 5], 0) == [0, 0] and shares([], 9) == []


def test_a_part_is_cut_at_its_ends_but_for_gaps() -> None:
    line = Series("", [0, 10, 20, 30], [0.0, 1.0, math.nan, 3.0])
    assert part(line, 4, 6) == Series("", [4, 6], pytest.approx([0.4, 0.6]))
    assert part(line, 10, 15) == Series("", [10, 10], [1.0, 1.0])
    assert part(line, -5, 5) == Series("", [0, 5], [0.0, 0.5])
    assert part(line, 40, 50).xs == [] and part(line, 0, 30) is line
