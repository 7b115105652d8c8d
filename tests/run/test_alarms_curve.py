"""Alarms of the curve: on real histories of XTuner, on noise, and on seeded faults."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from engine.run.alarms import curve, say
from engine.run.points import FIELDS, History
from engine.run.progress import Follower
from engine.run.state import Alarm

RUNS = Path(__file__).parent.parent / "fixtures" / "runs"


def raised(history: History, fresh: bool = True) -> dict[str, Alarm]:
    """Every alarm that the history raises as it grows, point by point."""
    part, checks = History(), curve.checks(fresh)
    part.named = history.named
    found: dict[str, Alarm] = {}
    for at in range(len(history)):
        part.step.append(history.step[at])
        for name in FIELDS:
            part[name].append(history[name][at])
        for code, check in checks.items():
            alarm = check(part)
            if alarm is not None:
                found.setdefault(code, alarm)
    return found


def history(
    losses: Iterable[float],
    every: int = 10,
    lr: Callable[[int], float] = lambda step: 2e-4,
    norm: Callable[[int], float] = lambda step: 0.6,
) -> History:
    made = History()
    made.named = {"loss", "lr", "grad_norm"}
    for number, loss in enumerate(losses, 1):
        step = number * every
        made.step.append(step)
        values = {"loss": loss, "lr": lr(step), "grad_norm": norm(step)}
        for name in FIELDS:
            made[name].append(values.get(name, math.nan))
    return made


def read(run: str) -> History:
    follower = Follower(RUNS / run)
    follower.update()
    return follower.history


@pytest.mark.parametrize("run", ["lora-zero2", "qlora", "qlora-zero2", "tiny-zero2", "demo"])
def test_a_healthy_real_run_raises_nothing(run: str) -> None:
    assert len(read(run)) >= 72
    assert raised(read(run)) == {}


def test_gradients_that_were_no_numbers_in_a_real_run() -> None:
    found = raised(read("lora"))
    assert list(found) == ["gradient-nan"]
    assert "since step 2" in say(found["gradient-nan"]).reason


def test_a_real_run_whose_learning_rate_never_rose() -> None:
    found = raised(read("lora-lr-never-rises"))
    assert list(found) == ["lr-flat"]
    assert "2e-09" in say(found["lr-flat"]).reason


def falling(number: int) -> float:
    return 0.7 + 1.8 * math.exp(-number / 60)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("scatter", [0.1, 0.4, 0.8])
def test_noise_is_no_alarm(seed: int, scatter: float) -> None:
    """Losses of single samples scatter like this, lopsidedly, with no window of means."""
    dice = random.Random(seed)
    losses = [falling(n) * math.exp(dice.gauss(0, scatter)) for n in range(600)]
    assert raised(history(losses)) == {}
    assert raised(history(losses, every=1)) == {}


def test_one_bad_batch_in_a_window_of_means_is_no_alarm() -> None:
    losses = [falling(n) + (3.0 if 200 <= n < 210 else 0.0) for n in range(400)]
    assert raised(history(losses, every=1)) == {}


def test_a_loss_that_jumps_and_stays() -> None:
    losses = [falling(n) + (5.0 if n >= 200 else 0.0) for n in range(260)]
    found = raised(history(losses))
    assert list(found) == ["loss-spike"]
    assert found["loss-spike"].values["step"] == "2010"


def test_a_jump_is_over_when_the_loss_is_back() -> None:
    losses = [falling(n) + (5.0 if 200 <= n < 220 else 0.0) for n in range(260)]
    check, whole = curve.Spike(), history(losses)
    states = []
    for end in range(1, len(whole) + 1):
        part = History()
        part.step = whole.step[:end]
        part.values = {name: whole[name][:end] for name in FIELDS}
        states.append(check(part) is not None)
    changes = [at for at in range(1, len(states)) if states[at] != states[at - 1]]
    assert len(changes) == 2 and not states[-1]


def test_a_rise_while_warming_up_is_no_alarm() -> None:
    losses = [1.0 if n < 30 else 6.0 for n in range(60)]
    assert raised(history(losses, lr=lambda step: step * 1e-6)) == {}


def test_a_loss_that_is_no_number_once_or_for_good() -> None:
    once = [math.nan if n == 50 else 1.0 for n in range(100)]
    assert raised(history(once)) == {}
    in_one_window = [math.nan if 50 <= n < 60 else 1.0 for n in range(100)]
    assert raised(history(in_one_window, every=1)) == {}
    found = raised(history([math.nan if n >= 50 else 1.0 for n in range(100)]))
    assert found["loss-nan"].values == {"step": "510"}


def test_overflow_under_loss_scaling_is_normal_in_a_row_it_is_not() -> None:
    losses = [falling(n) for n in range(100)]
    first_steps = history(losses, norm=lambda step: math.inf if step <= 20 else 0.6)
    assert raised(first_steps) == {}
    now_and_then = history(losses, norm=lambda step: math.inf if step % 200 == 0 else 0.6)
    assert raised(now_and_then) == {}
    found = raised(history(losses, norm=lambda step: math.inf if step > 500 else 0.6))
    assert list(found) == ["gradient-nan"]


def test_deepspeed_writes_no_gradient_norm_which_is_no_alarm() -> None:
    without = history([falling(n) for n in range(100)], norm=lambda step: math.nan)
    without.named.remove("grad_norm")
    assert raised(without) == {}


def test_a_loss_of_zero_but_not_a_small_one() -> None:
    assert list(raised(history([0.0] * 30))) == ["loss-zero"]
    assert raised(history([1e-4] * 30)) == {}


def test_a_long_warm_up_is_not_one_that_never_ends() -> None:
    slow = history([2.0] * 400, lr=lambda step: 1e-6 * (1e-5 + step / 100_000))
    assert raised(slow) == {}


def test_a_run_that_goes_on_near_its_end_has_a_tiny_rate_by_right() -> None:
    end = history([0.7] * 40, lr=lambda step: 1e-11)
    assert "lr-flat" in raised(end)
    assert raised(end, fresh=False) == {}


def test_an_alarm_ends_with_the_first_number(tmp_path: Path) -> None:
    start = tmp_path / "20260101_000000" / "vis_data" / "scalars.json"
    start.parent.mkdir(parents=True)
    start.write_text("".join(f'{{"step": {n}0, "loss": NaN}}\n' for n in range(1, 6)))
    follower = Follower(tmp_path)
    check = curve.checks(fresh=True)["loss-nan"]
    assert check(follower.update().history) is not None
    with start.open("a") as file:
        file.write('{"step": 60, "loss": 1.5}\n')
    assert check(follower.update().history) is None
