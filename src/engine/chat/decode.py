"""From generated tokens to text that may be shown at once. Inside the worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from engine.worker.serve import Cancelled, Emit


class Pieces:
    """A streamer for ``generate``: sends each piece of text as soon as it is certain.

    Held back are bytes that do not make a whole character yet, and what may
    become a stop word; the stop word itself is never sent.
    """

    def __init__(
        self, tokenizer: Any, emit: Emit, ends: Sequence[int], stop_words: Sequence[str]
    ) -> None:
        self._tokenizer = tokenizer
        self._emit = emit
        self._ends = frozenset(ends)
        # A stop word that is one token is among the end tokens, and never becomes text.
        self._words = tuple(stop_words)
        self._ids: list[int] = []
        self._shown_from = self._decoded_to = 0
        self._held = ""
        self._text: list[str] = []
        self._prompt_passed = False
        self._times: list[float] = [time.perf_counter()]
        self.ended = ""
        """Why the answer ended: "end", "word", or "" while it goes on."""

    def put(self, value: Any) -> None:
        """Called by ``generate`` with the prompt first, then with each new token."""
        if not self._prompt_passed:
            self._prompt_passed = True
            return
        self._times.append(time.perf_counter())
        for token in value.reshape(-1).tolist():
            if token in self._ends:
                self.ended = "end"
            elif not self.ended:
                self._ids.append(token)
                self._show(self._new_text())

    def end(self) -> None:
        """Called by ``generate`` when it is over: what was held back is text after all."""
        if self.ended != "word":
            rest = self._decode(self._shown_from, len(self._ids))
            before = self._decode(self._shown_from, self._decoded_to)
            self._send(self._held + rest[len(before) :])
        self._held = ""

    def result(self, stopped: bool) -> dict[str, Any]:
        """The answer and its figures; the time of the first token includes reading the prompt."""
        count = len(self._times) - 1
        spent = self._times[-1] - self._times[1] if count > 1 else 0.0
        return {
            "text": "".join(self._text),
            "tokens": count,
            "first_token_s": round(self._times[1] - self._times[0], 4) if count else 0.0,
            "tokens_per_s": round((count - 1) / spent, 2) if spent else 0.0,
            "ended": self.ended or ("stopped" if stopped else "length"),
        }

    def _decode(self, first: int, last: int) -> str:
        text: str = self._tokenizer.decode(
            self._ids[first:last], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _new_text(self) -> str:
        """What the newest tokens add. Decoded with those before, which decide about spaces."""
        before = self._decode(self._shown_from, self._decoded_to)
        now = self._decode(self._shown_from, len(self._ids))
        if now.endswith("\ufffd") or len(now) <= len(before):
            return ""
        self._shown_from, self._decoded_to = self._decoded_to, len(self._ids)
        return now[len(before) :]

    def _show(self, text: str) -> None:
        text = self._held + text
        found = [at for word in self._words if (at := text.find(word)) >= 0]
        if found:
            self.ended = "word"
            self._held = ""
            self._send(text[: min(found)])
            return
        keep = max(
            (n for word in self._words for n in range(1, len(word)) if text.endswith(word[:n])),
            default=0,
        )
        self._held = text[len(text) - keep :]
        self._send(text[: len(text) - keep])

    def _send(self, text: str) -> None:
        if text:
            self._text.append(text)
            self._emit("token", text=text)


class Ender:
    """A stopping criterion for ``generate``: someone stopped it, or a stop word came."""

    def __init__(self, pieces: Pieces, stop: Cancelled) -> None:
        self._pieces = pieces
        self._stop = stop

    def __call__(self, input_ids: Any, _scores: Any, **_options: Any) -> Any:
        """A tensor that says so for each row; `put` has seen the newest token."""
        import torch

        over = self._stop() or bool(self._pieces.ended)
        return torch.full((input_ids.shape[0],), over, device=input_ids.device, dtype=torch.bool)
