"""The table of alarms: what each means, what to do, whether it outlives the run."""

from __future__ import annotations

from typing import NamedTuple

from engine.i18n import N_
from engine.run.reasons import Words, fill
from engine.run.state import Alarm


class Row(NamedTuple):
    """One alarm in words. The values of the alarm fill the sentences."""

    reason: str
    todo: str
    lasting: bool = False
    """Whether it says something about the result: such a one still counts after the end."""


_RESUME_BEFORE = N_(
    "Stop it, and resume from a checkpoint before step {step} with a lower lr "
    "(or a longer warm-up, or a smaller max_norm)."
)
_WHERE_IT_HANGS = N_(
    "Look at the log's end; `py-spy dump --pid PID` shows where a process waits. Then kill it."
)

TABLE: dict[str, Row] = {
    "loss-nan": Row(
        N_("The loss is not a number since step {step}: nothing is learned any more."),
        N_(
            "Stop it, check the data for samples without an answer, "
            "and resume from a checkpoint before step {step} in bfloat16 or with a lower lr."
        ),
        lasting=True,
    ),
    "gradient-nan": Row(
        N_("The gradient is not a number since step {step}."),
        N_(
            "Such steps are skipped, or spoil the weights: see whether the loss still falls. "
            "Use bfloat16 instead of float16, or a lower lr."
        ),
        lasting=True,
    ),
    "loss-spike": Row(
        N_("The loss jumped at step {step}, from about {before} to {after}, and stays there."),
        _RESUME_BEFORE,
        lasting=True,
    ),
    "loss-zero": Row(
        N_("The loss is zero since step {step}: there is nothing to learn from."),
        N_(
            "See whether the samples carry any loss (`tunedeck data show` with the model); "
            "in float16 it may have overflowed: use bfloat16."
        ),
        lasting=True,
    ),
    "lr-flat": Row(
        N_("The learning rate has not risen above {lr} in {steps} steps: nothing is learned."),
        N_(
            "The warm-up never ends, most often because it rounds to a single step. "
            "Stop it, and raise warmup_ratio or max_epochs (preflight says how far)."
        ),
        lasting=True,
    ),
    "stall": Row(
        N_("No step since {since}; one comes every {usual} otherwise."),
        _WHERE_IT_HANGS,
    ),
    "stall.idle": Row(
        N_("No step since {since} (one comes every {usual} otherwise), and its GPUs are idle."),
        _WHERE_IT_HANGS,
    ),
    "stall.saving": Row(
        N_("It has been saving a checkpoint since {since}, and the checkpoint does not grow."),
        N_("See whether the disk answers (a network disk?) and has room."),
    ),
    "stall.answering": Row(
        N_("Its evaluation has said nothing since {since}."),
        N_("Lower max_new_tokens if answers may take as long; else kill it, and resume."),
    ),
    "hang": Row(N_("No first step, and not a word since {since}."), _WHERE_IT_HANGS),
    "hang.imports": Row(
        N_("It has been loading its libraries since {since}, and nothing moves."),
        N_("See whether the disk of the training environment answers."),
    ),
    "hang.nodes": Row(
        N_("It has waited for its other nodes since {since}."),
        N_("See whether their lines were started, and whether they reach the first node."),
    ),
    "hang.model": Row(
        N_("It has been loading the model since {since}, and nothing moves."),
        N_("See whether the model's disk or the hub answers, and whether memory is full."),
    ),
    "hang.data": Row(
        N_("It has been at the data since {since}, and nothing moves."),
        N_("Lower map_num_proc, and see whether the disk and the hub answer."),
    ),
    "hang.first_step": Row(
        N_("It is ready, but its first step has not come since {since}."),
        N_("With several GPUs one may wait for another: NCCL_DEBUG=INFO says more. Then kill it."),
    ),
    "node-silent": Row(
        N_("Nothing was heard since {since} of node {nodes}."),
        N_("See whether it can be reached and whether its process runs; then stop and resume."),
    ),
    "disk": Row(
        N_("The next checkpoint ({need}) does not fit on the disk: {free} are free."),
        N_("Make room now (old checkpoints, caches): a checkpoint cut short is of no use."),
    ),
    "disk.low": Row(
        N_("The disk is nearly full: {free} are free."),
        N_("Make room now (old checkpoints, caches)."),
    ),
    "memory": Row(
        N_("The host's memory is nearly full: {free} of {total} are left."),
        N_("The system may kill the run. Use fewer workers, or end what else runs there."),
    ),
    "gpu-hot": Row(
        N_("GPU {gpus} slows itself down: it is too hot ({temperature} °C)."),
        N_("See to its cooling; `nvidia-smi -q -d PERFORMANCE` says more."),
    ),
    "gpu-power": Row(
        N_("GPU {gpus} slows itself down: its power supply asks for it."),
        N_("See to the machine's power; `nvidia-smi -q -d PERFORMANCE` says more."),
    ),
    "gpu-memory": Row(
        N_("GPU {gpus} has memory errors that it could not correct ({count})."),
        N_("Results may be wrong: save, stop, and have the card reset or changed."),
        lasting=True,
    ),
    "gpu-lost": Row(
        N_("GPU {gpus} does not answer any more."),
        N_("Kill the run; the card needs a reset or the machine a restart (see `dmesg`)."),
    ),
    "hook": Row(
        N_("Your alarm command failed ({status}): {output}"),
        N_("`tunedeck doctor --try-hook` runs it once and shows all that it says."),
    ),
}
"""By code, or by code and case (``stall.idle``) where the words depend on the circumstances."""

CODES = frozenset(code.partition(".")[0] for code in TABLE)


def row(alarm: Alarm) -> Row:
    """The row of `alarm`; one that another version wrote speaks by its code."""
    special = TABLE.get(f"{alarm.code}.{alarm.values.get('case', '')}")
    return special or TABLE.get(alarm.code) or Row(alarm.code, "")


def say(alarm: Alarm) -> Words:
    """`alarm` in the language in use: one sentence, and what to do."""
    words = row(alarm)
    return Words(fill(words.reason, alarm.values), fill(words.todo, alarm.values))
