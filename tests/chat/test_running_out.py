"""Memory that runs out in the worker is given back and told; other errors stay what they are."""

from __future__ import annotations

import pytest

from engine.chat import running_out
from engine.errors import Failed

TORCH = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of "
    "which 310.62 MiB is free. Process 4711 has 78.80 GiB memory in use. Of the allocated memory "
    "77.96 GiB is allocated by PyTorch, and 20.11 MiB is reserved by PyTorch but unallocated."
)


@pytest.fixture
def freed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry each time memory is given back."""
    calls: list[str] = []
    monkeypatch.setattr(running_out, "free_memory", lambda: calls.append("freed"))
    return calls


def fails(text: str) -> None:
    raise RuntimeError(text)


def test_it_says_what_was_asked_for_and_what_helps(freed: list[str]) -> None:
    with pytest.raises(Failed) as caught:
        running_out.loading(lambda: fails(TORCH), "/models/seven")
    told = caught.value
    assert told.what == "Memory ran out while /models/seven was loaded"
    assert told.why.endswith("of which 310.62 MiB is free.") and "bits" in told.ways
    assert told.details == TORCH and freed == ["freed"]
    assert told.__context__ is None, "the error's frames hold the tensors"


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)",
        "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_every_way_in_which_it_runs_out(freed: list[str], text: str) -> None:
    with pytest.raises(Failed, match="in the middle of an answer"):
        running_out.answering(lambda: fails(text))
    assert freed


def test_other_errors_and_results_pass(freed: list[str]) -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        running_out.answering(lambda: fails("mat1 and mat2 shapes cannot be multiplied"))
    assert running_out.answering(lambda: 3) == 3 and not freed
