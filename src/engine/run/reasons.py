"""Why a run ended, in one sentence and a remedy: read from the end of its log.

XTuner's own ``.log`` holds no traceback, so what counts is the raw output. A
traceback of torchrun comes last there, but says nothing: the cause stands
above it, its lines marked ``[rank0]:``.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import NamedTuple

from engine.i18n import N_, _
from engine.run.state import Cause
from engine.text import clean, one_line

TAIL = 256 * 1024
"""Bytes of the log that are looked at. torchrun and several ranks write long tracebacks."""


class Words(NamedTuple):
    """A cause as a person reads it."""

    reason: str
    todo: str


class Rule(NamedTuple):
    """What a line looks like, and what it means. Named groups fill the sentences."""

    code: str
    pattern: str
    reason: str
    todo: str


# Looked for in this order among the lines that end a traceback, then among all lines.
RULES = (
    Rule(
        "oom-gpu",
        r"OutOfMemoryError: CUDA out of memory\. Tried to allocate (?P<wanted>[\d.]+ \w+)\. "
        r"GPU (?P<gpu>\d+) has a total capacity of (?P<total>[\d.]+ \w+) of which (?P<free>[\d.]+ \w+) is free",
        N_(
            "GPU {gpu} is out of memory: {wanted} more were asked for, {free} of {total} were free."
        ),
        N_(
            "Lower batch_size (raise accumulative_counts by as much), then max_length; or use QLoRA, "
            "DeepSpeed ZeRO, or a GPU that nobody else uses."
        ),
    ),
    Rule(
        "oom-gpu-unsized",
        r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED",
        N_("A GPU is out of memory."),
        N_(
            "Lower batch_size (raise accumulative_counts by as much), then max_length; or use QLoRA, "
            "DeepSpeed ZeRO, or a GPU that nobody else uses."
        ),
    ),
    Rule(
        "disk-full",
        r"No space left on device|Errno 28|Errno 122|Disk quota exceeded"
        r"|unexpected pos \d+ vs \d+|file write failed",
        N_("The disk is full, or its quota is used up."),
        N_(
            "Make room (old checkpoints, caches), then resume. save_total_limit keeps fewer checkpoints."
        ),
    ),
    Rule(
        "shared-memory",
        r"Bus error|unable to (open|allocate|write to) shared memory|insufficient shared memory",
        N_("Shared memory (/dev/shm) is used up."),
        N_("Set dataloader_num_workers to 0, or give the container more with --shm-size."),
    ),
    Rule(
        "no-gpu",
        r"Found no NVIDIA driver|No CUDA GPUs are available|Torch not compiled with CUDA"
        r"|CUDA unknown error|no CUDA-capable device|AmpOptimWrapper.*only available on",
        N_("It wants a GPU, and there is none that it can use."),
        N_(
            "Run `tunedeck gpus` to see what is there. On a CPU use OptimWrapper and float32 in the config."
        ),
    ),
    Rule(
        "device-assert",
        r"device-side assert triggered",
        N_(
            "A number was out of range on the GPU: most often a token that the model does not have."
        ),
        N_(
            "Check that tokenizer and model belong together, then try a run on the CPU: it says more."
        ),
    ),
    Rule(
        "nccl-timeout",
        r"Watchdog caught collective operation timeout|collective operation timeout"
        r"|DistBackendError|ncclInternalError|ncclSystemError|ncclRemoteError|ncclUnhandledCudaError",
        N_("The GPUs lost each other (NCCL): one process fell behind or died."),
        N_("Look in the log for the first rank that failed; NCCL_DEBUG=INFO says more."),
    ),
    Rule(
        "connection",
        r"Connection closed by peer|Connection reset by peer|Broken pipe.*gloo|Gloo connect|DistStoreError",
        N_("The processes of this run lost each other."),
        N_("Look in the log for the first rank that failed."),
    ),
    Rule(
        "port-taken",
        r"EADDRINUSE|Address already in use",
        N_("The port that the processes talk over is taken."),
        N_("Start it again: another port is chosen each time."),
    ),
    Rule(
        "warmup-zero",
        r"ValueError: end should be larger than begin, but got begin=0, end=0",
        N_("The warm-up rounds to zero steps: there are too few steps for its share."),
        N_("Raise warmup_ratio or max_epochs in the config (preflight says how far)."),
    ),
    Rule(
        "no-samples",
        r"num_samples should be a positive integer|IndexError: Invalid key.*is out of bounds"
        r"|ZeroDivisionError.*|max_iters.*should be.*but get 0",
        N_("No sample is left to train on, so there is no step to make."),
        N_("Check the data (`tunedeck data check`); with packing, lower max_length or add rows."),
    ),
    Rule(
        "weights-only",
        r"Weights only load failed",
        N_("torch refused to read the checkpoint."),
        N_("Use checkpoints that a training run wrote, and start it through tunedeck."),
    ),
    Rule(
        "checkpoint-broken",
        r"PytorchStreamReader failed|failed finding central directory|EOFError: Ran out of input",
        N_("The checkpoint is only half written."),
        N_("Resume from an earlier one."),
    ),
    Rule(
        "checkpoint-other-model",
        r"size mismatch for (?P<name>[\w.]+)|Error\(s\) in loading state_dict",
        N_("The checkpoint does not fit the model."),
        N_("Resume with the model and the LoRA settings that the checkpoint was made with."),
    ),
    Rule(
        "mpi4py",
        r"ModuleNotFoundError: No module named 'mpi4py'",
        N_("DeepSpeed was started without saying which process this is, and asked MPI."),
        N_("Start it through tunedeck, which sets RANK and its like, or use torchrun."),
    ),
    Rule(
        "module-missing",
        r"(?:ModuleNotFoundError: No module named|ImportError: .*requires) '?(?P<module>[\w.]+)",
        N_("The training environment lacks {module}."),
        N_("Run `tunedeck doctor`, and install {module} into the training environment."),
    ),
    Rule(
        "model-missing",
        r"(?:OSError|HFValidationError|RepositoryNotFoundError|LocalEntryNotFoundError|LocalTokenNotFoundError)"
        r".*(?:not a local folder|Repo id must be|Repository Not Found|couldn't connect"
        r"|no file named|cannot find the requested files|does not appear to have)",
        N_("The model was not found: neither a folder here nor a name on the hub."),
        N_("Correct pretrained_model_name_or_path in the config."),
    ),
    Rule(
        "dataset-column",
        r"KeyError: '(?P<column>conversation|instruction|input|output|messages|text)'",
        N_("The data has no column {column}, which the config's map function wants."),
        N_("Check the data, and set dataset_map_fn to the one for its shape."),
    ),
    Rule(
        "file-missing",
        r"FileNotFoundError: (?:\[Errno 2\] No such file or directory: )?(?P<what>.+)",
        N_("A file is missing: {what}"),
        N_("Correct the path in the config."),
    ),
    Rule(
        "permission",
        r"PermissionError: (?:\[Errno 13\] Permission denied: )?(?P<what>.+)",
        N_("Access was denied: {what}"),
        N_("Correct the permissions, or choose another folder."),
    ),
    Rule(
        "worker-killed",
        r"Signal 9 \(SIGKILL\) received by PID (?P<pid>\d+)|exitcode\s*: -9 \(pid: (?P<pid2>\d+)\)"
        r"|DataLoader worker \(pid.*is killed by signal: Killed",
        N_("One of its processes was killed (signal 9)."),
        N_("Most likely the machine ran out of memory: use fewer workers, or a smaller model."),
    ),
)

# Causes that no line of the log tells.
SPOKEN = {
    "exception": Rule("", "", N_("{error}"), N_("The log holds the whole traceback.")),
    "interrupted": Rule("", "", N_("It was interrupted (Ctrl-C)."), N_("It can be resumed.")),
    "signal-9": Rule(
        "",
        "",
        N_("It was killed from outside (signal 9), or by the system for lack of memory."),
        N_("If nobody killed it, free host memory; then resume."),
    ),
    "signal-11": Rule(
        "",
        "",
        N_("It crashed in native code (segmentation fault)."),
        N_("Run `tunedeck doctor`: driver and libraries may not fit together."),
    ),
    "signal": Rule("", "", N_("It was ended from outside by {name}."), N_("It can be resumed.")),
    "status": Rule("", "", N_("It ended with exit status {status}."), N_("Look at the log's end.")),
    "interpreter": Rule(
        "",
        "",
        N_("The training interpreter {python} did not start: {error}"),
        N_("Set 'interpreter' in the settings to the Python that has XTuner."),
    ),
    "stopped": Rule(
        "", "", N_("Stopped after step {step}, with a checkpoint."), N_("It can be resumed.")
    ),
    "stopped-early": Rule("", "", N_("Stopped before its first step."), ""),
    "killed": Rule(
        "",
        "",
        N_("Killed on request: steps after the last checkpoint are lost."),
        N_("It can be resumed."),
    ),
    "rebooted": Rule(
        "", "", N_("The machine was restarted while it ran."), N_("It can be resumed.")
    ),
    "supervisor-gone": Rule(
        "", "", N_("The process that watched it is gone."), N_("It can be resumed.")
    ),
    "supervisor-gone-trainer-runs": Rule(
        "",
        "",
        N_("The process that watched it is gone; the training itself goes on (process {pid})."),
        N_("Let it end, or kill it and resume."),
    ),
    "never-started": Rule("", "", N_("It was never started."), N_("Start it again.")),
    "no-end": Rule("", "", N_("It ended before its last step; nothing here says why."), ""),
}
_BY_CODE = {rule.code: rule for rule in RULES} | SPOKEN

_RANK = re.compile(r"^\[(?:rank|Rank )?\d+\]:? ?", re.MULTILINE)
_ERROR = re.compile(
    r"^(?P<type>[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Failure|Warning))(?::|$)"
)
# torchrun's own words about a worker's end; never the cause.
_LAUNCHER = re.compile(r"ChildFailedError|SignalException")


def tail(log: Path, start: int = 0) -> str:
    """The end of `log` (but nothing before byte `start`), cleaned, progress bars collapsed."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(start, end - TAIL))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    lines = (line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n"))
    return clean("\n".join(lines))


