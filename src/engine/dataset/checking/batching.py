"""Many texts tokenized in one call, for functions that tokenize one text after the other.

XTuner's ``encode_fn`` asks the tokenizer for one text at a time; most of what a
short text then costs is Python around the tokenizer. A `Batching` tokenizer is
told a batch of texts beforehand, tokenizes them in one call, and answers from
that: the tokens are the tokenizer's own, the logic stays XTuner's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from engine.dataset.checking.rowpass import Counted
from engine.dataset.feed import Feed
from engine.dataset.map_functions import MapFunctions


class Tokens(list[int]):
    """Tokens that nobody changes: a deep copy of them is the list itself.

    ``encode_fn`` copies an answer's tokens deeply, number by number, only to append them.
    """

    def __deepcopy__(self, _memo: Any) -> Tokens:
        return self


class Batching:
    """Stands in for `tokenizer`; make it with `batching`."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._batches = _takes_batches(tokenizer)
        self._known: dict[str, Tokens] = {}

    def learn(self, texts: Iterable[str]) -> None:
        """Tokenize `texts` and forget what was learnt before.

        A text that the tokenizer cannot take is left for `encode` to fail on.
        """
        self._known = {}
        if not self._batches:
            return
        wanted = list(dict.fromkeys(texts))
        try:
            found = self._tokenizer(
                wanted,
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
            )["input_ids"]
        except Exception:  # one of them; which one, encode will find
            return
        self._known = dict(zip(wanted, map(Tokens, found), strict=True))

    def encode(self, text: str, add_special_tokens: bool = True) -> Tokens:
        """What the tokenizer's own ``encode`` returns."""
        known = None if add_special_tokens else self._known.get(text)
        if known is None:
            known = Tokens(self._tokenizer.encode(text, add_special_tokens=add_special_tokens))
        return known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def batching(tokenizer: Any) -> Batching:
    """A stand-in for `tokenizer`, by the same class name: XTuner looks at that."""
    made: Batching = type(type(tokenizer).__name__, (Batching,), {})(tokenizer)
    return made


def _takes_batches(tokenizer: Any) -> bool:
    """Whether a batch gives the same tokens as one text at a time.

    So it is for the tokenizers library; Python code of a model's own may do otherwise.
    """
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return False
    names = ("encode", "__call__", "_batch_encode_plus", "_encode_plus")
    return all(
        getattr(type(tokenizer), name, None) is getattr(PreTrainedTokenizerFast, name, None)
        for name in names
    )


class BatchFeed:
    """Counts the tokens of many rows at once, as `feed` makes samples of them."""

    def __init__(self, feed: Feed, tokenizer: Any) -> None:
        self._feed = feed
        self._tokenizer = batching(tokenizer)

    def __call__(self, values: list[Any], shape: str) -> list[Counted | Exception]:
        """See `engine.dataset.checking.rowpass.Tokenize`."""
        prepared = [self._prepare(value, shape) for value in values]
        self._tokenizer.learn(_texts(one for one in prepared if isinstance(one, dict)))
        return [self._count(one) for one in prepared]

    def _prepare(self, value: Any, shape: str) -> dict[str, Any] | Exception | None:
        try:
            return self._feed.prepare(value, shape)
        except Exception as error:
            return error

    def _count(self, example: dict[str, Any] | Exception | None) -> Counted | Exception:
        if example is None:
            return Counted(0, 0)
        if isinstance(example, Exception):
            return example
        try:
            sample = self._feed.tokenize(example, self._tokenizer)
        except Exception as error:
            return error
        kept = len(sample.input_ids) if sample.trained else 0
        return Counted(sample.length, kept, sample.behind)


class OnlyMapped:
    """Says which rows a map function takes, where no tokenizer is there to count with."""

    def __init__(self, maps: MapFunctions) -> None:
        self._maps = maps

    def __call__(self, values: list[Any], shape: str) -> list[Counted | Exception]:
        """See `engine.dataset.checking.rowpass.Tokenize`; no row has tokens, none is dropped."""
        return [self._one(value, shape) for value in values]

    def _one(self, value: Any, shape: str) -> Counted | Exception:
        try:
            self._maps.apply(value, shape)
        except Exception as error:
            return error
        return Counted(0, 1)


def _texts(examples: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The texts that XTuner's ``encode_fn`` will ask the tokenizer for."""
    for example in examples:
        for turn in example["conversation"]:
            for name in ("input", "output", "sep"):
                text = turn.get(name)
                if isinstance(text, str):
                    yield text
