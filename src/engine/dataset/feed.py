"""A row as XTuner feeds it to the model: its own functions, in its own order.

Runs in the dataset worker, under the training interpreter.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engine.dataset import shapes
from engine.dataset.xtuner_parts import Parts
from engine.errors import Failed, Problem
from engine.i18n import _


class Encoded(NamedTuple):
    """One sample as it is trained on.

    `input_ids` and `labels` have the same length; a label below 0 carries no
    loss. `length` is the number of tokens before the cut at max_length.
    """

    input_ids: list[int]
    labels: list[int]
    length: int

    @property
    def trained(self) -> bool:
        """Whether XTuner keeps the sample (it drops one that has no token with loss)."""
        return any(label >= 0 for label in self.labels)


class Feed:
    """Turns rows into samples with one tokenizer, template and maximum length."""

    def __init__(self, parts: Parts, tokenizer: Any, template: str, max_length: int) -> None:
        self.template = template
        self.max_length = max_length
        self._parts = parts
        self._tokenizer = tokenizer
        self._add_template = parts.template_map_fn_factory(parts.templates[template])

    def encode(self, row: Any, shape: str) -> Encoded | None:
        """The sample made of `row`; None when XTuner's filter for empty conversations drops it.

        Raises whatever XTuner raises for a row that it cannot take.
        """
        example = self.prepare(copy.deepcopy(row), shape)
        return None if example is None else self.tokenize(example)

    def prepare(self, row: Any, shape: str) -> dict[str, Any] | None:
        """`row`, which is changed, behind the map function and the prompt template.

        None and errors as of `encode`.
        """
        example: dict[str, Any] = row
        map_fn = shapes.by_name(shape).map_fn
        if map_fn is not None:
            example.update(self._parts.map_fns[map_fn](example))
        example.update(self._add_template(example))
        return None if len(example["conversation"]) == 0 else example

    def tokenize(self, example: dict[str, Any], tokenizer: Any = None) -> Encoded:
        """The sample made of what `prepare` returned.

        `tokenizer` may stand in for the feed's own (see `engine.dataset.batching`).
        """
        encode = self._parts.encode_fn
        tokenizer = tokenizer or self._tokenizer
        whole = encode(example, tokenizer=tokenizer, max_length=sys.maxsize)
        length = len(whole["input_ids"])
        if length > self.max_length:
            whole = encode(example, tokenizer=tokenizer, max_length=self.max_length)
        return Encoded(whole["input_ids"], whole["labels"], length)

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


def load_tokenizer(model: str, trust_remote_code: bool) -> Any:
    """The tokenizer in the folder (or of the hub model) `model`, as a config loads it."""
    from transformers import AutoTokenizer

    what = _("Cannot load the tokenizer of {model}").format(model=model)
    try:
        return AutoTokenizer.from_pretrained(
            model, trust_remote_code=trust_remote_code, padding_side="right"
        )
    except Exception as error:
        if "trust_remote_code" in str(error):
            why = _("It brings its own Python code, which runs only when you allow it.")
            todo = _("If you trust that code, add --trust-remote-code.")
        else:
            why = str(error).strip().split("\n")[0] or type(error).__name__
            todo = _("Give a model folder with its tokenizer files.")
        raise Failed(what, why, todo, repr(error)) from error


def choose_template(tokenizer: Any, templates: Mapping[str, Mapping[str, Any]]) -> str:
    """The XTuner template that writes a question exactly as the tokenizer's own chat template.

    Raises `Problem` when there is none, or no chat template to compare with.
    """
    known = ", ".join(templates)
    ask = _("Choose one with --template: {names}.").format(names=known)
    if not getattr(tokenizer, "chat_template", None):
        raise Problem(_("The tokenizer does not say which prompt template it needs"), todo=ask)
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
    raise Problem(_("No prompt template of XTuner's matches this tokenizer's own"), todo=ask)


def _likely(tokenizer: Any, name: str) -> bool:
    """Whether the template `name` belongs to the tokenizer's family (several write the same)."""
    family = name.split("_")[0].rstrip("0123456789")
    return family in type(tokenizer).__name__.lower()
