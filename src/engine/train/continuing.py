"""What mmengine does not carry from a checkpoint into a resume.

Without this a resumed run differs from one that was never stopped, in silence:

- *Chance* starts again from the seed, so dropout and sampling differ. Here each
  rank's generators are kept in the checkpoint and put back before its next step.
- *Half an update* is lost. With gradient accumulation a checkpoint may fall
  between two updates; the gradients added so far are not in it, and DeepSpeed
  counts micro-batches from zero again. The weights have not moved since the last
  update, so the micro-batches after it are simply run again, with the chance
  that each had; nothing of that is logged or counted.
- *Changed settings* are undone: the optimizer's and schedulers' saved states
  bring the old learning rate, weight decay and length back. Here the new ones
  hold from the next step on, as if they had been so from the start.
- *Old data is read again*, batch by batch, with a pause of two seconds for each
  epoch passed, only to be thrown away. Here the sampler is moved forward instead.

All of it rides in the message hub, which both the plain and the DeepSpeed form
of a checkpoint keep. A checkpoint of plain XTuner, which has nothing there, is
resumed as far as this goes without.
"""

from __future__ import annotations

import functools
import random
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.optim import ReduceOnPlateauParamScheduler
from mmengine.runner import FlexibleRunner, Runner
from torch.utils.data import BatchSampler

KEY = "continuing"
"""Where it lies in the message hub."""
_PROGRESS = {"last_step", "_global_step", "_last_value"}
"""What a scheduler's state says of its progress; the rest are its settings."""


def install() -> None:
    """Make every runner keep this in its checkpoints, and honour it in a resume."""
    for runner_class in (Runner, FlexibleRunner):
        runner_class.save_checkpoint = _remembering(runner_class.save_checkpoint)
        runner_class.resume = _keeping_changes(runner_class.resume)


class ContinuingHook(Hook):  # type: ignore[misc]  # mmengine has no types
    """Notes each micro-batch's chance since the last update; puts a resumed loop in its place."""

    def __init__(self) -> None:
        self._since_update: list[dict[str, Any]] = []

    def before_train(self, runner: Any) -> None:
        """Take over where a resumed loop gets its data from."""
        loop = runner.train_loop
        if runner.iter and hasattr(loop, "dataloader_iterator"):
            loop.dataloader_iterator = _Onward(runner, loop.dataloader_iterator)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Note the chance that this micro-batch has."""
        if runner.iter % _accumulation(runner) == 0:
            self._since_update.clear()
        self._since_update.append(_chance())

    def remember(self, runner: Any) -> None:
        """Put what a resume needs into the message hub, from all ranks."""
        step = runner.iter + 1  # a checkpoint is saved before the loop counts
        half = step % _accumulation(runner)
        mine = {"now": _chance(), "since_update": self._since_update[-half:] if half else []}
        runner.message_hub.update_info(KEY, {"step": step, "ranks": all_gather_object(mine)})


class _Onward:
    """The loop's iterator over batches after a resume.

    The loop asks for as many batches as it has trained already, to throw them
    away; then for the next one.
    """

    def __init__(self, runner: Any, source: Any) -> None:
        self._runner = runner
        self._source = source
        self._to_skip = runner.iter
        self._begun = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._to_skip:
            self._to_skip -= 1
            return None
        if not self._begun:
            self._begun = True
            self._begin()
        return next(self._source)

    def _begin(self) -> None:
        runner = self._runner
        half = runner.iter % _accumulation(runner)
        _move(self._source, runner.train_loop.dataloader, runner.iter - half)
        saved = _saved(runner)
        chances = saved["since_update"] if saved is not None else []
        if half and hasattr(runner.optim_wrapper, "_inner_count"):
            runner.optim_wrapper._inner_count -= half  # DeepSpeed's counter stands at zero anyway
        for number in range(half):
            batch = next(self._source)
            if len(chances) == half:
                _set_chance(chances[number])
            runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
        if saved is not None:
            _set_chance(saved["now"])


def _accumulation(runner: Any) -> int:
    """Micro-batches to an update."""
    wrapper = runner.optim_wrapper
    count = getattr(wrapper, "_accumulative_counts", None)
    if count is None:
        engine = getattr(wrapper, "_model", None)  # DeepSpeed's
        count = engine.gradient_accumulation_steps() if engine is not None else 1
    return max(1, int(count))


def _saved(runner: Any) -> dict[str, Any] | None:
    """What this rank kept at the step that the run goes on from; None where that is not there."""
    if KEY not in runner.message_hub.runtime_info:
        return None
    kept = runner.message_hub.get_info(KEY)
    if kept["step"] != runner.iter or len(kept["ranks"]) != get_world_size():
        return None
    mine: dict[str, Any] = kept["ranks"][get_rank()]
    return mine


# Chance


def _chance() -> dict[str, Any]:
    """The state of every generator of this process, in types that any reader knows."""
    name, keys, *rest = np.random.get_state(legacy=True)
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "cuda": torch.cuda.get_rng_state().numpy().tobytes() if cuda else b"",
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tobytes(), *rest),
    }


def _set_chance(state: dict[str, Any]) -> None:
    torch.set_rng_state(_tensor(state["torch"]))
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(_tensor(state["cuda"]))
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.frombuffer(keys, dtype=np.uint32), *rest))


def _tensor(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


# Data


def _move(source: Any, loader: Any, count: int) -> None:
    """Move `source`, mmengine's endless iterator over `loader`, to `count` batches from the start.

    Where the order of an epoch follows from its number, the batches before are
    not read: the sampler is moved. Any other one is asked for them.
    """
    batches = loader.batch_sampler
    sampler: Any = getattr(batches, "sampler", None)
    if type(batches) is not BatchSampler or not _numbered(sampler):
        for _number in range(count):
            next(source)
        return
    epoch, offset = divmod(count, len(loader))
    if epoch and not offset:  # the end of one epoch, not the start of the next:
        epoch, offset = epoch - 1, len(loader)  # mmengine turns the page itself
    sampler.set_epoch(epoch)
    batches.sampler = _From(sampler, offset * batches.batch_size, batches)
    source._epoch = epoch
    source._iterator = iter(loader)


def _numbered(sampler: Any) -> bool:
    """Whether a sampler's order depends on nothing but its seed and epoch."""
    return isinstance(sampler, DefaultSampler) or type(sampler).__name__ == "LengthGroupedSampler"


