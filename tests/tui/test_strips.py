"""The line of the machine: as much of each GPU as fits, and nothing that is not known."""

from __future__ import annotations

import os
import re

import pytest
from rich.cells import cell_len

from engine import i18n
from engine.machine import gpu
from engine.machine.host import Host
from tests.support.nvml import GB, Card, Instance, Nvml, Process
from tui.dialogs.machine import machine_lines
from tui.watch import Sight
from tui.widgets.strips import keys_line, machine_line, tabs_line

BUSY = Card(used=61 * GB, util=98, temperature=71)
HOT = Card(used=61 * GB, util=98, temperature=86)
BARE = Card(util=None, temperature=None, power=None, processes=None)
HERE = Process(os.getpid())
DIVIDED = Card(
    mig=True, temperature=55, instances=[Instance(used=4 * GB, processes=[HERE]), Instance()]
)


def sight() -> Sight:
    return Sight(gpu.read(), Host(3, 8, 0, 64 * GB, 5 * GB, 9 * GB), [])


@pytest.mark.parametrize(
    ("cards", "width", "expected"),
    [
        ([BUSY], 60, "GPU0 ▇▇▇▇▇▇▂▁ 61.0 GB/80.0 GB  98% 71° "),
        ([BUSY, Card()], 60, "GPU  0 ▇▇▇▁  98%  1 ▁▁▁▁   0% "),
        ([BUSY] * 4, 60, "GPU  0 ▇▇▇▁  98%  1 ▇▇▇▁  98%  2 ▇▇▇▁  98%  3 ▇▇▇▁  98% "),
        ([BUSY] * 8, 60, "8 GPU ▇▇▇▇▇▇▂▁ 488 GB/640 GB  8 busy "),
        ([BUSY] * 7 + [Card(util=4)], 60, "8 GPU ▇▇▇▇▇▃▁▁ 427 GB/640 GB  7 busy "),
        ([BARE] * 2, 60, "GPU0 ▁▁▁▁▁▁▁▁ 0 B/80.0 GB  GPU1 ▁▁▁▁▁▁▁▁ 0 B/80.0 GB "),
        ([BARE] * 8, 60, "8 GPU ▁▁▁▁▁▁▁▁ 0 B/640 GB "),
        ([DIVIDED], 60, "GPU  0:0 ▇▅▁▁  0:1 ▁▁▁▁ "),
        ([DIVIDED], 20, "2 GPU ▇▅▁▁▁▁▁▁ 4.0 GB/20.0 GB  1 busy "),
        ([], 60, "no GPU  CPU   5%  memory ▁▁▁▁▁▁ 0 B/64.0 GB "),
        ([], 40, "no GPU  CPU   5%  memory ▁▁▁▁▁▁ "),
        ([], 20, "no GPU  CPU   5% "),
    ],
)
def test_as_much_of_each_gpu_as_fits(
    nvml: Nvml, cards: list[Card], width: int, expected: str
) -> None:
    nvml.set(*cards)
    assert machine_line(sight(), width).plain == expected


@pytest.mark.parametrize("width", [60, 30])
def test_a_hot_gpu_is_red_in_any_width(nvml: Nvml, width: int) -> None:
    nvml.set(BUSY, HOT)
    assert [str(span.style) for span in machine_line(sight(), width).spans] == ["red"]


def test_the_machines_screen_tells_what_cannot_be_used(nvml: Nvml) -> None:
    nvml.set(DIVIDED, Card(errors={"nvmlDeviceGetHandleByIndex_v2": "UNKNOWN"}), BARE)
    lines = list(machine_lines(sight()))
    assert lines[0] == "GPU0:0  NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    assert "GPU 1 does not answer: Unknown Error" in lines
    assert "  processes cannot be listed here" in lines


def test_the_machines_screen_says_why_there_is_no_gpu(nvml: Nvml) -> None:
    nvml.absent()
    assert next(iter(machine_lines(sight()))) == "No NVIDIA driver on this machine."


@pytest.mark.parametrize("language", sorted(i18n.LANGUAGES))
def test_the_machines_figures_stand_below_one_another(nvml: Nvml, language: str) -> None:
    nvml.absent()
    i18n.use(language)
    try:
        lines = list(machine_lines(sight()))
    finally:
        i18n.use("en")
    starts = {cell_len(re.match(r"\S+ +", line)[0]) for line in lines[-3:]}  # type: ignore[index]
    assert len(starts) == 1, lines


def test_the_tab_one_is_in_stays_whole_where_the_others_have_no_room() -> None:
    tabs = [("Data", "✓"), ("Config", "✓"), ("Train", "● 45%"), ("Export", ""), ("Chat", "")]
    assert tabs_line(tabs, 0, 80).plain == " 1 Data ✓  2 Config ✓  3 Train ● 45%  4 Export  5 Chat "
    assert tabs_line(tabs, 0, 52).plain == " 1 Data ✓  2 Config ✓  3 Train ●  4 Export  5 Chat "
    for at, (name, _badge) in enumerate(tabs):
        line = tabs_line(tabs, at, 40)
        assert line.cell_len <= 40
        [(start, end, _style)] = line.spans
        assert name in line.plain[start:end]
    assert tabs_line(tabs, 4, 40).plain == " 1 ✓  2 ✓  3 Train ●  4 Export  5 Chat "


def test_keys_are_whole_or_left_out() -> None:
    keys = ["n new", "o 打开", "p preflight"]
    assert keys_line(keys, 40) == "  n new  o 打开  p preflight"
    assert keys_line(keys, 28) == "  n new  o 打开  p preflight"
    assert keys_line(keys, 27) == "  n new  o 打开  …"
    assert keys_line(keys, 16) == "  n new  …"
    assert keys_line(keys, 4) == "  …"
    assert keys_line([], 4) == ""