def find(text: str, status: int | None) -> Cause:
    """The cause of an end with exit `status` (minus N for signal N), from the log's end."""
    text = _RANK.sub("", text)
    if status is not None and status < 0:
        named = _match([line for line in errors(text) if "Interrupt" not in line])
        return named if named is not None and status == -signal.SIGABRT else _signal(-status)
    ends = [line for line in errors(text) if not _LAUNCHER.search(line)]
    cause = _match(ends) or _match(text.splitlines())
    if cause is not None:
        return cause
    if ends:
        code = "interrupted" if ends[-1].startswith("KeyboardInterrupt") else "exception"
        return Cause(code, {} if code == "interrupted" else {"error": one_line(ends[-1])[:300]})
    launcher = re.search(r"SignalException: Process \d+ got signal: (\d+)", text)
    if launcher:
        return _signal(int(launcher[1]))
    return Cause("status", {"status": str(status)})


def errors(text: str) -> list[str]:
    """The lines that end a traceback in `text`, in order."""
    found = []
    inside = False
    for line in text.splitlines():
        if line.startswith("Traceback (most recent call last)"):
            inside = True
        elif inside and line and not line[0].isspace():
            if _ERROR.match(line):
                found.append(line)
            inside = False
    return found


def say(cause: Cause | None) -> Words:
    """`cause` in the language in use; empty words for none."""
    if cause is None:
        return Words("", "")
    rule = _BY_CODE.get(cause.code)
    if rule is None:
        return Words(cause.code, "")
    return Words(_fill(rule.reason, cause), _fill(rule.todo, cause))


def _fill(sentence: str, cause: Cause) -> str:
    return _(sentence).format_map(cause.values) if sentence else ""


def _match(lines: list[str]) -> Cause | None:
    for rule in RULES:
        pattern = re.compile(rule.pattern)
        for line in reversed(lines):
            found = pattern.search(line)
            if found:
                values = {
                    name: one_line(text)[:300] for name, text in found.groupdict().items() if text
                }
                return Cause(rule.code, values)
    return None


def _signal(number: int) -> Cause:
    if number == signal.SIGINT:
        return Cause("interrupted")
    if number in (signal.SIGKILL, signal.SIGSEGV):
        return Cause(f"signal-{number}")
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = str(number)
    return Cause("signal", {"name": name})
