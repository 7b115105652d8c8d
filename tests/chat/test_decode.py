"""Which text is certain enough to be shown, token by token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.chat.decode import Pieces

END = 0


class Bytes:
    """A tokenizer whose token is one byte; 0 ends a text."""

    def decode(self, ids: list[int], **_options: Any) -> str:
        return bytes(ids).decode("utf-8", "replace")


def stream(text: bytes, words: tuple[str, ...] = (), end: bool = True) -> tuple[list[str], Any]:
    shown: list[str] = []
    pieces = Pieces(Bytes(), lambda _event, text: shown.append(text), [END], words)
    pieces.put(np.array([[1, 2, 3]]))  # the prompt
    for byte in text:
        pieces.put(np.array([byte]))
        if pieces.ended:
            break
    if end and not pieces.ended:
        pieces.put(np.array([END]))
    pieces.end()
    return shown, pieces.result(stopped=False)


def test_characters_come_whole() -> None:
    shown, result = stream("你是a谁\N{ROCKET}".encode())
    assert shown == ["你", "是", "a", "谁", "\N{ROCKET}"]
    assert (result["text"], result["ended"]) == ("你是a谁\N{ROCKET}", "end")


def test_a_torn_character_at_the_end_is_not_lost() -> None:
    shown, result = stream("a你".encode()[:-1], end=False)
    assert (shown, result["ended"]) == (["a", "\ufffd"], "length")


def test_a_stop_word_is_never_shown() -> None:
    shown, result = stream(b"one<eoa>two", words=("<eoa>", "<x>"))
    assert "".join(shown) == result["text"] == "one"
    assert result["ended"] == "word"
    assert result["tokens"] == len("one<eoa>")


@pytest.mark.parametrize("text", ["a < b <e", "<<eo", "a<eo>b"])
def test_what_only_began_like_a_stop_word_is_text(text: str) -> None:
    shown, result = stream(text.encode(), words=("<eoa>",))
    assert "".join(shown) == result["text"] == text


def test_nothing_at_all() -> None:
    shown, result = stream(b"")
    assert shown == [] and result["text"] == "" and result["tokens"] == 1
    assert result["tokens_per_s"] == 0.0
