"""A config made to train on the user's data, whatever it trained on before.

What a config's training takes is told by its dataset: conversations, plain
text, or pairs of answers. The data has to be that; it is refused with the
reason where it is not.
"""

from __future__ import annotations

from typing import Any

from engine.config.making import pairs
from engine.config.making.training_data import TrainingData
from engine.config.text.source import ConfigSource
from engine.config.text.values import Code, render
from engine.errors import Problem
from engine.i18n import _

SMALL = 32 << 20
"""Bytes of data below which one process prepares it: packing in pieces wastes small datasets."""
_MANY = 8

_MAP_FNS = "xtuner.dataset.map_fns"
_OTHERS_OWN = ("max_dataset_length", "split", "rename_maps", "do_dataset_tokenization")
"""What a config may say about the dataset that it was written for."""


def point(source: ConfigSource, data: TrainingData, module: str, template: str = "") -> str:
    """Make `source` train on `data`; return the text of a module to write beside it, or "".

    Args:
        module: what that module will be called (without ``.py``).
        template: the prompt template to use where the config has none.
    """
    key = _dataset(source)
    kind = str(source.get(f"{key}.type")) if source.has(f"{key}.type") else ""
    if kind == "build_preference_dataset":
        text = _pairs(source, key, data, module)
    elif kind == "process_hf_dataset" and _takes_text(source, key):
        text = _plain_text(source, key, data)
    elif kind in ("process_hf_dataset", "process_ms_dataset", "MOSSSFTDataset"):
        text = _conversations(source, key, data, module, template)
    else:
        raise _unfit(source, kind)
    _evaluation(source, data)
    return text


def _unfit(source: ConfigSource, kind: str) -> Problem:
    if "LLaVA" in kind or "InternVL" in kind or "RefCOCO" in kind:
        return Problem(
            _("This config trains on images: it cannot be pointed at a dataset of texts"),
            _("Its dataset is made by {name}.").format(name=kind),
            _("Copy it without data, then set data_path and image_folder by hand."),
        )
    return Problem(
        _("This config cannot be pointed at a dataset"),
        _("Its dataset is made by {name}, from folders in a form of its own.").format(name=kind),
        _("Choose one that trains on conversations, or copy it without data and set it by hand."),
    )


def _dataset(source: ConfigSource) -> str:
    """The key of the dataset to train on; where a config trains on several, only the first."""
    for key in ("train_dataloader.dataset", "train_dataset"):
        if source.has(key):
            break
    else:
        raise Problem(
            _("This config does not say what it trains on"),
            _("It is not one of XTuner's usual form."),
            _("Choose another one."),
            ways=("catalogue",),
        )
    if source.has(f"{key}.datasets"):
        code = source.code(f"{key}.datasets").strip("[]() \n")
        first = Code(code.partition(",")[0].strip())
        if key.count("."):
            source.set_own(key, first)
        else:
            source.set(key, first)
    return key


def _takes_text(source: ConfigSource, key: str) -> bool:
    """Whether the config trains on plain text."""
    function = f"{key}.dataset_map_fn"
    return source.has(function) and str(source.get(function)) == "pretrain_map_fn"


def _conversations(
    source: ConfigSource, key: str, data: TrainingData, module: str, template: str
) -> str:
    if data.shape == "text" or (not data.map_fn and data.shape != "xtuner"):
        raise Problem(
            _("The rows of {path} have no shape that this config can train on").format(
                path=data.name
            ),
            _("It trains on conversations; these rows are plain text.")
            if data.shape == "text"
            else _("Known: a 'conversation', 'messages', 'instruction' and 'output'."),
            _("For plain text choose a config of the method pretrain.")
            if data.shape == "text"
            else _("Say first what the columns mean."),
            ways=("catalogue",) if data.shape == "text" else ("shape",),
        )
    if str(source.get(f"{key}.type")) != "process_hf_dataset":
        source.set(key, _block(source))
        source.ensure_import("xtuner.dataset", "process_hf_dataset")
    _load(source, key, data)
    function = _function(source, data.map_fn, module if data.module else "")
    source.set(f"{key}.dataset_map_fn", function)
    _template(source, key, template)
    _prepare(source, f"{key}.map_num_proc", data)
    return data.module


def _block(source: ConfigSource) -> Code:
    """A dataset of the usual form, for a config whose own has another."""
    source.ensure_import(_MAP_FNS, "template_map_fn_factory")
    known = {"max_length": "2048", "pack_to_max_length": "True", "use_varlen_attn": "False"}
    values = {name: name if source.knows(name) else code for name, code in known.items()}
    return Code(
        "dict(\n"
        "    type=process_hf_dataset,\n"
        "    dataset=dict(),\n"
        "    tokenizer=tokenizer,\n"
        f"    max_length={values['max_length']},\n"
        "    dataset_map_fn=None,\n"
        "    template_map_fn=dict(type=template_map_fn_factory, template=prompt_template),\n"
        "    remove_unused_columns=True,\n"
        "    shuffle_before_pack=True,\n"
        f"    pack_to_max_length={values['pack_to_max_length']},\n"
        f"    use_varlen_attn={values['use_varlen_attn']},\n"
        ")"
    )


