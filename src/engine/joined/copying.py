"""A config copied and pointed at the user's files: the dataset part tells what they hold.

Above both parts, so that they need not know each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.config.making.copy import Copied, copy, module_of, target_of, write_module
from engine.config.making.fitting import fit
from engine.config.making.pairs import is_pair
from engine.config.making.pointing import point
from engine.config.making.training_data import TrainingData
from engine.config.text.source import ConfigSource
from engine.dataset import mapping, shapes, suggest
from engine.dataset.reader import Dataset
from engine.i18n import _
from engine.settings import Settings

LOOKED_AT = 50
"""Rows that shape, questions and system text are told from."""
SHORT = 200
"""Characters of a question that is short enough to ask while training."""
QUESTIONS = 3


def copy_config(
    name: str | Path,
    dest: Path,
    *,
    settings: Settings,
    data: Path | Sequence[Path] | None = None,
    shape: str | None = None,
    workspace_root: Path | None = None,
    model: str | None = None,
    template: str | None = None,
    values: Mapping[str, Any] | None = None,
    card: int | None = None,
    force: bool = False,
) -> Copied:
    """`engine.config.making.copy.copy`, pointed at the file, files or folder `data`.

    `shape` is a shape's name or the path of a map module (see `training_data`);
    `card` the bytes of the GPU that it shall fit (see `fit`), None for none.
    """
    module = module_of(target_of(name, dest))
    done = copy(
        name,
        dest,
        settings=settings,
        workspace_root=workspace_root,
        data=training_data(data, shape, module) if data is not None else None,
        model=model,
        template=template,
        values=values,
        force=force,
    )
    asked = any(key.endswith("use_activation_checkpointing") for key in values or {})
    return done if card is None or asked else _fitted(done, card, settings)


def _fitted(done: Copied, card: int, settings: Settings) -> Copied:
    source = ConfigSource.open(done.path)
    before = ConfigSource(source.text)
    note = fit(source, card, settings)
    return msgspec.structs.replace(
        done,
        changes=[*done.changes, *source.changes(before)],
        notes=[*done.notes, note] if note else done.notes,
    )


def point_config(
    source: ConfigSource, data: Path | Sequence[Path], shape: str | None = None
) -> None:
    """Make a config that has a path train on `data`; it is not saved, a map module is.

    `shape` is what `training_data` takes.
    """
    assert source.path is not None, "the map module stands beside the config"
    module = module_of(source.path)
    text = point(source, training_data(data, shape, module), module)
    if text:
        write_module(source.path.with_name(f"{module}.py"), text, force=False)


def training_data(
    data: Path | Sequence[Path], shape: str | None = None, module: str = "map_module"
) -> TrainingData:
    """How a config trains on the file, files or folder `data`.

    Args:
        shape: a name in `shapes.SHAPES`, or the path of a map module; else told
            from the first rows. Columns whose names make clear what is question
            and answer are mapped so.
        module: the name under which a map module, where one is needed, will stand
            beside the config.

    Raises `Problem` for what cannot be read: one broken row, and XTuner gets none.
    """
    with Dataset.open(data, shape) as dataset:
        rows = []
        for row in dataset.page(0, LOOKED_AT):
            if row.problem is not None:
                raise dataset.unreadable(row.problem)
            rows.append(row.value)
        found, notes = _shape(dataset, rows, module)
        function, text = _map_function(found, module)
        talks = [found.turns(row) for row in rows if isinstance(row, dict)] if found else []
        return TrainingData(
            loader="load_from_disk" if dataset.format == "disk" else "load_dataset",
            arguments=dataset.load_args(),
            shape=found.name if found else "",
            rows=rows,
            size=dataset.size,
            map_fn=function,
            module=text,
            questions=_questions(talks),
            system=_system(talks),
            name=str(dataset.path),
            notes=(*dataset.notes, *notes),
        )


def _shape(dataset: Dataset, rows: list[Any], module: str) -> tuple[shapes.Shape | None, list[str]]:
    """The shape of the rows; for unknown ones, what their columns' names make clear."""
    if any(is_pair(row) for row in rows):
        return None, []  # not conversations: a better and a worse answer
    if dataset.shape:
        return shapes.by_name(dataset.shape), []
    columns = dict.fromkeys(name for row in rows if isinstance(row, dict) for name in row)
    found = suggest.by_names(list(columns))
    if found is None:
        return None, []
    note = _("Column {question} is the question, column {answer} the answer: see {file}.").format(
        question=found.question, answer=found.answer, file=f"{module}.py"
    )
    return shapes.by_mapping(found, "columns", ""), [note]


def _map_function(shape: shapes.Shape | None, module: str) -> tuple[tuple[str, str] | None, str]:
    """The map function of a shape, and the text of its module where that is not XTuner's."""
    if shape is None:
        return None, ""
    if shape.map_fn:
        return ("xtuner.dataset.map_fns", shape.map_fn), ""
    if shape.mapping is not None:
        return (module, mapping.FUNCTION), mapping.source(shape.mapping, module)
    if shape.module:
        return (module, mapping.FUNCTION), Path(shape.module).read_text(encoding="utf-8")
    return None, ""


def _questions(talks: list[list[shapes.Turn]]) -> tuple[str, ...]:
    """The first questions that are short enough to ask while it trains, each once."""
    first = [turns[0].input.strip() for turns in talks if turns]
    short = [one for one in first if 0 < len(one) <= SHORT]
    return tuple(dict.fromkeys(short))[:QUESTIONS]


def _system(talks: list[list[shapes.Turn]]) -> str | None:
    """The system text of all the talks; None where they differ or there is no talk."""
    systems = {turns[0].system for turns in talks if turns}
    return systems.pop() if len(systems) == 1 else None