class _From:
    """A sampler without its first `start` indices, once; then the sampler itself is back."""

    def __init__(self, sampler: Any, start: int, owner: BatchSampler) -> None:
        self._sampler, self._start, self._owner = sampler, start, owner

    def __iter__(self) -> Iterator[int]:
        self._owner.sampler = self._sampler
        return islice(iter(self._sampler), self._start, None)

    def __len__(self) -> int:
        return len(self._sampler)


# Settings


def _remembering(save: Callable[..., Any]) -> Callable[..., Any]:
    """A runner's `save_checkpoint`, which every rank calls, with `ContinuingHook` asked first."""

    @functools.wraps(save)
    def save_checkpoint(runner: Any, *args: Any, **options: Any) -> Any:
        for hook in runner.hooks:
            if isinstance(hook, ContinuingHook):
                hook.remember(runner)
        return save(runner, *args, **options)

    return save_checkpoint


def _keeping_changes(load: Callable[..., Any]) -> Callable[..., Any]:
    """A runner's `resume` after which the config's own settings hold, not the checkpoint's."""

    @functools.wraps(load)
    def resume(runner: Any, *args: Any, **options: Any) -> None:
        groups = [_options(group) for group in _groups(runner)]
        schedules = [dict(one.state_dict()) for one in _schedulers(runner)]
        load(runner, *args, **options)
        _apply(runner, groups, schedules)

    return resume


def _apply(runner: Any, groups: list[dict[str, Any]], schedules: list[dict[str, Any]]) -> None:
    """Give optimizer and schedulers the settings that the config made them with."""
    now, schedulers = _groups(runner), _schedulers(runner)
    if len(now) != len(groups) or any(
        isinstance(s, ReduceOnPlateauParamScheduler) for s in schedulers
    ):
        return  # the last follows the loss, not a plan
    written = set(runner.cfg.optim_wrapper.optimizer)
    for group, own in zip(now, groups, strict=True):
        # Only what the config writes: other values there may be an optimizer's progress.
        group.update({key: own[key] for key in written & own.keys() - {"lr"}})
    if schedules and _agree(schedulers, schedules):
        return
    for group, own in zip(now, groups, strict=True):
        group.update({key: own[key] for key in ("lr", "initial_lr") if key in own})
    for scheduler, own in zip(schedulers, schedules, strict=True):
        scheduler.load_state_dict(own)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of steps before the optimizer's: it made them already
        for _step in range(runner.iter):
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
    rates = ", ".join(f"{group['lr']:.4e}" for group in now)
    runner.logger.info(f"The learning rate follows the config's settings: {rates}")


def _agree(schedulers: list[Any], own: list[dict[str, Any]]) -> bool:
    """Whether what the checkpoint brought is the config's own plan of the learning rate."""
    return [_plan(one.state_dict()) for one in schedulers] == [_plan(one) for one in own]


def _plan(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key not in _PROGRESS}


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


def _groups(runner: Any) -> list[dict[str, Any]]:
    optimizer = getattr(runner.optim_wrapper, "optimizer", None)
    return list(getattr(optimizer, "param_groups", []))


def _schedulers(runner: Any) -> list[Any]:
    found = runner.param_schedulers
    return found if isinstance(found, list) else []
