"""A row as XTuner feeds it to the model: its own functions, in its own order.

Runs in the dataset worker, under the training interpreter.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engine.dataset import shapes
from engine.dataset.map_functions import MapFunction, MapFunctions
from engine.dataset.xtuner_parts import Parts
from engine.errors import Failed, Problem, Way
from engine.i18n import _

_MARK = re.compile(r"<[^\s<>{}]+>|\[/?[A-Z_]+\]")


class Encoded(NamedTuple):
    """One sample as it is trained on.

    `input_ids` and `labels` have the same length; a label below 0 carries no
    loss. `length` is the number of tokens before the cut at max_length; `behind` says
    that all its loss lay behind that.
    """

    input_ids: list[int]
    labels: list[int]
    length: int
    behind: bool = False

    @property
    def trained(self) -> bool:
        """Whether XTuner keeps the sample (it drops one that has no token with loss)."""
        return any(label >= 0 for label in self.labels)


class Feed:
    """Turns rows into samples with one tokenizer, template and maximum length.

    `template` may be "" when no row of a shape that needs one is fed.
    """

    def __init__(self, parts: Parts, tokenizer: Any, template: str, max_length: int) -> None:
        refuse_tokenizer(parts, tokenizer, template)
        self.template = template
        self.max_length = max_length
        self._tokenizer = tokenizer
        self._encode = parts.encode_fn
        self._maps = MapFunctions(parts)
        self._takes_system = True
        self._add_template: MapFunction | None = None
        if template:
            self._takes_system = "SYSTEM" in parts.templates[template]
            self._add_template = parts.template_map_fn_factory(parts.templates[template])

    def encode(self, row: Any, shape: str) -> Encoded | None:
        """The sample made of `row`; None when XTuner's filter for empty conversations drops it.

        Raises whatever XTuner raises for a row that it cannot take.
        """
        example = self.prepare(row, shape)
        return None if example is None else self.tokenize(example)

    def prepare(self, row: Any, shape: str) -> dict[str, Any] | None:
        """`row` after its map function and the template; None when XTuner drops it then."""
        example = self._maps.apply(row, shape)
        if not shapes.by_name(shape).templated:
            return example
        if self._add_template is None:
            raise Problem(_("Rows of the shape {shape} need a prompt template").format(shape=shape))
        if not self._takes_system and any(turn.get("system") for turn in example["conversation"]):
            raise Problem(
                _("The prompt template {name} has no place for a system text").format(
                    name=self.template
                ),
                _("XTuner fails at the first row that has one."),
                _("Choose another template, or leave the system texts out."),
            )
        example.update(self._add_template(example))
        return example if len(example["conversation"]) > 0 else None

    def tokenize(self, example: dict[str, Any], tokenizer: Any = None) -> Encoded:
        """The sample made of a row that is prepared; `tokenizer` may stand in for its own."""
        by = tokenizer or self._tokenizer
        whole = self._encode(example, tokenizer=by, max_length=sys.maxsize)
        length = len(whole["input_ids"])
        if length <= self.max_length:
            return Encoded(whole["input_ids"], whole["labels"], length)
        cut = self._encode(example, tokenizer=by, max_length=self.max_length)
        sample = Encoded(cut["input_ids"], cut["labels"], length)
        if sample.trained:
            return sample
        return sample._replace(behind=any(label >= 0 for label in whole["labels"]))

    def show(self, sample: Encoded) -> dict[str, Any]:
        """`sample` as text, in segments of tokens that all carry loss or all do not."""
        edges = [
            place
            for place in range(1, len(sample.labels))
            if (sample.labels[place] >= 0) != (sample.labels[place - 1] >= 0)
        ]
        segments: list[dict[str, Any]] = []
        begin, shown = 0, ""
        for end in [*edges, len(sample.labels)] if sample.labels else []:
            # Decoded from the sample's start: some tokenizers swallow a leading space.
            text = self._decode(sample.input_ids[:end])
            if text.startswith(shown):
                piece = text[len(shown) :]
            else:
                piece = self._decode(sample.input_ids[begin:end])
            segments.append({"text": piece, "loss": sample.labels[begin] >= 0})
            begin, shown = end, text
        return {
            "tokens": len(sample.input_ids),
            "loss_tokens": sum(label >= 0 for label in sample.labels),
            "cut": max(0, sample.length - len(sample.input_ids)),
            "text": "".join(segment["text"] for segment in segments),
            "segments": segments,
            "input_ids": sample.input_ids,
            "labels": sample.labels,
        }

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text


def refuse_tokenizer(parts: Parts, tokenizer: Any, template: str) -> None:
    """Raise `Problem` for a tokenizer with which XTuner's ``encode_fn`` must fail."""
    what = _("XTuner cannot use this tokenizer")
    todo = _("Set {name} in the model's tokenizer_config.json, as its authors meant it.")
    try:
        begin, end = parts.bos_and_eos(tokenizer)
    except AssertionError as error:
        raise Problem(what, str(error), todo.format(name="eos_token")) from error
    needs_end = bool(template) and not parts.templates[template].get("SUFFIX_AS_EOS", False)
    for name, missing in (("bos_token", begin is None), ("eos_token", needs_end and end is None)):
        if missing:
            why = _("It has no {name}, and {kind} is no class that XTuner trains without one.")
            kind = type(tokenizer).__name__
            raise Problem(what, why.format(name=name, kind=kind), todo.format(name=name))


