"""The table of causes: how each looks in a log, what it means, what to do."""

from __future__ import annotations

from typing import NamedTuple

from engine.i18n import N_


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
        r"GPU (?P<gpu>\d+) has a total capacity of (?P<total>[\d.]+ \w+) "
        r"of which (?P<free>[\d.]+ \w+) is free",
        N_(
            "GPU {gpu} is out of memory: {wanted} more were asked for, {free} of {total} were free."
        ),
        N_(
            "Lower batch_size (raise accumulative_counts by as much), then max_length; "
            "or use QLoRA, DeepSpeed ZeRO, or a GPU that nobody else uses."
        ),
    ),
    Rule(
        "oom-gpu-unsized",
        r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED",
        N_("A GPU is out of memory."),
        N_(
            "Lower batch_size (raise accumulative_counts by as much), then max_length; "
            "or use QLoRA, DeepSpeed ZeRO, or a GPU that nobody else uses."
        ),
    ),
    Rule(
        "disk-full",
        r"No space left on device|Errno 28|Errno 122|Disk quota exceeded"
        r"|unexpected pos \d+ vs \d+|file write failed",
        N_("The disk is full, or its quota is used up."),
        N_(
            "Make room (old checkpoints, caches), then resume. "
            "save_total_limit keeps fewer checkpoints."
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
            "Run `tunedeck gpus` to see what is there. "
            "On a CPU use OptimWrapper and float32 in the config."
        ),
    ),
    Rule(
        "device-assert",
        r"device-side assert triggered",
        N_(
            "A number was out of range on the GPU: most often a token that the model does not have."
        ),
        N_(
            "Check that tokenizer and model belong together, "
            "then try a run on the CPU: it says more."
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
        r"Connection closed by peer|Connection reset by peer|Gloo connect|DistStoreError",
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
    "unqueued": Rule(
        "", "", N_("It was taken out of the queue."), N_("`tunedeck resume {run}` puts it back.")
    ),
    "waiting-rebooted": Rule(
        "",
        "",
        N_("It waits ({wait}), but nothing watches it since the machine was restarted."),
        N_("Put it back into the queue: `tunedeck resume {run}`."),
    ),
    "waiting-unwatched": Rule(
        "",
        "",
        N_("It waits ({wait}), but the process that watched it is gone."),
        N_("Put it back into the queue: `tunedeck resume {run}`."),
    ),
    "awaited-failed": Rule(
        "",
        "",
        N_("It never started: {awaited}, which it waited for, failed."),
        N_("`tunedeck resume {run} --now` starts it all the same."),
    ),
    "awaited-stopped": Rule(
        "",
        "",
        N_("It never started: {awaited}, which it waited for, was stopped before its end."),
        N_("`tunedeck resume {run} --now` starts it all the same."),
    ),
    "awaited-lost": Rule(
        "",
        "",
        N_("It never started: nobody can say how {awaited} ended, which it waited for."),
        N_("`tunedeck resume {run} --now` starts it all the same."),
    ),
    "awaited-gone": Rule(
        "",
        "",
        N_("It never started: {awaited}, which it waited for, is not there any more."),
        N_("`tunedeck resume {run} --now` starts it all the same."),
    ),
    "never-started": Rule("", "", N_("It was never started."), N_("Start it again.")),
    "no-end": Rule("", "", N_("It ended before its last step; nothing here says why."), ""),
}
