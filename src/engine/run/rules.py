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


FULL_GPU = N_(
    "Lower batch_size (raise accumulative_counts by as much), then max_length; "
    "or use QLoRA, DeepSpeed ZeRO, or a GPU that nobody else uses."
)
"""What to do when a GPU is out of memory."""
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
        FULL_GPU,
    ),
    Rule(
        "oom-gpu-unsized",
        r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
        r"|Cuda failure (?:\d+ )?'out of memory'",
        N_("A GPU is out of memory."),
        FULL_GPU,
    ),
    Rule(
        "memory-host",
        r"(?:^|\.)(?:_Array)?MemoryError\b|DefaultCPUAllocator|Errno 12\b|Cannot allocate memory",
        N_("The host is out of memory: a piece that was asked for could not be had."),
        N_("Use fewer data workers or a smaller model, shorten the data, or ask for more memory."),
    ),
    Rule(
        "nccl-interface",
        r"no socket interface found|No usable listening interface"
        r"|with family \d+ is neither AF_INET",
        N_("NCCL found no network interface: the ranks of one machine meet over one as well."),
        N_(
            "NCCL_SOCKET_IFNAME in the environment names one that is not there: "
            "unset it, or name one that `ip link` shows."
        ),
    ),
    Rule(
        "gloo-interface",
        r"gloo.*Unable to find address for: (?P<name>\S+)",
        N_("The ranks meet over a network interface as well, and there is none called {name}."),
        N_(
            "GLOO_SOCKET_IFNAME in the environment names it: "
            "unset that, or name one that `ip link` shows."
        ),
    ),
    Rule(
        "nccl-shared-memory",
        r"shared memory segment (?:/dev/shm/)?nccl-|failed to extend /dev/shm/nccl-",
        N_("NCCL found no room in shared memory (/dev/shm)."),
        N_(
            "Give the container more with --shm-size, and remove what dead runs left there; "
            "NCCL_SHM_DISABLE=1 does without, more slowly."
        ),
    ),
    Rule(
        "nccl-same-gpu",
        r"Duplicate GPU detected : rank (?P<one>\d+) and rank (?P<other>\d+)",
        N_("Ranks {one} and {other} took the same GPU."),
        N_("Start one process for each GPU, and let neither config nor code choose the GPU."),
    ),
    Rule(
        "nccl-p2p",
        r"peer access is not supported|failed to open CUDA IPC handle"
        r"|peer mapping resources exhausted",
        N_("The GPUs do not reach each other's memory (peer to peer)."),
        N_("Start it with NCCL_P2P_DISABLE=1 in the environment: they then go another way."),
    ),
    Rule(
        "gpu-number",
        r"CUDA error: invalid device ordinal",
        N_("A process looked for a GPU that it was not given."),
        N_("Start as many processes as GPUs are chosen (leave 'processes' empty)."),
    ),
    Rule(
        "disk-read-only",
        r"Errno 30\b|Read-only file system",
        N_("The disk can only be read: it is mounted read-only."),
        N_(
            "Choose another folder. A disk that became so by itself is damaged: "
            "tell who looks after it."
        ),
    ),
    Rule(
        "file-too-large",
        r"Errno 27\b|File too large",
        N_("A file grew larger than the system lets it."),
        N_("Look at `ulimit -f`, and use a file system that takes large files (not FAT)."),
    ),
    Rule(
        "too-many-files",
        r"Errno 24\b|Too many open files",
        N_("Too many files are open at once."),
        N_("Raise the limit (`ulimit -n 65536`), or lower dataloader_num_workers; then resume."),
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
        "gpu-broken",
        r"uncorrectable ECC|ECC error|NVRM: Xid|fallen off the bus|hardware stack error",
        N_("A GPU has a fault of its own (memory or bus)."),
        N_("Restart the machine or use another GPU, and tell who looks after it; then resume."),
    ),
    Rule(
        "gpu-illegal-access",
        r"illegal memory access|misaligned address|unspecified launch failure",
        N_("A kernel on the GPU touched memory that is not its own."),
        N_(
            "CUDA_LAUNCH_BLOCKING=1 shows where. Try without flash attention; "
            "another GPU rules out a fault."
        ),
    ),
    Rule(
        "no-kernel",
        r"no kernel image is available|CUDA capability sm_\d+ is not compatible",
        N_("The libraries were not built for this kind of GPU."),
        N_("Install a torch (and flash-attn, bitsandbytes, DeepSpeed) that is built for this GPU."),
    ),
    Rule(
        "driver-old",
        r"driver on your system is too old|driver version is insufficient",
        N_("The GPU driver is too old for this torch."),
        N_("Renew the driver, or install a torch for an older CUDA."),
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
        "nodes-missing",
        r"Timed out after (?P<seconds>\d+) seconds waiting for clients\. "
        r"(?P<there>\d+)/(?P<all>\d+) clients joined",
        N_("The other nodes did not come within {seconds} seconds: {there} of {all} were there."),
        N_("Start the line of each node; firewalls must let them reach the first one."),
    ),
    Rule(
        "nodes-missing-unsized",
        r"RendezvousTimeoutError|RendezvousClosedError",
        N_("The other nodes did not come in time."),
        N_("Start the line of each node; firewalls must let them reach the first one."),
    ),
    Rule(
        "first-node-missing",
        r"client socket has (?:timed out|failed).*connect(?:ing)? to \(?(?P<address>[^)]+)",
        N_("The first process did not answer at {address}."),
        N_("Start the line of the first node; firewalls must let the others reach that address."),
    ),
    Rule(
        "gloo-timeout",
        r"Timed out waiting \d+ms for|failed to pass monitoredBarrier",
        N_("A process waited too long for another, which fell behind, hangs or died."),
        N_("Look in the log for what the other rank did last."),
    ),
    Rule(
        "nccl-timeout",
        r"Watchdog caught collective operation timeout|collective operation timeout",
        N_("The GPUs waited for each other until NCCL's time-out: a rank fell behind or hangs."),
        N_(
            "Look in the log for what each rank did last. "
            "Before the first step NCCL_P2P_DISABLE=1 in the environment often helps."
        ),
    ),
    Rule(
        "nccl-peer",
        r"ncclRemoteError|remote process exited|NCCL communicator was aborted",
        N_("The GPUs lost each other (NCCL): a process of another rank ended."),
        N_("Look in the log for the first rank that failed."),
    ),
    Rule(
        "nccl",
        r"DistBackendError|nccl(?:Internal|System|UnhandledCuda)Error|ncclInvalidUsage",
        N_("The GPUs cannot talk to each other (NCCL)."),
        N_("Start it with NCCL_DEBUG=WARN in the environment: the log then says why."),
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
        "norm-not-finite",
        r"total norm of order .* is non-finite",
        N_("The gradients are not finite (NaN or infinity)."),
        N_(
            "Lower lr or use bfloat16, look for broken rows, and resume from an earlier checkpoint."
        ),
    ),
    Rule(
        "loss-scale",
        r"[Cc]urrent loss scale already at minimum",
        N_("DeepSpeed lowered the loss scale to its minimum: the gradients overflow float16."),
        N_("Use bfloat16 if the GPU has it, or lower lr; resume from an earlier checkpoint."),
    ),
    Rule(
        "deepspeed-batch",
        r"Check batch related parameters.* "
        r"(?P<total>\d+) != (?P<micro>\d+) \* (?P<steps>\d+) \* (?P<ranks>\d+)",
        N_("DeepSpeed's batch sizes do not agree: {total} is not {micro} × {steps} × {ranks}."),
        N_('Set train_batch_size to "auto", or to micro-batch × accumulation × processes.'),
    ),
    Rule(
        "zero-ranks",
        r"used a DP world size of (?P<before>\d+) but the current world size is (?P<now>\d+)",
        N_("DeepSpeed saved the checkpoint from {before} processes; {now} cannot go on with it."),
        N_("Resume it with as many GPUs as before."),
    ),
    Rule(
        "two-dtypes",
        r"must have the same dtype, but got (?P<one>[\w.:]+) and (?P<other>[\w.:]+)",
        N_("Numbers of two kinds met: {one} and {other}."),
        N_("Set the same torch_dtype for the model, the adapter and the optimizer wrapper."),
    ),
    Rule(
        "json-broken",
        r"(?:JSON parse error|JSONDecodeError): (?P<what>.+)",
        N_("The data is not valid JSON: {what}"),
        N_("Find the row with `tunedeck data check`, and correct it."),
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
        "import-broken",
        r"ImportError: (?P<what>.+)",
        N_("A library does not fit the others: {what}"),
        N_("Run `tunedeck doctor`, and install versions that belong together."),
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
        r"DataLoader worker \(pid.*is killed by signal: Killed"
        r"|subprocesses has abruptly died during map operation",
        N_("One of its processes was killed (signal 9)."),
        N_("Most likely the machine ran out of memory: use fewer workers, or a smaller model."),
    ),
)

LOST = frozenset(
    (
        "nodes-missing",
        "nodes-missing-unsized",
        "first-node-missing",
        "gloo-timeout",
        "nccl-timeout",
        "nccl-peer",
        "nccl",
        "connection",
    )
)
"""What a rank says when another one failed: the cause only where nobody says more."""
