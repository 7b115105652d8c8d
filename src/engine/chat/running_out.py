"""When memory runs out inside the worker: given back, and told with what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from engine.chat.models import free_memory
from engine.errors import Failed, Way
from engine.i18n import _

_SAID = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")
"""What torch says besides its own OutOfMemoryError (of CUDA itself, of cuBLAS, of the host)."""
_Result = TypeVar("_Result")


def told(do: Callable[[], _Result], what: str, todo: str, ways: tuple[Way, ...]) -> _Result:
    """What `do` returns; where it runs out of memory, `Failed` with the other three.

    By then nothing that it had begun is held any more: what was loaded before goes on.
    """
    try:
        return do()
    except RuntimeError as error:  # OutOfMemoryError is one
        if not any(words in str(error) for words in _SAID):
            raise
        details = str(error)
    # Only here, where the error with its frames is gone, are their tensors free.
    free_memory()
    raise Failed(what, _sentences(details), todo, details, ways)


def loading(do: Callable[[], _Result], model: str) -> _Result:
    """`told` for a model that is being loaded."""
    return told(
        do,
        _("Memory ran out while {model} was loaded").format(model=model),
        _("Take another model out first, or a smaller one."),
        ("bits", "device", "unload"),
    )


def answering(do: Callable[[], _Result]) -> _Result:
    """`told` for an answer."""
    return told(
        do,
        _("Memory ran out in the middle of an answer"),
        _("Ask something shorter, or begin a new talk."),
        ("bits", "unload"),
    )


def _sentences(text: str) -> str:
    """The part of torch's message that a person needs: what was asked for, what is free."""
    head = text.strip().splitlines()[0]
    for advice in (" Process ", " Including non-PyTorch memory", " Of the allocated memory"):
        head = head.split(advice)[0]
    return head
