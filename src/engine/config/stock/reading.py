"""One config of the catalogue, told from its text: what it trains, how, on what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.config import families
from engine.config.stock.entry import VISION, Entry
from engine.config.stock.outline import Outline

_ZERO3_FROM = {"full": 3.5e9, "lora": 30e9}
"""Parameters from which one 80 GB card cannot hold what ZeRO-2 leaves whole on each."""
_PLACE = re.compile(r"(?:^|/)(?:path/to|your)/")
"""A path that stands where one's own belongs."""


def read(path: Path, source: str = "") -> Entry | None:
    """The config at `path`; None for a file that is none (XTuner keeps programs beside them)."""
    try:
        outline = Outline(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError):
        return None
    llm = _model(outline)
    if llm is None:
        return None
    model, tuning = llm
    # A folder's name may not tell; the config's own then does.
    size = families.size(model) or families.size(path.stem)
    family = families.family(model) or families.family(path.stem)
    dataset = _dataset(outline)
    sources = [one for one in dict.fromkeys(_sources(dataset)) if not _PLACE.search(one)]
    method = _method(outline, dataset, tuning, path)
    sequence = _whole(outline.get("sequence_parallel_size")) or 1
    gpus = _gpus(path.stem)
    return Entry(
        name=path.stem,
        model=model,
        method=method,
        size=size,
        dataset=", ".join(sources),
        path=path,
        family=family.name if family else "",
        tuning=tuning,
        max_length=_whole(_first(dataset, "max_length", "packed_length"))
        or _whole(outline.get("max_length")),
        packed=_first(dataset, "pack_to_max_length", "use_varlen_attn") is True,
        template=_template(outline),
        epochs=_whole(outline.get("max_epochs")),
        lr=_number(outline.get("lr")),
        batch_size=_whole(outline.get("batch_size")),
        accumulation=_whole(outline.get("accumulative_counts")),
        gpus=gpus,
        sequence_parallel=sequence,
        deepspeed=_deepspeed(tuning, families.parameters(size), max(gpus or 1, sequence)),
        about=_about(outline),
        source=source,
    )


def _model(outline: Outline) -> tuple[str, str] | None:
    """The base model and what of it is trained; None where the file names no model."""
    model = outline.get("model")
    model = model if isinstance(model, Mapping) else {}
    llm = model.get("llm")
    llm = llm if isinstance(llm, Mapping) else model
    for name in (
        llm.get("pretrained_model_name_or_path"),
        model.get("model_path"),
        outline.get("pretrained_model_name_or_path"),
        outline.get("llm_name_or_path"),
    ):
        if type(name) is str:
            break
    else:
        return None
    lora = model.get("lora") or model.get("llm_lora") or outline.get("lora")
    quantised = model.get("quantization_llm") is True or _quantised(llm.get("quantization_config"))
    return name, "qlora" if lora and quantised else "lora" if lora else "full"


def _quantised(settings: Any) -> bool:
    return isinstance(settings, Mapping) and any(
        settings.get(key) is True for key in ("load_in_4bit", "load_in_8bit")
    )


def _dataset(outline: Outline) -> Any:
    loader = outline.get("train_dataloader")
    found = loader.get("dataset") if isinstance(loader, Mapping) else None
    return found if isinstance(found, Mapping) else outline.get("train_dataset")


def _leaves(dataset: Any) -> Iterator[Mapping[str, Any]]:
    """The datasets that are put together into one."""
    if not isinstance(dataset, Mapping):
        return
    several = dataset.get("datasets", dataset.get("datasets_kwargs"))
    if isinstance(several, list | tuple):
        for one in several:
            yield from _leaves(one)
    else:
        yield dataset


def _sources(dataset: Any) -> Iterator[str]:
    """Where the rows come from: hub names, files, folders."""
    for leaf in _leaves(dataset):
        inner = leaf.get("dataset", leaf.get("dataset_cfg"))
        if isinstance(inner, Mapping):
            yield from _sources(inner)
            continue
        files = leaf.get("data_files")
        path = leaf.get("path")
        if type(path) is str and (files is None or path not in ("json", "csv", "parquet", "text")):
            yield path
        elif files is not None:
            yield from _texts(files)
        else:
            for key in ("data_path", "data_paths", "data_file", "dataset_name", "folder"):
                yield from _texts(leaf.get(key))


def _texts(value: Any) -> Iterator[str]:
    if type(value) is str:
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))


_MODELS = {"DPO": "dpo", "ORPO": "orpo", "RewardModel": "reward"}


def _method(outline: Outline, dataset: Any, tuning: str, path: Path) -> str:
    model = outline.get("model")
    kind = str(model.get("type", "")) if isinstance(model, Mapping) else ""
    method = _MODELS.get(kind, "")
    functions = {str(_first(leaf, "dataset_map_fn")) for leaf in _leaves(dataset)}
    vision = re.search(r"llava|internvl", kind.lower()) is not None
    if functions == {"pretrain_map_fn"} or (vision and path.stem.endswith("pretrain")):
        method = method or "pretrain"
    return (method or tuning) + (VISION if vision else "")


def _first(dataset: Any, *keys: str) -> Any:
    """The value of one of `keys` in the dataset or in the first that it is made of."""
    for leaf in _leaves(dataset):
        for one in (leaf, leaf.get("dataset_cfg")):
            for key in keys:
                if isinstance(one, Mapping) and one.get(key) is not None:
                    return one[key]
    return None


def _template(outline: Outline) -> str:
    value = outline.get("prompt_template")
    return str(value).removeprefix("PROMPT_TEMPLATE.") if isinstance(value, str) else ""


def _about(outline: Outline) -> str:
    first = outline.about.strip().partition("\n")[0]
    return "" if first.endswith(":") else first


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) else None


def _gpus(name: str) -> int | None:
    found = re.search(r"(?:^|_)(?:gpu(\d+)|(\d+)gpus?)(?:_|$)", name)
    return int(found[1] or found[2]) if found else None


def _deepspeed(tuning: str, parameters: float | None, gpus: int) -> str:
    """ZeRO for what is not small: it shares gradients and optimizer (3: weights) among GPUs.

    LoRA gains from it on one GPU too (the base is held in bfloat16 instead of
    float32); a 4-bit base is small enough to lie whole on each.
    """
    if tuning == "qlora":
        return "deepspeed_zero2" if gpus > 1 else ""
    if tuning in _ZERO3_FROM and (parameters or 0) >= _ZERO3_FROM[tuning]:
        return "deepspeed_zero3"
    return "deepspeed_zero2"
