"""The machine's figures stand still while they only waver, and follow what really moves."""

from __future__ import annotations

from engine.machine.gpu import Gpu, Gpus
from engine.machine.host import Host
from tui.steady import Steady
from tui.watch import Sight
from tui.widgets.strips import machine_line

GB = 10**9


def sight(cpu: float, used: float, gpus: Gpus | None = None) -> Sight:
    host = Host(cpu, 8, int(used * GB), 64 * GB, 5 * GB, 9 * GB)
    return Sight(Gpus([], "none") if gpus is None else gpus, host, [])


def card(used: float, util: int, temperature: int | None = 60) -> Gpus:
    return Gpus([Gpu(0, "H100", int(used * GB), 80 * GB, util, temperature, 300.0, [])])


def test_a_wavering_load_is_not_drawn_again() -> None:
    steady = Steady()
    seen = [sight(cpu, 20 + cpu / 100) for cpu in (0, *(40, 70, 20, 55, 45, 65) * 5)]
    lines = [machine_line(steady.of(one), 60).plain for one in seen]
    assert len(set(lines[10:])) == 1
    assert "CPU  45%" in lines[-1] and "20.0 GB/64.0 GB" in lines[-1]
    assert seen[-1].host.cpu == 65, "what was seen stays as it was"


def test_a_load_that_goes_and_memory_that_fills_are_told() -> None:
    steady = Steady()
    for _look in range(10):
        steady.of(sight(90, 20))
    for _look in range(10):
        steady.of(sight(0, 20))
    line = machine_line(steady.of(sight(0, 24)), 60).plain
    assert "CPU   0%" in line and "24.0 GB/64.0 GB" in line


def test_a_gpu_that_is_set_free_is_told_at_once() -> None:
    steady = Steady()

    def line(gpus: Gpus) -> str:
        return machine_line(steady.of(sight(5, 20, gpus)), 78).plain

    busy = line(card(40, 97, 60))
    assert busy == line(card(40.3, 99, 61)) == line(card(39.8, 94, None)).replace("97%", "97% 60°")
    assert "41.0 GB/80.0 GB  97%" in line(card(41, 95))
    assert "0 B/80.0 GB   0%" in line(card(0, 0))
    assert " 4%" not in line(card(0, 4)), "a flicker"
    assert " 62°" in line(card(0, 4, 62))
