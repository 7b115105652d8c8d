"""What a config needs to train on a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypedDict

from engine.dataset import mapping, shapes
from engine.dataset.reader import Dataset

XTUNERS = "xtuner.dataset.map_fns"


class ConfigParts(TypedDict):
    """Plain data, for a part of the engine that does not know datasets.

    `load_args` are the keywords of ``load_dataset`` (``load_from_disk`` for a folder
    that it wrote). The ``dataset_map_fn`` is ``None`` where `map_fn` is "", else the
    name to import from `map_module`: XTuner's, or a module that must stand beside the
    config as ``{map_module}.py`` with the text `map_source`. Without `templated` the
    config must have ``template_map_fn=None``.
    """

    shape: str
    load_args: dict[str, Any]
    map_fn: str
    map_module: str
    map_source: str
    templated: bool


def config_parts(dataset: Dataset) -> ConfigParts:
    """What a config needs for `dataset`.

    Raises `Problem` when its shape is not known, or its map module cannot be read.
    """
    if not dataset.shape:
        first = next((row.value for row in dataset.page(0, 20) if row.problem is None), None)
        raise shapes.unknown(dataset.path, first)
    shape = shapes.by_name(dataset.shape)
    name, module, source = shape.map_fn, XTUNERS if shape.map_fn else "", ""
    if shape.module:
        path = Path(shape.module)
        name, module, source = mapping.FUNCTION, path.stem, path.read_text(encoding="utf-8")
        mapping.check_name(path)
    elif shape.mapping is not None:
        name, module = mapping.FUNCTION, f"{shape.name}_map"
        source = mapping.source(shape.mapping, module)
    return ConfigParts(
        shape=shape.name,
        load_args=dataset.load_args(),
        map_fn=name,
        map_module=module,
        map_source=source,
        templated=shape.templated,
    )
