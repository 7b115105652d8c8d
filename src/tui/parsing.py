"""Python's own parser, one thread at a time.

`ast.parse` of Python 3.11 counts its depth in one place for all threads. Where two are in
it, either may raise "SystemError: AST constructor recursion depth mismatch"
(https://github.com/python/cpython/issues/106905). The app parses configs in threads while
it draws them, and Textual parses the keys' actions: an edit could not be saved, a
preflight broke off. So it is `ast.parse` itself that lets one thread wait for another, in
the app's process only; `ast.literal_eval` goes through it, too.
"""

from __future__ import annotations

import ast
import functools
import threading
from typing import Any

_parse = ast.parse
_turn = threading.RLock()  # what is collected in the middle of it may parse, too


@functools.wraps(_parse)
def _in_turn(*arguments: Any, **options: Any) -> Any:
    with _turn:
        return _parse(*arguments, **options)


def take_turns() -> None:
    """Let all of this process parse one thread at a time."""
    ast.parse = _in_turn