def split_marks(
    tokenizer: Any, template: str, templates: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Marks of the template, such as ``<|im_start|>``, that the tokenizer takes for plain text.

    Then the template is hardly the model's. XTuner's template "default" is meant so,
    for models that know no marks.
    """
    if not template or template == "default":
        return []
    texts = [text for text in templates[template].values() if isinstance(text, str)]
    marks = dict.fromkeys(mark for text in texts for mark in _MARK.findall(text))
    return [mark for mark in marks if len(tokenizer.encode(mark, add_special_tokens=False)) > 1]


def load_tokenizer(model: str, trust_remote_code: bool) -> Any:
    """The tokenizer in the folder (or of the hub model) `model`, as a config loads it."""
    from transformers import AutoTokenizer

    what = _("Cannot load the tokenizer of {model}").format(model=model)
    ways: tuple[Way, ...] = ()
    try:
        return AutoTokenizer.from_pretrained(
            model, trust_remote_code=trust_remote_code, padding_side="right"
        )
    except Exception as error:
        if "trust_remote_code" in str(error):
            why = _("It brings its own Python code, which runs only when you allow it.")
            todo = _("Read that code before you allow it.")
            ways = ("trust-remote-code",)
        else:
            why = str(error).strip().split("\n")[0] or type(error).__name__
            todo = _("Give a model folder with its tokenizer files.")
        raise Failed(what, why, todo, repr(error), ways) from error


def template_for(
    tokenizer: Any, templates: Mapping[str, Mapping[str, Any]], wanted: str | None, shape: str
) -> str:
    """The template to use: the one that is `wanted`, else the tokenizer's; "" where none is needed.

    Raises `Problem` for one that XTuner does not have, and when it cannot be told.
    """
    if shape and not shapes.by_name(shape).templated:
        return ""
    template = wanted or choose_template(tokenizer, templates)
    if template in templates:
        return template
    raise Problem(
        _("XTuner has no prompt template called {name}").format(name=template),
        todo=_("Choose one of: {names}.").format(names=", ".join(templates)),
    )


def choose_template(tokenizer: Any, templates: Mapping[str, Mapping[str, Any]]) -> str:
    """The XTuner template that writes a question exactly as the tokenizer's own chat template.

    Raises `Problem` when there is none, or no chat template to compare with.
    """
    known = ", ".join(templates)
    ask = _("Choose one of: {names}.").format(names=known)
    if not getattr(tokenizer, "chat_template", None):
        what = _("The tokenizer does not say which prompt template it needs")
        raise Problem(what, todo=ask, ways=("template",))
    system = {"role": "system", "content": "SYSTEM"}
    user = {"role": "user", "content": "INPUT"}
    for messages in ([system, user], [user]):
        try:
            wanted: str = tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except Exception:  # some templates refuse a system message
            continue
        wanted = wanted.removeprefix(tokenizer.bos_token or "")
        for name in sorted(templates, key=lambda name: _likely(tokenizer, name), reverse=True):
            template = templates[name]
            text = template["INSTRUCTION"].format(input="INPUT", round=1)
            if len(messages) == 2:
                text = template.get("SYSTEM", "").format(system="SYSTEM") + text
            if text == wanted:
                return name
    what = _("No prompt template of XTuner's matches this tokenizer's own")
    raise Problem(what, todo=ask, ways=("template",))


def _likely(tokenizer: Any, name: str) -> bool:
    """Whether the template `name` belongs to the tokenizer's family (several write the same)."""
    family = name.split("_")[0].rstrip("0123456789")
    return family in type(tokenizer).__name__.lower()
