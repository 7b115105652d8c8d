"""The loop inside a worker: one request a line in, JSON lines out.

In: ``{"id": 1, "do": "generate", …}`` or ``{"do": "cancel", "id": 1}``.
Out: ``{"event": "ready"}`` once, then for a request any number of
``{"id": 1, "event": …}``, closed by ``"done"`` (with the handler's result) or
``"error"`` (``what``, ``why``, ``todo``, ``details``, ``ways``).

Runs under the training interpreter, which need not have msgspec or anything
else that the app installs: standard library and the modules of ours that need no more.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from engine import i18n, unforeseen
from engine.errors import Failed, Problem
from engine.i18n import _

Emit = Callable[..., None]
"""``emit("token", text="…")`` sends an event that belongs to the current request."""
Cancelled = Callable[[], bool]
Handler = Callable[[Mapping[str, Any], Emit, Cancelled], Mapping[str, Any]]


def serve(handlers: Mapping[str, Handler]) -> None:
    """Answer requests from stdin until it closes. Call it from the worker's ``__main__``."""
    i18n.use(os.environ.get("TUNEDECK_LANGUAGE", ""))
    # Libraries print to stdout as they please: only we write to the real one.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    requests: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    cancelled: set[int] = set()

    def read() -> None:
        try:
            for line in sys.stdin:
                request = json.loads(line)
                if request["do"] == "cancel":
                    cancelled.add(request["id"])
                else:
                    requests.put(request)
        except ValueError:
            pass  # half a line: the app was killed while it wrote
        finally:
            # The app is gone: an answer in progress has no reader either.
            requests.put(None)
            cancelled.add(-1)

    threading.Thread(target=read, daemon=True).start()

    def send(**message: Any) -> None:
        out.write(json.dumps(message, ensure_ascii=False) + "\n")

    try:
        send(event="ready")
        while (request := requests.get()) is not None:
            _answer(request, handlers, send, cancelled)
    except BrokenPipeError:
        pass


def _answer(
    request: dict[str, Any],
    handlers: Mapping[str, Handler],
    send: Callable[..., None],
    cancelled: set[int],
) -> None:
    number = request["id"]

    def emit(event: str, **values: Any) -> None:
        send(id=number, event=event, **values)

    def is_cancelled() -> bool:
        return number in cancelled or -1 in cancelled

    try:
        result = handlers[request["do"]](request, emit, is_cancelled)
    except BrokenPipeError:
        raise
    except Exception as error:  # whatever a library throws is an answer, not our end
        problem = error if isinstance(error, Problem) else unforeseen.refused(error)
        if problem is None:
            what = f"{request['do']}: {type(error).__name__}"
            todo = ""
            if isinstance(error, ModuleNotFoundError):
                todo = _("Run `tunedeck doctor` to check the training environment.")
            problem = Failed(what, str(error).strip(), todo, traceback.format_exc())
        emit(
            "error",
            what=problem.what,
            why=problem.why,
            todo=problem.todo,
            details=problem.details,
            ways=problem.ways,
            status=problem.status,
        )
    else:
        emit("done", **result)
