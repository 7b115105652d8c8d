"""Memory of real XTuner training steps, one plan after another in one process.

The model and optimizer of a plan (`training_plan.py`), XTuner's collate function;
random tokens. What a Runner adds to these holds no device memory.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import device_memory
import random_model
import ranks
from training_plan import Plan, Shape, build, prepare


def measure(
    plan: Plan, toy: bool, scratch: Path, left: Callable[[], float]
) -> Iterator[dict[str, Any]]:
    """Train with each shape of `plan`; a result each, in bytes. Stops when no seconds are `left`.

    An error of one shape is its result's ``error``; one of the model is raised. Where
    one of several ranks alone had it, the plan is given up.
    """
    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"
    sizes = random_model.SIZES[plan.size]
    if toy:
        sizes = random_model.toy(sizes)
    device_memory.clean()
    idle = device_memory.used() - device_memory.reserved()
    before = device_memory.allocated()
    started = time.monotonic()
    model = wrapper = close = None
    try:
        with ranks.all_or_none():
            where = random_model.folder(sizes, scratch / plan.size)
            model, optimizer = build(plan, where, device)
        with ranks.all_or_none():  # by itself: in here one waits for the other
            model, wrapper, close = prepare(plan, model, optimizer, device)
        prepared = device_memory.peak_since()
        built = time.monotonic() - started
        facts = {
            "plan": plan.name,
            "sizes": sizes,
            "config": plan.config(str(where)),
            "zero": plan.zero,
            "deepspeed": plan.deepspeed(),
            "ranks": ranks.count(),
            "idle": idle,
            "before": before,
            "prepared_peak": prepared,
            "build_s": round(built, 2),
            "parameters": _count(model),
        }
        for shape in plan.shapes:
            if not ranks.agreed(left() > 0):
                return
            mine = _shape(plan, shape, model, wrapper, sizes, toy)
            found = ranks.of_all({**facts, "fresh": shape is plan.shapes[0], **mine})
            yield found
            if 0 < len(found.get("broken", [])) < ranks.count():
                return
    finally:
        if close is not None:
            close()
        model = wrapper = close = None
        device_memory.clean()


def _shape(
    plan: Plan, shape: Shape, model: Any, wrapper: Any, sizes: Any, toy: bool
) -> dict[str, Any]:
    lengths = [max(8, one // 64) if toy else one for one in shape.lengths()]
    facts: dict[str, Any] = {
        "batch": shape.batch,
        "length": max(lengths),
        "packed": shape.packed,
        "expected": shape.expected << 20,
    }
    device_memory.clean()
    started = time.monotonic()
    try:
        batch = _batch(lengths, sizes["vocab_size"])
        with contextlib.closing(_Phases(wrapper)) as phases:
            least = plan.accumulation * (2 if plan.zero == 3 else 1)
            steps = [_step(model, wrapper, batch, phases) for _one in range(least)]
            while not _stepped(wrapper, plan) and len(steps) < 5 * least:
                steps.append(_step(model, wrapper, batch, phases))  # the loss scale was too large
            # Now beside the optimizer's state; ZeRO-3 gathers ahead when it has seen two.
            steps += [_step(model, wrapper, batch, phases) for _one in range(plan.accumulation)]
            facts |= {
                "first": steps[0],
                "later": steps[-1],
                "peak": max((one["peak"] for one in steps), default=0),
                "static": device_memory.allocated(),
                "reserved": device_memory.reserved(),
                "used": device_memory.used(),
                "process": device_memory.process(),
                "losses": [one["loss"] for one in steps],
                "stepped": _stepped(wrapper, plan),
            }
            facts["step_s"] = steps[-1]["seconds"]
            if (
                torch.cuda.is_available()
                and not plan.zero
                and plan.accumulation == 1
                and ranks.count() == 1
            ):
                facts["cap"] = _cap(model, wrapper, batch, phases, int(facts["peak"]))
    except Exception as error:
        facts["error"] = ranks.words(error)
        _forget(wrapper)
    facts["seconds"] = round(time.monotonic() - started, 2)
    return facts


class _Phases:
    """Notes the peak of each part of a step: forward with the loss, backward, optimizer."""

    def __init__(self, wrapper: Any) -> None:
        self.peaks: dict[str, int] = {}
        self.wrapper = wrapper
        backward, step = wrapper.backward, wrapper.step

        def timed_backward(*args: Any, **options: Any) -> None:
            self.peaks["forward"] = device_memory.peak_since()
            backward(*args, **options)
            self.peaks["backward"] = device_memory.peak_since()

        def timed_step(*args: Any, **options: Any) -> None:
            step(*args, **options)
            self.peaks["step"] = device_memory.peak_since()

        wrapper.backward, wrapper.step = timed_backward, timed_step

    def close(self) -> None:
        """The wrapper as it was."""
        del self.wrapper.backward, self.wrapper.step


def _step(model: Any, wrapper: Any, batch: Any, phases: _Phases) -> dict[str, Any]:
    phases.peaks = {}
    device_memory.peak_since()
    started = time.monotonic()
    data = {"data": dict(batch["data"]), "data_samples": None}
    loss = model.train_step(data, optim_wrapper=wrapper)["loss"]
    told = float(loss)
    seconds = time.monotonic() - started
    after = device_memory.peak_since()
    peaks = dict(phases.peaks)
    return {
        **peaks,
        "peak": max(after, *peaks.values()),
        "loss": told,
        "seconds": round(seconds, 3),
    }


def _cap(model: Any, wrapper: Any, batch: Any, phases: _Phases, peak: int) -> dict[str, Any]:
    """How little memory the allocator can do with: the least multiple of `peak` that trains."""
    total = torch.cuda.mem_get_info()[1]
    tried: dict[str, Any] = {}
    for factor in (1.02, 1.06, 1.15):
        device_memory.clean()
        torch.cuda.set_per_process_memory_fraction(min(1.0, peak * factor / total))
        try:
            _step(model, wrapper, batch, phases)
            tried[str(factor)] = "trains"
            break
        except torch.OutOfMemoryError:
            tried[str(factor)] = "out of memory"
            _forget(wrapper)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    return tried


def _forget(wrapper: Any) -> None:
    """Drop what a broken step has left behind."""
    with contextlib.suppress(NotImplementedError):  # DeepSpeed drops its own
        wrapper.zero_grad()
    device_memory.clean()


def _batch(lengths: list[int], vocabulary: int) -> Any:
    """XTuner's collate function over rows of random tokens."""
    from xtuner.dataset.collate_fns import default_collate_fn

    chance = random.Random(0)
    rows = []
    for length in lengths:
        tokens = [chance.randrange(3, vocabulary) for _ in range(length)]
        rows.append({"input_ids": tokens, "labels": tokens})
    return default_collate_fn(rows)


def _stepped(wrapper: Any, plan: Plan) -> bool:
    """Whether the optimizer holds its state (a GradScaler skips steps that overflow)."""
    return bool(plan.zero or wrapper.optimizer.state)


def _count(model: Any) -> dict[str, int]:
    """Bytes of parameters by kind of number and whether they are trained."""
    found: dict[str, int] = {}
    for parameter in getattr(model, "module", model).parameters():
        kind = ("trained " if parameter.requires_grad else "frozen ") + str(parameter.dtype)
        found[kind] = found.get(kind, 0) + parameter.numel() * parameter.element_size()
    return found
