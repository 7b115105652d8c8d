"""Why a run ended, told from the ends of real logs (one H100, and a CPU; see the codes)."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.run import oom, reasons, state, verdict
from engine.run.ends import SPOKEN
from engine.run.rules import RULES
from engine.run.state import Cause, RunState

_TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g()\n{}'
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
        # datasets: a torn JSON file; a process of map(num_proc=2) that SIGKILLs itself.
        ("data-json-broken", 1, "json-broken"),
        ("data-map-killed", 1, "worker-killed"),
        # A row that raises KeyError in a DataLoader with two workers.
        ("data-worker-raises", 1, "exception"),
        # deepspeed.initialize with 8 != 2 * 1 * 1; three overflows at the lowest loss scale.
        ("deepspeed-batch", 1, "deepspeed-batch"),
        ("deepspeed-loss-scale", 1, "loss-scale"),
        # A file system mounted read-only; RLIMIT_FSIZE of 4096; RLIMIT_NOFILE of 30.
        ("disk-read-only", 1, "disk-read-only"),
        ("file-too-large", 1, "file-too-large"),
        ("too-many-files", 1, "too-many-files"),
        # gloo, one of two processes: rank 0 alone; rank 1 alone; rank 1 misses a barrier.
        ("gloo-alone", 1, "nodes-missing"),
        ("gloo-no-master", 1, "first-node-missing"),
        ("gloo-barrier", 1, "gloo-timeout"),
        # 2^45 numbers asked for from numpy, as a bytearray, from torch.
        ("no-memory-numpy", 1, "memory-host"),
        ("no-memory-python", 1, "memory-host"),
        ("no-memory-torch", 1, "memory-host"),
        # clip_grad_norm_ of a NaN; bfloat16 into a layer of float32.
        ("norm-not-finite", 1, "norm-not-finite"),
        ("two-dtypes", 1, "two-dtypes"),
        # NCCL_SOCKET_IFNAME names an interface that is not there (two H200).
        ("nccl-no-interface", 1, "nccl-interface"),
    ],
)
def test_real_logs(log: str, status: int, code: str) -> None:
    cause = reasons.find(reasons.tail(LOGS / f"{log}.log"), status)
    assert cause.code == code
    words = reasons.say(cause)
    assert words.reason and words.todo and "?" not in words.reason.replace("'?", "").rstrip("?")


# torchrun with two gloo processes, between two all_reduce: rank 1 raises, asks for 2^45 numbers,
# dies of SIGKILL, of SIGSEGV, or sleeps longer than the time-out. Those of NCCL are of
# XTuner under ZeRO-2, as `tests/gpu/test_several.py` keeps them: rank 0, whose collective was
# broken off, says much more than rank 1. On a GPU that is full before the ranks have met
# ("full") nothing in the traceback says whose it is.
@pytest.mark.parametrize(
    ("log", "code", "rank", "shown"),
    [
        ("gloo-rank-raises", "exception", "1", "a row without an answer: 17"),
        ("gloo-rank-memory", "memory-host", "1", "DefaultCPUAllocator"),
        ("gloo-rank-killed", "worker-killed", "1", ""),
        ("gloo-rank-segfault", "signal-11", "1", ""),
        ("gloo-rank-timeout", "gloo-timeout", "0", "Timed out waiting"),
        ("nccl-rank-raises", "exception", "1", "a row without an answer: 17"),
        ("nccl-rank-memory", "oom-gpu", "1", "CUDA out of memory"),
        ("nccl-rank-full", "oom-gpu-unsized", "1", "Cuda failure 'out of memory'"),
        ("nccl-rank-killed", "worker-killed", "1", ""),
        ("nccl-rank-hangs", "nccl-behind", "1", ""),
    ],
)
def test_the_rank_that_failed_by_itself_is_named(
    log: str, code: str, rank: str, shown: str
) -> None:
    text = reasons.tail(LOGS / f"{log}.log")
    cause = reasons.find(text, 1)
    assert (cause.code, cause.values["rank"]) == (code, rank)
    assert reasons.say(cause).reason.startswith(f"Rank {rank}: ")
    lines = reasons.traceback(text, cause)
    assert log == "nccl-rank-full" or all(line.startswith(f"[rank{rank}]") for line in lines)
    assert bool(lines) == bool(shown) and shown in "".join(lines[-1:])


_NCCL = (
    "torch.distributed.DistBackendError: NCCL error in: "
    "/pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:94, {}, NCCL version 2.27.5"
)
_LATE = (
    "[rank{0}]:[E626 06:24:44.903881913 ProcessGroupNCCL.cpp:683] [Rank {0}] Watchdog caught "
    "collective operation timeout: WorkNCCL(SeqNum=808, OpType=ALLREDUCE, NumelIn=980, "
    "NumelOut=980, Timeout(ms)=600000) ran for 600020 milliseconds before timing out."
)


def _ranks_say(*said: str) -> str:
    """What ranks write whose errors are these, each with all lines of its message, in turn."""
    return "\n".join(
        "\n".join(f"[rank{rank}]: {line}" for line in _TRACEBACK.format(text).splitlines())
        + f"\n[rank{rank}]:[W1129 02:00:00.1 ProcessGroupNCCL.cpp:1524] Warning: not destroyed"
        for rank, text in enumerate(said)
    )


# The words of NCCL 2.27.5 and torch 2.10, as the strings in their libraries have them, in the
# layout of pytorch/torchtitan#853, NVIDIA/nccl#1837 and #1410, open-r1-multimodal#7,
# verl#1096, ray_lightning#24.
@pytest.mark.parametrize(
    ("kind", "what", "last", "code"),
    [
        (
            "internal error - please report this issue to the NCCL developers",
            "ncclInternalError: Internal check failed.",
            "Bootstrap : no socket interface found",
            "nccl-interface",
        ),
        (
            "internal error - please report this issue to the NCCL developers",
            "ncclInternalError: Internal check failed.",
            "ncclSocketInit: connecting to address  with family 59936 is neither AF_INET(2) "
            "nor AF_INET6(10)",
            "nccl-interface",
        ),
        (
            "unhandled system error (run with NCCL_DEBUG=INFO for details)",
            "ncclSystemError: System call (e.g. socket, malloc) or external library call failed "
            "or device error.",
            "Error while creating shared memory segment /dev/shm/nccl-1YsMbG (size 7340384), "
            "error: No space left on device (28)",
            "nccl-shared-memory",
        ),
        (
            "invalid usage (run with NCCL_DEBUG=WARN for details)",
            "ncclInvalidUsage: This usually reflects invalid usage of NCCL library.",
            "Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 34000",
            "nccl-same-gpu",
        ),
        (
            "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
            "ncclUnhandledCudaError: Call to CUDA function failed.",
            "Cuda failure 217 'peer access is not supported between these two devices'",
            "nccl-p2p",
        ),
        (
            "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
            "ncclUnhandledCudaError: Call to CUDA function failed.",
            "Cuda failure 2 'out of memory'",
            "oom-gpu-unsized",
        ),
        (
            "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
            "ncclUnhandledCudaError: Call to CUDA function failed.",
            "Cuda failure 999 'unknown error'",
            "nccl",
        ),
        (
            "remote process exited or there was a network error",
            "ncclRemoteError: A call failed possibly due to a network error or a remote process "
            "exiting prematurely.",
            "socketProgress: Connection closed by remote peer localhost<47861>",
            "nccl-peer",
        ),
    ],
)
def test_nccl_says_below_its_error_what_went_wrong(
    kind: str, what: str, last: str, code: str
) -> None:
    error = "\n".join([_NCCL.format(kind), what, "Last error:", last])
    text = _ranks_say(error, error)
    cause = reasons.find(text, 1)
    assert (cause.code, cause.values["rank"]) == (code, "0")
    assert "?" not in reasons.say(cause).reason
    shown = reasons.traceback(text, cause)
    assert shown[-1] == f"[rank0]: {last}", "the message is shown to its end, and nothing behind it"
    # Where another rank failed by itself, that counts, be it told later.
    cause = reasons.find(_ranks_say(error, "KeyError: 'text'"), 1)
    lost = ("nccl", "nccl-peer")
    assert (cause.code, cause.values["rank"]) == (
        ("dataset-column", "1") if code in lost else (code, "0")
    )


def test_the_rank_that_the_others_waited_for_is_named() -> None:
    ended = "  rank      : {} (local_rank: 0)\n  exitcode  : {} (pid: 7)\n"
    text = "\n".join([_LATE.format(0), _LATE.format(2), ended.format(0, -6), ended.format(1, -15)])
    assert reasons.find(text, 1) == Cause("nccl-behind", {"rank": "1"})
    # All waited, each for something else: nobody can say whose fault it is.
    every = "\n".join([_LATE.format(0), _LATE.format(1), ended.format(0, -6)])
    assert reasons.find(every, 1).code == "nccl-timeout"
    # Who waited until the time-out is no cause where another one failed.
    raised = f"{_LATE.format(0)}\n{_ranks_say('RuntimeError: x', 'KeyError: 1')}"
    assert reasons.find(raised, 1).code == "exception"


def test_tasks_of_srun_that_write_at_once_are_told_apart() -> None:
    ends = {"0": "RuntimeError: Connection closed by peer [10.0.0.1]:1", "1": "KeyError: 'text'"}
    rows = [
        f"{task}: {said}"
        for pair in zip(
            *[_TRACEBACK.format(end).splitlines() for end in ends.values()], strict=True
        )
        for task, said in zip(ends, pair, strict=True)
    ]
    assert reasons.find("\n".join(rows), 1).values == {"column": "text", "rank": "1"}
    # Under torchrun a task is a node; the rank stands behind it.
    marked = [f"{row[:3]}[rank{int(row[0]) + 4}]: {row[3:]}" for row in rows]
    assert reasons.find("\n".join(marked), 1).values["rank"] == "5"


@pytest.mark.parametrize(
    ("code", "alone", "beside"),
    [(-6, "signal", "connection"), (-15, "status", "connection"), (-7, "signal", "signal")],
)
def test_an_abort_is_told_only_where_nothing_else_is(code: int, alone: str, beside: str) -> None:
    summary = f"  rank      : 1 (local_rank: 1)\n  exitcode  : {code} (pid: 7)\n"
    assert reasons.find(summary, 1).code == alone
    with_lost = "[rank0]: " + _TRACEBACK.format("RuntimeError: Connection closed by peer").replace(
        "\n", "\n[rank0]: "
    )
    assert reasons.find(f"{with_lost}\n{summary}", 1).code == beside


def test_out_of_memory_says_how_much() -> None:
    cause = reasons.find(reasons.tail(LOGS / "oom-deepspeed-torchrun.log"), 1)
    assert cause.values == {
        "gpu": "0",
        "wanted": "12.00 GiB",
        "free": "3.47 GiB",
        "total": "79.18 GiB",
    }


@pytest.mark.parametrize(("gpus", "told"), [([], "1"), ([1, 0], "0"), ([2, 5, 7], "5"), ([3], "1")])
def test_a_gpu_is_told_by_the_drivers_number(tmp_path: Path, gpus: list[int], told: str) -> None:
    full = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 12.00 GiB. GPU 1 has a total"
        " capacity of 79.18 GiB of which 3.47 GiB is free."
    )
    (tmp_path / state.LOG).write_text(_ranks_say("RuntimeError: Connection closed by peer", full))
    cause = verdict.why(tmp_path, RunState("training", 0.0), 1, oom.Watch(), gpus)
    assert cause.code == "oom-gpu" and (cause.values["gpu"], cause.values["rank"]) == (told, "1")
    assert reasons.say(cause).reason.startswith(f"Rank 1: GPU {told} is out of memory")


@pytest.mark.parametrize(
    ("gpus", "reason"),
    [
        ([2, 5], "Rank 1: GPU 5 is out of memory."),
        ([1, 0], "Rank 1: GPU 0 is out of memory."),
        ([3], "Rank 1: A GPU is out of memory."),  # another node's
    ],
)
def test_a_gpu_that_is_full_at_the_start_is_the_ranks(
    tmp_path: Path, gpus: list[int], reason: str
) -> None:
    (tmp_path / state.LOG).symlink_to(LOGS / "nccl-rank-full.log")
    cause = verdict.why(tmp_path, RunState("starting", 0.0), 1, oom.Watch(), gpus)
    words = reasons.say(cause)
    assert words.reason == reason and "GPU that nobody else uses" in words.todo


def test_the_only_gpu_is_the_full_one(tmp_path: Path) -> None:
    error = _TRACEBACK.format("torch.AcceleratorError: CUDA error: out of memory\n")
    (tmp_path / state.LOG).write_text(error)
    cause = verdict.why(tmp_path, RunState("starting", 0.0), 1, oom.Watch(), [3])
    assert reasons.say(cause).reason == "GPU 3 is out of memory."


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
        # Words of CUDA, the driver and the loader, which no test machine can make at will.
        (
            "RuntimeError: CUDA error: an illegal memory access was encountered",
            1,
            "gpu-illegal-access",
        ),
        ("torch.AcceleratorError: CUDA error: device-side assert triggered", 1, "device-assert"),
        ("RuntimeError: CUDA error: no kernel image is available for execution", 1, "no-kernel"),
        ("RuntimeError: The NVIDIA driver on your system is too old (found 1)", 1, "driver-old"),
        ("RuntimeError: CUDA error: uncorrectable ECC error encountered", 1, "gpu-broken"),
        ("ImportError: flash_attn.so: undefined symbol: _ZN3c10", 1, "import-broken"),
        (
            "torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError",
            1,
            "nodes-missing-unsized",
        ),
        (
            "deepspeed.runtime.zero.utils.ZeRORuntimeException: The checkpoint being loaded used a "
            "DP world size of 2 but the current world size is 1. Automatic adjustment of ZeRO's "
            "optimizer state partitioning with a new world size is not currently supported.",
            1,
            "zero-ranks",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory.", 1, "oom-gpu-unsized"),
        ("torch.AcceleratorError: CUDA error: invalid device ordinal", 1, "gpu-number"),
        (
            "RuntimeError: [enforce fail at /pytorch/third_party/gloo/gloo/transport/tcp/device.cc"
            ":84] ifa != nullptr. Unable to find address for: nowhere0",
            1,
            "gloo-interface",
        ),
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
