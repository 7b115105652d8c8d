"""What the Export pane shows of one checkpoint, read in a thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import Problem
from engine.export import costs, gguf, handover, job
from engine.export import plan as plans
from engine.export.costs import Costs
from engine.export.handover import Handover
from engine.export.job import Job, Order, State, Step
from engine.export.plan import Choices, Plan
from engine.joined import dataset_questions
from engine.run import answers, listing
from engine.run.answers import Answer
from engine.run.folder import RunFolder
from engine.settings import Settings
from engine.workspace import Workspace


@dataclass(frozen=True)
class Look:
    """One checkpoint: where its export stands, and what is known about it."""

    plan: Plan
    job: Job
    state: State | None
    """How the job stood; None where there never was one."""
    choices: Choices
    costs: Costs | None
    """Of merging, while that is still to do."""
    handover: Handover | None
    """Of the finished model."""
    llama_cpp: bool
    """Whether llama.cpp is installed here."""
    loss: float | None
    others: int
    """How many checkpoints of the run are kept, this one too."""
    complete: bool
    answers: list[Answer]
    """What the model answered when it was saved."""


def newest(workspace: Workspace) -> Path | None:
    """The last checkpoint of the run that is open, else of the newest that has one."""
    last = workspace.last()
    runs = listing.list_runs(workspace)
    named = [run for run in runs if str(run.path) == last.run or run.name == last.run]
    found = (run.last_checkpoint() for run in (*named, *runs))
    return next((one.path for one in found if one is not None), None)


def look(
    checkpoint: Path, workspace: Workspace, settings: Settings, bases: Mapping[Path, Path]
) -> Look:
    """Look at `checkpoint`; `bases` has those that were chosen, by checkpoint.

    Raises `Problem` when it is something else.
    """
    plan = plans.plan(checkpoint, workspace, bases.get(checkpoint.resolve()))
    found = job.of(workspace, plan.checkpoint)
    chosen = plans.choices(workspace)
    kept = RunFolder(plan.checkpoint.parent).checkpoints()
    this = next((one for one in kept if one.path.name == plan.checkpoint.name), None)
    return Look(
        plan=plan,
        job=found,
        state=found.state,
        choices=chosen,
        costs=None if plan.whole or plan.is_merged else costs.of_merge(plan, chosen),
        handover=_handover(plan),
        llama_cpp=gguf.find(settings) is not None,
        loss=this.loss if this is not None else None,
        others=len(kept),
        complete=this.complete if this is not None else not plan.torn,
        answers=_answers(plan.checkpoint, this.step) if this is not None else [],
    )


def _answers(checkpoint: Path, step: int) -> list[Answer]:
    run = RunFolder(checkpoint.parent)
    return [one for one in answers.read(run) if one.step == step]


def _handover(plan: Plan) -> Handover | None:
    if not plan.is_merged:
        return None
    templates = plan.verified.templates if plan.verified is not None else None
    try:
        return handover.describe(plan.merged, rsync="HOST:models/", templates=templates)
    except Problem:  # the folder is being replaced
        return None


def order(
    seen: Look, steps: tuple[Step, ...], workspace: Workspace, settings: Settings, again: bool
) -> Order:
    """The order for `steps`. Reads the dataset's first rows where they are asked."""
    rows: tuple[str, ...] = ()
    if "verify" in steps:
        rows = dataset_questions.of_config(plans.config_text(seen.plan), workspace.root)
    return plans.order(
        seen.plan, steps, workspace=workspace, settings=settings, again=again, rows=rows
    )
