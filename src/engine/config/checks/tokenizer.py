"""Does the tokenizer have what XTuner's way of writing conversations needs? Told from its files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.config import model_files
from engine.config.checks import model as check_model
from engine.config.checks.findings import ERROR, INFO, WARNING, Finding, Fix
from engine.config.checks.start import Start
from engine.i18n import _
from engine.weight_files import read_json

_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
_MARKERS = re.compile(r"<\|[^|<>\s]+\|>|\[/?INST\]|<(?:start|end)_of_turn>")
_NO_BOS = ("QWenTokenizer", "Qwen2Tokenizer")
"""XTuner knows by name that these need no beginning-of-text token."""
_GENERIC = "PreTrainedTokenizer"
"""The only class of transformers that brings no special tokens of its own."""


def check(start: Start) -> Iterator[Finding]:
    """Findings about the tokenizer and the prompt template."""
    folder = check_model.folder(start.config)
    if folder is None or not (folder / "config.json").is_file():
        return
    value, field = check_model.name(start.config)
    if not any((folder / one).is_file() for one in _FILES):
        yield Finding(
            ERROR,
            "tokenizer-missing",
            _("The model {path} has no tokenizer").format(path=value),
            _("None of {files} is there.").format(files=", ".join(_FILES)),
            _("Copy the base model's tokenizer files into it."),
            field=field,
        )
        return
    yield from _ends(start, folder, field)
    yield from _vocabulary(folder, field)
    yield from _padding(start)
    yield from _other(start, value)
    yield from _template(start, folder)


def _ends(start: Start, folder: Path, field: str) -> Iterator[Finding]:
    """XTuner puts the beginning-of-text token before, and the end-of-text token after a text."""
    kind = str(read_json(folder / "tokenizer_config.json").get("tokenizer_class", ""))
    kind = kind.removesuffix("Fast")
    bos, eos = (
        start.config.get(f"tokenizer.{one}") or model_files.special_token(folder, one)
        for one in ("bos_token", "eos_token")
    )
    # Other classes have tokens of their own unless their settings say that there is none.
    if not bos and (kind == _GENERIC or (bos == "" and kind not in ("", *_NO_BOS))):
        yield Finding(
            ERROR,
            "tokenizer-bos",
            _("The tokenizer has no beginning-of-text token"),
            _("XTuner fails on it while it reads the data (unless it is one of {kinds}).").format(
                kinds=", ".join(_NO_BOS)
            ),
            _("Add a bos_token to the model's tokenizer_config.json."),
            field=field,
        )
    entries = (start.config.template or {}).get("entries")
    closes = isinstance(entries, Mapping) and bool(entries.get("SUFFIX_AS_EOS"))
    if not eos and not closes and (kind == _GENERIC or eos == ""):
        yield Finding(
            ERROR,
            "tokenizer-eos",
            _("The tokenizer has no end-of-text token"),
            _("XTuner ends every answer of this template with it, and fails without."),
            _("Add an eos_token to the model's tokenizer_config.json."),
            field=field,
        )


def _vocabulary(folder: Path, field: str) -> Iterator[Finding]:
    size = model_files.config(folder).get("vocab_size")
    tokens = model_files.added_tokens(folder)
    beyond = sorted(name for name, number in tokens.items() if number >= (size or number + 1))
    if isinstance(size, int) and beyond:
        yield Finding(
            WARNING,
            "tokenizer-vocabulary",
            _("The tokenizer has tokens that the model does not know"),
            _("The model has {size} tokens; {tokens} come after them.").format(
                size=size, tokens=", ".join(beyond[:3])
            ),
            _(
                "Data or a template with such a token would end the training. Use the tokenizer "
                "that the model came with."
            ),
            field=field,
        )


def _padding(start: Start) -> Iterator[Finding]:
    field = "tokenizer.padding_side"
    if start.config.get(field) == "left":
        yield Finding(
            WARNING,
            "padding-side",
            _("The tokenizer is set to pad on the left"),
            _(
                "XTuner pads on the right, whatever it says; other tools that read this config "
                "would not."
            ),
            _("Set {field} = {value}.").format(field=field, value="'right'"),
            Fix(field, "right"),
            field,
        )


def _other(start: Start, model: str) -> Iterator[Finding]:
    """The tokenizer should be the model's own."""
    key = "tokenizer.pretrained_model_name_or_path"
    other = start.config.get(key)
    if isinstance(other, str) and model and other != model:
        yield Finding(
            WARNING,
            "tokenizer-other",
            _("The tokenizer is not the model's own"),
            _("It comes from {other}, the model from {model}.").format(other=other, model=model),
            _("Give both the same folder, unless you know that they fit."),
            field=start.config.setting(key),
        )


def _template(start: Start, folder: Path) -> Iterator[Finding]:
    """The template's markers should be tokens that the model was trained with."""
    entries = (start.config.template or {}).get("entries")
    if not isinstance(entries, Mapping):
        return
    own, tokens = model_files.chat_template(folder), model_files.added_tokens(folder)
    wanted = set(_MARKERS.findall(str(entries.get("INSTRUCTION", ""))))
    name = (start.config.template or {}).get("name") or ""
    if own:
        missing = sorted(one for one in wanted if one not in own and one not in tokens)
        if missing:
            yield Finding(
                WARNING,
                "template",
                _("The prompt template {name} does not fit this model").format(name=name),
                _("The model's own template has no {markers}.").format(markers=", ".join(missing)),
                _("Choose the template of the model's family, or answers may never stop."),
                field="prompt_template",
            )
    elif tokens and (missing := sorted(one for one in wanted - set(tokens) if one[0] == "<")):
        yield Finding(
            INFO,
            "template-tokens",
            _("The prompt template {name} has markers that are no tokens of this model").format(
                name=name
            ),
            _("{markers} would be written in pieces; a base model has to learn them.").format(
                markers=", ".join(missing)
            ),
            _("Choose the template of the model's family, if it has one."),
            field="prompt_template",
        )
