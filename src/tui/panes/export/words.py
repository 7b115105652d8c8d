"""What the export's steps say of themselves: a line each, and more of the one under the cursor."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.i18n import N_, _
from engine.text import one_line, size
from engine.workspace import Workspace

if TYPE_CHECKING:
    from engine.export.plan import Plan

STEPS = (N_("Checkpoint"), N_("Adapter"), N_("Merge"), N_("Verify"), N_("Hand over"))
CHECKPOINT, ADAPTER, MERGE, VERIFY, HAND_OVER = range(5)


def next_step(plan: Plan | None) -> int:
    """The first step that is not done."""
    if plan is None:
        return CHECKPOINT
    if not plan.converted:
        return ADAPTER
    if not plan.is_merged:
        return MERGE
    return VERIFY if plan.verified is None else HAND_OVER


def summary(plan: Plan | None, step: int, workspace: Workspace) -> str:
    """`step` in one line: its result, or what it will do and cost."""
    if plan is None:
        return _("no run with a checkpoint yet") if step == CHECKPOINT else ""
    if step == CHECKPOINT:
        run = plan.checkpoint.parent.name
        return f"{run} / {plan.checkpoint.name}  {size(plan.checkpoint_bytes)}"
    if step == ADAPTER:
        return workspace.relative(plan.adapter) if plan.converted else _("seconds, no base model")
    if step == MERGE:
        if plan.is_merged:
            return workspace.relative(plan.merged)
        if plan.base is None:
            return _("press b: the base model {name} is not here").format(name=plan.base_name)
        return _("onto {base} · its own dtype · {size} on disk").format(
            base=plan.base.name, size=size(plan.base_bytes)
        )
    if step == VERIFY:
        if plan.verified is None:
            return _("merged model and adapter must answer alike")
        if plan.verified.agree:
            return _("they agree on {count} prompts").format(count=len(plan.verified.prompts))
        return _("they differ: do not use this model")
    return _("chat with it, or serve it") if plan.verified else ""


def explained(plan: Plan | None, step: int) -> Iterator[str]:
    """`step` in several lines: what it does, its paths, what came of it."""
    if plan is None:
        yield _("A checkpoint of a training run becomes an adapter, then a whole model.")
        yield _("Train something first (tab 3), or press c and give a path.")
    elif step == CHECKPOINT:
        yield str(plan.checkpoint)
        yield _("c chooses another one.")
    elif step == ADAPTER:
        yield _("The trained LoRA weights as a PEFT adapter in safetensors.")
        yield str(plan.adapter)
    elif step == MERGE:
        yield _("The adapter computed into the base model's weights, one tensor at a time.")
        yield f"{_('base')}    {plan.base or plan.base_name or '?'}"
        yield f"{_('result')}  {plan.merged}"
    elif step == VERIFY:
        yield from _verified(plan)
    else:
        yield from _hand_over(plan)


def _verified(plan: Plan) -> Iterator[str]:
    found = plan.verified
    if found is None:
        yield _("Both answer the same questions, greedily; first-token logits are compared.")
        return
    yield _("Largest logit difference {diff:.4g}; rounding to {dtype} explains {room:.4g}.").format(
        diff=found.max_logit_diff, dtype=found.dtype, room=found.tolerance
    )
    for row in found.prompts:
        yield f"? {one_line(row.prompt)}"
        sign = "=" if row.adapter == row.merged else "≠"
        yield f"  {sign} {one_line(row.merged)[:200]}"


def _hand_over(plan: Plan) -> Iterator[str]:
    """Where the model lies and the commands that serve it, ready to copy."""
    merged = shlex.quote(str(plan.merged))
    yield _("The model lies in {path}").format(path=plan.merged)
    yield ""
    yield f"tunedeck chat {merged}"
    yield f"vllm serve {merged}"
    yield f"lmdeploy serve api_server {merged}"
