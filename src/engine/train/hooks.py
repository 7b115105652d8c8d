"""What rides along in the trainer: saving before a stop, counting tokens, going on exactly.

The hooks are added when the runner is built, so that a config needs no line for
them, and neither the config's dump nor the checkpoints name them.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, get_comm_device, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import FlexibleRunner, Runner
from xtuner.parallel.sequence import get_sequence_parallel_world_size

from engine.train import ranks, saving
from engine.train.continuing import ContinuingHook

FACTS_FILE = "trainer.json"
STARTS_FILE = "starts"
TOKENS = "train/tokens"


class Stopped(Exception):
    """Ends the training loop from inside: the checkpoint is saved."""


def install() -> None:
    """Make every runner register our hooks after the config's own."""
    for runner_class in (Runner, FlexibleRunner):
        _add_hook_to(runner_class)


def _add_hook_to(runner_class: Any) -> None:
    original = runner_class.register_hooks

    def register_hooks(runner: Any, *args: Any, **options: Any) -> None:
        original(runner, *args, **options)
        # HIGH: before the step is logged and saved, with its tokens.
        of_all = RanksHook()
        runner.register_hook(of_all, priority="HIGH")
        # LOWEST: a checkpoint due at this very step has been saved by then.
        runner.register_hook(RunHook(of_all), priority="LOWEST")
        runner.register_hook(ContinuingHook(), priority="LOWEST")

    runner_class.register_hooks = register_hooks


class RanksHook(Hook):  # type: ignore[misc]  # mmengine has no types
    """Counts the tokens of each step over all ranks, and learns whether the run is to stop."""

    def __init__(self) -> None:
        self.stop = False
        """Whether all ranks end after this step."""
        self._tokens = 0

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Count this rank's own, before the model takes the batch apart."""
        self._tokens = _tokens(data_batch)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Tell the other ranks."""
        told = ranks.exchange(Path(runner.work_dir), get_comm_device(), self._tokens)
        self.stop = told.stop
        if told.tokens:
            # With sequence parallel so many ranks have the same batch.
            count = told.tokens // get_sequence_parallel_world_size()
            hub = MessageHub.get_current_instance()
            seen = hub.get_scalar(TOKENS).current() if TOKENS in hub.log_scalars else 0
            # Counted so far; XTuner's own logging writes it down.
            hub.update_scalar(TOKENS, int(seen) + count)


class RunHook(Hook):  # type: ignore[misc]  # mmengine has no types
    """Tells the supervisor that steps are made; saves and ends when asked to.

    Files in the work dir: ``stop`` (theirs: end, please) and ``trainer.json``
    (ours: ``first``, ``steps``, ``started``, and ``stopped``, the step saved);
    ``starts``, a line for each start: XTuner's folder of it, whose own name a clock
    that is set back puts into a wrong order.
    """

    def __init__(self, of_all: RanksHook) -> None:
        self._of_all = of_all
        self._facts: dict[str, Any] = {}

    def before_run(self, runner: Any) -> None:
        """Note the start."""
        if is_main_process():
            with (Path(runner.work_dir) / STARTS_FILE).open("a", encoding="utf-8") as starts:
                starts.write(f"\n{Path(runner.log_dir).name}")

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Note the first step."""
        if not self._facts:
            self._note(runner, first=runner.iter, steps=runner.max_iters, started=time.time())

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save a checkpoint and end the loop when that was asked for."""
        if not self._of_all.stop or self.is_last_train_iter(runner):
            return
        step = runner.iter + 1
        saving.save_now(runner, step)
        barrier()
        self._note(runner, stopped=step)
        runner.logger.info(f"Stopped on request after iteration {step}.")
        raise Stopped

    def _note(self, runner: Any, **facts: Any) -> None:
        self._facts.update(facts)
        if is_main_process():
            path = Path(runner.work_dir) / FACTS_FILE
            temporary = path.with_suffix(".part")
            temporary.write_text(json.dumps(self._facts) + "\n", encoding="utf-8")
            temporary.replace(path)


def _tokens(batch: Any) -> int:
    """Tokens of a batch without padding; 0 when its form is not known."""
    try:
        data = batch["data"]
        mask = data.get("attention_mask")
        if mask is not None and mask.device.type == "cpu":
            return int(mask.sum())
        return int(data["input_ids"].numel())
    except (KeyError, TypeError, AttributeError):
        return 0
