"""The schedule's verdict against mmengine's own schedulers."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from engine.config.checks import schedule
from engine.config.checks.loaded import Loaded

CASES = [
    (ratio, epochs, per_epoch)
    for ratio in (0.03, 0.1)
    for epochs in (1, 3, 0.5)
    for per_epoch in (3, 7, 11, 20, 22, 23, 33, 34, 66, 67, 134)
] + [(0.0, 1, 50), (1.0, 1, 5), (0.7, 3, 1)]

REAL = """
import json, sys, torch
from mmengine.optim import LinearLR
verdicts = []
for ratio, epochs, per_epoch in json.load(sys.stdin):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    total = int(epochs * per_epoch)
    try:
        warm_up = LinearLR.build_iter_from_epoch(
            optimizer=optimizer, start_factor=1e-5, by_epoch=True, begin=0,
            end=ratio * epochs, epoch_length=per_epoch)
    except ValueError:
        verdicts.append("warmup-zero")
        continue
    rates = []
    for step in range(max(total, 3)):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        warm_up.step()
    verdicts.append("warmup-one-step" if max(rates) < 0.01 else "")
print(json.dumps(verdicts))
"""


def config(ratio: float, epochs: float) -> Loaded:
    warm_up = {
        "type": {"$ref": "mmengine.optim:LinearLR"},
        "by_epoch": True,
        "begin": 0,
        "end": ratio * epochs,
        "convert_to_iter_based": True,
    }
    return Loaded(
        {
            "values": {
                "warmup_ratio": ratio,
                "max_epochs": epochs,
                "param_scheduler": [warm_up],
                "train_cfg": {"max_epochs": epochs},
            }
        }
    )


@pytest.mark.slow
def test_the_warm_up_verdict_is_mmengines_behaviour() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", REAL], input=json.dumps(CASES), capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    real = json.loads(ran.stdout)
    assert set(real) == {"", "warmup-zero", "warmup-one-step"}
    for (ratio, epochs, per_epoch), verdict in zip(CASES, real, strict=True):
        size = schedule.Plan(per_epoch, max(1, int(epochs * per_epoch)))
        found = schedule.check(config(ratio, epochs), size)
        codes = {one.code for one in found if one.code.startswith("warmup")}
        assert codes == ({verdict} if verdict else set()), (ratio, epochs, per_epoch)


@pytest.mark.parametrize("per_epoch", [7, 20, 30])
def test_the_fix_puts_the_warm_up_right(per_epoch: int) -> None:
    size = schedule.Plan(per_epoch, per_epoch)
    (found,) = schedule.check(config(0.03, 1), size)
    assert found.fix is not None
    assert found.fix.field == "warmup_ratio"
    assert schedule.check(config(found.fix.value, 1), size) == []


def _by_iterations(end: int, **more: float) -> Loaded:
    kind = {"type": {"$ref": "mmengine.optim:LinearLR"}, "by_epoch": False, "begin": 0}
    return Loaded({"values": {"param_scheduler": [kind | {"end": end} | more]}})


def test_a_warm_up_longer_than_the_training_is_told() -> None:
    size = schedule.Plan(50, 100)
    (found,) = schedule.check(_by_iterations(101, start_factor=1e-5), size)
    assert (found.level, found.code) == ("warning", "warmup-beyond-end")
    assert found.field == "param_scheduler.0.end"
    assert schedule.check(_by_iterations(100, start_factor=1e-5), size) == []
    # A fall that the training breaks off is no warm-up.
    assert schedule.check(_by_iterations(101, start_factor=1.0, end_factor=0.0), size) == []


def test_a_training_that_is_too_short_for_a_warm_up_gets_no_false_fix() -> None:
    (found,) = schedule.check(config(0.03, 1), schedule.Plan(3, 3))
    assert found.fix is None
    assert "epochs" in found.todo


@pytest.mark.parametrize(
    ("samples", "processes", "batch", "epochs", "steps"),
    [(80, 1, 4, 3, 60), (81, 1, 4, 1, 21), (81, 2, 4, 1, 11), (1, 8, 4, 1, 1), (0, 1, 1, 3, 0)],
)
def test_iterations_are_counted_as_xtuner_counts(
    samples: int, processes: int, batch: int, epochs: int, steps: int
) -> None:
    values = {"train_dataloader": {"batch_size": batch}, "train_cfg": {"max_epochs": epochs}}
    assert schedule.plan(Loaded({"values": values}), samples, processes).total == steps


def test_max_iters_is_the_length() -> None:
    values = {"train_dataloader": {"batch_size": 1}, "train_cfg": {"max_iters": 400}}
    assert schedule.plan(Loaded({"values": values}), 10, 1) == schedule.Plan(10, 400)
