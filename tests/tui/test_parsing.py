"""Threads of the app parse at once: one waits for the other."""

from __future__ import annotations

import ast
import gc
import importlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

DEEP = "x = [" + ", ".join(f"f(a.b.c[{number}], {{'k': (1, 2)}})" for number in range(200)) + "]"
MEETINGS = 20
"""Times that another thread parses in the middle; some come before the depth counts."""


@pytest.fixture
def often_collected() -> Iterator[None]:
    """Garbage is looked for all the time: that is where a thread that parses gives way."""
    before = gc.get_threshold()
    gc.set_threshold(50)
    yield
    gc.set_threshold(*before)


def test_a_text_is_parsed_while_another_thread_parses(often_collected: None) -> None:
    importlib.import_module("tui")
    parses, others = threading.get_ident(), list[threading.Thread]()

    def meanwhile(phase: str, _info: dict[str, Any]) -> None:
        if phase == "start" and threading.get_ident() == parses and len(others) < MEETINGS:
            others.append(threading.Thread(target=ast.literal_eval, args=("1",)))
            others[-1].start()
            others[-1].join(0.02)  # it cannot end before this one has parsed

    gc.callbacks.append(meanwhile)
    try:
        [line] = ast.parse(DEEP).body
    finally:
        gc.callbacks.remove(meanwhile)
    for other in others:
        other.join()
    assert len(others) == MEETINGS and isinstance(line, ast.Assign)
