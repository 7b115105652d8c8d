"""What the data pane asks before it acts: row numbers, shapes, templates, names of new files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from textual.app import App

from engine.dataset.called import own_place
from engine.errors import Problem
from engine.i18n import _
from engine.settings import Settings
from engine.workspace import Workspace
from tui.dialogs.ask import Ask
from tui.dialogs.choose import Choice, Choose
from tui.panes.data.mapping import MapColumns
from tui.panes.data.views import Known, choices, rows_of

if TYPE_CHECKING:
    from engine.dataset.reader import Dataset, Row

OWN = "-"
"""Chosen in place of a template's name: whichever the tokenizer itself writes."""
DETECT, MAP, XTUNERS = "?", "*", "+"
"""Chosen in place of a shape: told from the rows; mapped by the user; mapped by XTuner."""


async def a_number(app: App[Any], title: str, label: str, now: int, least: int) -> int | None:
    """A whole number from `least` on, `now` to begin with; None when put away."""

    def check(values: list[str]) -> None:
        if not values[0].strip().isdecimal() or int(values[0]) < least:
            raise Problem(_("Give a whole number from {least} on").format(least=least))

    answer = await app.push_screen_wait(Ask(title, [(label, str(now) if now else "")], check))
    return int(answer[0]) if answer else None


async def a_model(app: App[Any], workspace: Workspace) -> str | None:
    """The path of a model whose tokenizer is to be used. Raises `Problem` for no model."""
    from engine.dataset.preview import check_model

    models = await asyncio.to_thread(lambda: sorted(workspace.models.glob("*/config.json")))
    known = [Choice(str(one.parent), workspace.relative(one.parent)) for one in models]
    model = await app.push_screen_wait(
        Choose(_("Model"), known, free=True, note=_("Its tokenizer is used."))
    )
    if not model:
        return None
    path = str(await asyncio.to_thread(workspace.resolve, model))
    await asyncio.to_thread(check_model, path)
    return path


async def a_template(app: App[Any], settings: Settings) -> str | None:
    """One of XTuner's prompt templates, "" for the tokenizer's own; None when put away."""
    from engine.dataset.preview import template_names

    names = await asyncio.to_thread(template_names, settings)
    known = [Choice(OWN, _("what the model's own chat template says"))]
    known += [Choice(name, name) for name in names]
    note = _("XTuner's names; the run's must be the same.")
    template = await app.push_screen_wait(Choose(_("Prompt template"), known, note=note))
    return "" if template == OWN else template


async def a_shape(
    app: App[Any], dataset: Dataset, rows: list[Row], workspace: Workspace, settings: Settings
) -> str | None:
    """What the columns mean: a name that `Dataset.open` takes, `DETECT`; None when put away.

    `rows` are shown as they come out of a mapping.
    """
    from engine.dataset import shapes

    modules = await asyncio.to_thread(_modules, workspace)
    known = [
        Choice(DETECT, _("told from the rows"), _("the default")),
        Choice(MAP, _("other columns …"), _("say which is the question, which the answer")),
        *(Choice(one.name, one.title, ", ".join(one.columns)) for one in shapes.SHAPES),
        *(Choice(str(one), workspace.relative(one)) for one in modules),
        Choice(XTUNERS, _("a map function of XTuner's …")),
    ]
    if not dataset.shape:  # they have been looked at already, and told nothing
        known[:2] = reversed(known[:2])
    columns = ", ".join(dataset.columns()[:12]) or _("none")
    note = _("The columns of this file: {names}").format(names=columns)
    shape = await app.push_screen_wait(Choose(_("What the columns mean"), known, note=note))
    if shape == MAP:
        written = await app.push_screen_wait(MapColumns(dataset, rows, workspace))
        return None if written is None else str(written)
    if shape == XTUNERS:
        found = await asyncio.to_thread(map_functions, settings)
        named = [Choice(name, name, ", ".join(asks)) for name, asks in found.items()]
        return await app.push_screen_wait(Choose(_("XTuner's map functions"), named))
    return shape


