"""What the export's steps say of themselves: a line each, and more of the one under the cursor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import set_cell_size

from engine.i18n import N_, _, ngettext, sentences
from engine.text import duration, one_line, size
from engine.workspace import Workspace
from tui.widgets.gauge import bar

if TYPE_CHECKING:
    from engine.export.job import State, Step
    from engine.export.plan import Plan
    from tui.panes.export.look import Look

STEPS = (N_("Checkpoint"), N_("Adapter"), N_("Merge"), N_("Verify"), N_("Hand over"))
CHECKPOINT, ADAPTER, MERGE, VERIFY, HAND_OVER = range(5)
_JOB_STEPS = {"convert": ADAPTER, "merge": MERGE, "verify": VERIFY, "gguf": HAND_OVER}
DOES: dict[int, Step] = {ADAPTER: "convert", MERGE: "merge", VERIFY: "verify"}
"""What a job is told to do for a line that says what comes of it."""
_DOING = {"gguf": N_("GGUF file"), "upload": N_("Upload")}

_LABEL = 8
"""Cells of a label in the small table of a merge."""


def next_step(plan: Plan | None) -> int:
    """The first step that is not done."""
    if plan is None:
        return CHECKPOINT
    left = plan.left
    return _JOB_STEPS[left[0]] if left else HAND_OVER


def step_of(state: State) -> int:
    """The line of the step that a job is at."""
    return _JOB_STEPS.get(state.step, HAND_OVER)


def fault(plan: Plan, step: int) -> str:
    """What the result of a step lacks, if it is there and not whole; else ""."""
    does = DOES.get(step)
    return plan.faults.get(does, "") if does is not None else ""


def name(step: int, plan: Plan | None) -> str:
    """What a step is called."""
    return _("Model") if step == ADAPTER and plan is not None and plan.whole else _(STEPS[step])


def summary(seen: Look | None, step: int, workspace: Workspace) -> str:
    """`step` in one line: its result, or what it will do and cost."""
    if seen is None:
        return _("no run with a checkpoint yet") if step == CHECKPOINT else ""
    plan = seen.plan
    if step == CHECKPOINT:
        return _checkpoint(seen)
    if fault(plan, step):
        made = plan.made_by(DOES[step])
        return _("{path} is not whole").format(path=workspace.relative(made))
    if step == ADAPTER:
        made = plan.made_by("convert")
        if plan.converted:
            return workspace.relative(made)
        if plan.whole:
            return _("the whole model was trained · {size} on disk").format(
                size=size(plan.checkpoint_bytes)
            )
        return _("seconds, no base model")
    if step == MERGE:
        return _merge(seen, workspace)
    if step == VERIFY:
        return _verify(plan)
    return _("commands, copies, GGUF, upload; chat with it") if plan.verified else ""


def _checkpoint(seen: Look) -> str:
    plan = seen.plan
    parts = [f"{plan.checkpoint.parent.name} / {plan.checkpoint.name}"]
    if not seen.complete:
        parts.append(_("torn: cut off while it was saved"))
    if seen.loss is not None:
        parts.append(f"loss {seen.loss:.3f}")
    parts.append(size(plan.checkpoint_bytes))
    if seen.others > 1:
        parts.append(_("{count} kept").format(count=seen.others))
    return "  ".join(parts)


def _merge(seen: Look, workspace: Workspace) -> str:
    plan = seen.plan
    if plan.whole:
        return _("nothing to merge")
    if plan.is_merged:
        return workspace.relative(plan.merged)
    if plan.base is None:
        return _("press b: the base model {name} is not here").format(name=plan.base_name)
    parts = [_("onto {base}").format(base=plan.base.name)]
    if seen.choices.dtype != "auto":
        parts.append(seen.choices.dtype)
    if seen.costs is not None:
        disk, free = size(seen.costs.disk), size(seen.costs.free)
        parts += [seen.costs.time, _("{disk} of {free} free").format(disk=disk, free=free)]
    return " · ".join(parts)


def _verify(plan: Plan) -> str:
    if plan.verified is None:
        if plan.whole:
            return _("does it load, and answer?")
        return _("merged model and adapter must answer alike")
    count = len(plan.verified.prompts)
    if plan.verified.alone and plan.verified.agree:
        return ngettext(
            "it loads and answers {count} prompt", "it loads and answers {count} prompts", count
        ).format(count=count)
    if plan.verified.agree:
        return ngettext(
            "they agree on {count} prompt", "they agree on {count} prompts", count
        ).format(count=count)
    return _("they differ: do not use this model")


def explained(seen: Look | None, step: int) -> Iterator[str]:
    """`step` in several lines: what it does, its paths, what came of it."""
    if seen is None:
        yield _("A checkpoint of a training run becomes an adapter, then a whole model.")
        yield _("Train something first (F4), or press c and give a path.")
        return
    plan = seen.plan
    if why := fault(plan, step):
        yield why
        yield _("r makes it anew, and takes away what is there.")
        yield ""
    if step == CHECKPOINT:
        yield str(plan.checkpoint)
        yield _("c chooses another one.")
        for one in seen.answers:
            yield ""
            yield f"? {one_line(one.question)}"
            yield f"  {one_line(one.answer)[:400]}"
    elif step == ADAPTER and plan.whole:
        yield _("The trained weights as a model's folder, with the base model's tokenizer.")
        yield _fact(_("base"), str(plan.base or plan.base_name or "?"))
        yield _fact(_("result"), str(plan.merged))
    elif step == ADAPTER:
        yield _("The trained LoRA weights as a PEFT adapter in safetensors.")
        yield str(plan.adapter)
    elif step == MERGE and plan.whole:
        yield _("The whole model was trained: there is no adapter to merge.")
    elif step == MERGE:
        yield from _merging(seen)
    elif step == VERIFY:
        yield from _verified(plan)
    else:
        yield from _hand_over(seen)


def _fact(label: str, text: str) -> str:
    """A line of a small table."""
    return set_cell_size(label, _LABEL) + text


def _merging(seen: Look) -> Iterator[str]:
    plan, chosen = seen.plan, seen.choices
    yield _("The adapter computed into the base model's weights, one tensor at a time.")
    yield _fact(_("base"), str(plan.base or plan.base_name or "?"))
    yield _fact(_("result"), str(plan.merged))
    if plan.is_merged:
        return
    device = _("a GPU if one is free, else the CPU") if chosen.device == "auto" else chosen.device
    yield _fact(_("on"), device)
    dtype = _("as the base has it") if chosen.dtype == "auto" else chosen.dtype
    yield _fact(_("type"), dtype)
    if seen.costs is not None:
        yield _fact(_("memory"), _("at most {size}").format(size=size(seen.costs.memory)))
    yield _("o changes type, device and folder; it goes on when you close the app.")


def _verified(plan: Plan) -> Iterator[str]:
    found = plan.verified
    if found is None and plan.whole:
        yield _("It is loaded, and answers the run's evaluation questions and some rows.")
        return
    if found is None:
        yield _("Both answer the same questions, greedily; first-token logits are compared.")
        return
    if found.why:
        yield found.why
    if found.coarse:
        yield _("o chooses another type; r on Merge then makes the model anew.")
    if not found.alone:
        yield _(
            "Largest logit difference {diff:.4g}; rounding to {dtype} explains {room:.4g}."
        ).format(diff=found.max_logit_diff, dtype=found.dtype, room=found.tolerance)
    for row in found.prompts:
        yield f"? {one_line(row.prompt)}"
        if row.adapter != row.merged:
            yield f"  ≠ {one_line(row.adapter)[:200]}"
        sign = "=" if row.adapter == row.merged else "≠"
        yield f"  {sign} {one_line(row.merged)[:200]}"


def _hand_over(seen: Look) -> Iterator[str]:
    """Where the model lies and the commands that serve it, ready to copy."""
    found = seen.handover
    if found is None:
        yield _("First the model has to be made.")
        return
    yield _("The model lies in {path}").format(path=found.model)
    yield from found.notes
    keys = _("y copies a command, f makes a GGUF file, u uploads, {key} chats with it.")
    yield keys.format(key="5" if seen.plan.left else "Enter")
    for one in found.commands:
        yield ""
        yield f"# {one.tool}: {one.note}" if one.note else f"# {one.tool}"
        yield one.command


def progress(state: State, plan: Plan | None) -> str:
    """A job's line: what it does, how far it is, how long that takes."""
    doing = _(_DOING[state.step]) if state.step in _DOING else name(step_of(state), plan)
    if not state.total:
        return f"  ◐ {doing} …"
    share = f"{100 * state.done // state.total:3d}%"
    if state.step == "verify":
        amount = _("{done} of {total} answers").format(done=state.done, total=state.total)
    else:
        amount = _("{done} of {total}").format(done=size(state.done), total=size(state.total))
    left = state.left
    rest = "  " + _("{time} left").format(time=duration(left)) if left is not None else ""
    return f"  ◐ {doing}  {bar(state.done, state.total, 20)} {share}  {amount}{rest}"


def ended(state: State, plan: Plan | None) -> str:
    """A job's line when nobody works on it any more."""
    doing = _(_DOING[state.step]) if state.step in _DOING else name(step_of(state), plan)
    if state.status == "done":
        made = Path(state.result).name if state.step == "gguf" else state.result
        return f"  ✓ {doing}  {made}" if state.step in _DOING else f"  ✓ {doing}"
    if state.status == "cancelled":
        return "  " + _("{step} was cancelled; nothing was left.").format(step=doing)
    if state.status == "lost":
        return "  ✗ " + _("{step} was cut off, nothing half was left: Enter goes on.").format(
            step=doing
        )
    said = state.said
    return f"  ✗ {doing}: {one_line(sentences(said.what, said.why) if said else '')}"