def _plain_text(source: ConfigSource, key: str, data: TrainingData) -> str:
    if data.shape != "text":
        raise Problem(
            _("The rows of {path} are not the plain text that this config trains on").format(
                path=data.name
            ),
            _("It needs a column 'text' in each row."),
            _("For conversations choose a config of the method qlora."),
            ways=("catalogue",),
        )
    _load(source, key, data)
    _prepare(source, f"{key}.map_num_proc", data)
    return ""


def _pairs(source: ConfigSource, key: str, data: TrainingData, module: str) -> str:
    if source.has(f"{key}.is_reference") and source.get(f"{key}.is_reference") is True:
        raise Problem(
            _("This config cannot be pointed at a dataset"),
            _("It trains a reward model on answers beside a reference, in a form of its own."),
            _("Copy it without data and set data_files by hand."),
        )
    try:
        found, text = pairs.mapping(data.rows)
    except pairs.NoPairs:
        raise Problem(
            _("The rows of {path} are not the pairs of answers that this config trains on").format(
                path=data.name
            ),
            _("It needs the columns prompt, chosen and rejected (build_preference_dataset)."),
            _("For conversations choose a config of the method qlora."),
            ways=("catalogue",),
        ) from None
    _load(source, key, data)
    source.set(f"{key}.dataset_map_fn", _function(source, found, module if text else ""))
    _prepare(source, f"{key}.num_proc", data)
    return text


def _load(source: ConfigSource, key: str, data: TrainingData) -> None:
    """Put the files where the config names its data, in PART 1 when it does so there."""
    inner = f"{key}.dataset"
    variable = _files_variable(source, inner)
    if variable is not None:
        # The whole call is written anew: an option such as name="main" belonged to the old data.
        source.set(variable, data.files)
        place = Code(variable)
    else:
        place = Code(render(data.files))
    values: dict[str, Any] = {"type": Code(data.loader)}
    for name, value in data.arguments.items():
        if name == "dataset_path":
            value = place
        elif name == "data_files":
            value = {"train": place}
        values[name] = value
    source.ensure_import("datasets", data.loader)
    source.set_own(inner, Code(render(values)))
    for name in _OTHERS_OWN:
        if source.has(f"{key}.{name}"):
            source.unset(f"{key}.{name}")


_PLACES = ("data_files.train", "data_files", "dataset_path", "dataset_name", "path")


def _files_variable(source: ConfigSource, inner: str) -> str | None:
    """The variable of PART 1 that names the data now."""
    formats = ("json", "csv", "parquet", "arrow", "text")
    for key in (f"{inner}.{place}" for place in _PLACES):
        if source.has(key) and source.get(key) not in formats:
            return source.variable(key)
    return None


def _function(source: ConfigSource, function: tuple[str, str] | None, module: str) -> Any:
    """The code that names the map function; with `module`, one that lies beside the config."""
    if function is None:
        return None
    source.ensure_import(module or function[0], function[1])
    return Code(function[1])


def _template(source: ConfigSource, key: str, template: str) -> None:
    """Conversations need a prompt template: see that the dataset has one."""
    place = f"{key}.template_map_fn"
    if source.has(place) and source.get(place) is not None:
        return
    if source.knows("prompt_template"):
        value = "prompt_template"
    elif template:
        source.ensure_import("xtuner.utils", "PROMPT_TEMPLATE")
        value = f"PROMPT_TEMPLATE.{template}"
    else:
        raise Problem(
            _("This config has no prompt template, and conversations need one"),
            _("It was written for another kind of data."),
            _("Give the model's."),
            ways=("template",),
        )
    source.ensure_import(_MAP_FNS, "template_map_fn_factory")
    source.set(place, Code(f"dict(type=template_map_fn_factory, template={value})"))


def _prepare(source: ConfigSource, key: str, data: TrainingData) -> None:
    """How many processes prepare the rows: one for few rows, some for many."""
    if data.size < SMALL:
        source.set(key, 1)
    elif source.has(key) and source.get(key) == 1:
        source.set(key, _MANY)


def _evaluation(source: ConfigSource, data: TrainingData) -> None:
    """Ask what the data asks, under its system text."""
    if data.questions and source.has("evaluation_inputs"):
        source.set("evaluation_inputs", list(data.questions))
    if source.has("SYSTEM") and data.system is not None:
        source.set("SYSTEM", data.system)