def map_functions(settings: Settings) -> dict[str, list[str]]:
    """XTuner's map functions and the columns that each asks for. Raises `Problem`: no XTuner."""
    from engine.dataset import preview

    found = preview.map_functions(settings)
    if not found:
        raise Problem(
            _("XTuner cannot be asked for its map functions"),
            _("It is not installed in the training environment."),
            _("`tunedeck doctor` says how to install it."),
        )
    return found


def _modules(workspace: Workspace) -> list[Path]:
    """The map modules of the workspace."""
    return sorted(workspace.configs.glob("*_map.py"))


async def a_view(app: App[Any], known: Known) -> str | None:
    """Which rows to show, in which order."""
    note = _("c checks every row, / searches: then there is more to choose from.")
    listed = list(choices(known))
    return await app.push_screen_wait(
        Choose(_("Show"), listed, note="" if len(listed) > 3 else note)
    )


class Export(NamedTuple):
    """Rows to write (None: all) and the new file."""

    rows: Sequence[int] | None
    out: Path


async def an_export(
    app: App[Any], dataset: Dataset, workspace: Workspace, known: Known
) -> Export | None:
    """Which rows go to which new file; None when put away."""
    view = await app.push_screen_wait(
        Choose(_("Export which rows?"), [one for one in choices(known) if one.value != "longest"])
    )
    if view is None:
        return None
    suffix = ".json" if dataset.format == "json" else ".jsonl"
    target = await asyncio.to_thread(_beside, dataset, workspace, view, suffix)
    note = _("A JSON array (.json) or JSON Lines (.jsonl).")
    answer = await app.push_screen_wait(
        Ask(_("Export"), [(_("write to"), target)], _new_file(workspace), note)
    )
    if answer is None:
        return None
    path = await asyncio.to_thread(workspace.resolve, answer[0])
    return Export(rows_of(view, known), path)


@dataclass(frozen=True)
class Split:
    """How much goes to validation, drawn how, and both new files."""

    share: float | None
    count: int | None
    seed: int
    train: Path
    validation: Path


async def a_split(app: App[Any], dataset: Dataset, workspace: Workspace) -> Split | None:
    """How to split the dataset; None when put away."""
    suffix = ".json" if dataset.format == "json" else ".jsonl"
    train, val = await asyncio.to_thread(
        lambda: [_beside(dataset, workspace, word, suffix) for word in ("train", "val")]
    )
    fields = [
        (_("validation: share (0.1) or rows"), "0.1"),
        (_("seed (same seed, same split)"), "0"),
        (_("training rows to"), train),
        (_("validation rows to"), val),
    ]

    def parsed(values: list[str]) -> Split:
        much, seed, train, validation = values
        try:
            number = float(much)
            count = int(much) if number >= 1 else None
            _new_file(workspace)([train])
            _new_file(workspace)([validation])
            return Split(
                None if count else number,
                count,
                int(seed),
                workspace.resolve(train),
                workspace.resolve(validation),
            )
        except ValueError as error:
            raise Problem(
                _("Give a share such as 0.1, or a whole number, and a whole number as seed")
            ) from error

    answer = await app.push_screen_wait(Ask(_("Split off a validation set"), fields, parsed))
    return await asyncio.to_thread(parsed, answer) if answer is not None else None


def _new_file(workspace: Workspace) -> Callable[[list[str]], object]:
    """Raises `Problem` for a path that is taken or has no suffix of ours."""

    def check(values: list[str]) -> None:
        from engine import files
        from engine.dataset.editing.rewrite import format_of

        if not values[0].strip():
            raise Problem(_("Name the new file"))
        path = workspace.resolve(values[0])
        format_of(path)
        files.refuse_existing(path, force=False)

    return check


def _beside(dataset: Dataset, workspace: Workspace, word: str, suffix: str) -> str:
    """A name for a new file beside the dataset that is not taken."""
    place = own_place(dataset.path, workspace)
    stem, folder = place.name.split(".")[0], place.parent
    names = (f"{stem}-{word}{number}{suffix}" for number in ("", *range(2, 1000)))
    free = next(name for name in names if not (folder / name).exists())
    return workspace.relative(folder / free)
