"""Why a run ended, told from the ends of real logs (one H100, and a CPU; see the codes)."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.run import reasons
from engine.run.rules import RULES, SPOKEN
from engine.run.state import Cause

LOGS = Path(__file__).parent.parent / "fixtures" / "logs"


@pytest.mark.parametrize(
    ("log", "status", "code"),
    [
        ("oom-in-backward", 1, "oom-gpu"),
        ("oom-deepspeed-torchrun", 1, "oom-gpu"),
        ("resume-weights-only", 1, "weights-only"),
        ("resume-weights-only-deepspeed-torchrun", 1, "weights-only"),
        ("internlm2-get-max-length", 1, "exception"),
        ("deepspeed-no-onebit-torchrun", 1, "module-missing"),
        ("deepspeed-without-launcher-mpi4py", 1, "mpi4py"),
        ("warmup-rounds-to-zero", 1, "warmup-zero"),
        ("sigterm-plain", -15, "signal"),
        ("sigterm-torchrun", 1, "signal"),
        ("sigint-plain", -2, "interrupted"),
        ("sigint-torchrun", 1, "interrupted"),
        ("launcher-killed-worker-goes-on", -9, "signal-9"),
        # Made on a CPU: torch.save, open and safetensors on a file system of 64 KB; two
        # workers on a /dev/shm of 1 MB; a port in use; a killed worker; weights of another shape.
        ("disk-full-torch", 1, "disk-full"),
        ("disk-full-open", 1, "disk-full"),
        ("disk-full-safetensors", 1, "disk-full"),
        ("shared-memory", 1, "shared-memory"),
        ("shared-memory-bus-error", 1, "shared-memory"),
        ("port-taken", 1, "port-taken"),
        ("data-worker-killed", 1, "worker-killed"),
        ("checkpoint-other-shape", 1, "checkpoint-other-model"),
    ],
)
def test_real_logs(log: str, status: int, code: str) -> None:
    cause = reasons.find(reasons.tail(LOGS / f"{log}.log"), status)
    assert cause.code == code
    words = reasons.say(cause)
    assert words.reason and words.todo and "?" not in words.reason.replace("'?", "").rstrip("?")


def test_out_of_memory_says_how_much() -> None:
    cause = reasons.find(reasons.tail(LOGS / "oom-deepspeed-torchrun.log"), 1)
    assert cause.values == {
        "gpu": "0",
        "wanted": "12.00 GiB",
        "free": "3.47 GiB",
        "total": "79.18 GiB",
    }


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("OSError: [Errno 28] No space left on device", 1, "disk-full"),
        ("ModuleNotFoundError: No module named 'bitsandbytes'", 1, "module-missing"),
        ("KeyError: 'instruction'", 1, "dataset-column"),
        ("FileNotFoundError: Unable to find '/data/x.json'", 1, "file-missing"),
        (
            "RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed.",
            1,
            "worker-killed",
        ),
        ("RuntimeError: NVML_SUCCESS == r INTERNAL ASSERT FAILED", -6, "signal"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory.", -6, "oom-gpu-unsized"),
        ("SomeLibraryError: it did not work", 1, "exception"),
    ],
)
def test_tracebacks(text: str, status: int, code: str) -> None:
    log = f'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n{text}\n'
    assert reasons.find(log, status).code == code


def test_the_cause_counts_not_the_launchers_last_word() -> None:
    log = (
        "[rank1]: Traceback (most recent call last):\n"
        '[rank1]:   File "a.py", line 1, in f\n'
        "[rank1]: RuntimeError: a tensor of another size\n"
        "Traceback (most recent call last):\n"
        '  File "run.py", line 1, in main\n'
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n"
    )
    assert reasons.find(log, 1).values == {"error": "RuntimeError: a tensor of another size"}


def test_nothing_said_leaves_the_status() -> None:
    assert reasons.say(reasons.find("", 3)).reason == "It ended with exit status 3."


def test_an_escape_sequence_in_an_error_does_not_get_through() -> None:
    log = "Traceback (most recent call last):\n  File\nValueError: \x1b]0;owned\x07\x1b[2Jboo\n"
    assert "\x1b" not in reasons.say(reasons.find(log, 1)).reason


def test_every_rule_can_be_said() -> None:
    for code in [rule.code for rule in RULES] + list(SPOKEN):
        assert reasons.say(Cause(code)).reason, code
