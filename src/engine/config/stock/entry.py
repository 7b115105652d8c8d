"""What the catalogue tells of one config."""

from __future__ import annotations

from pathlib import Path

import msgspec

METHODS = ("full", "lora", "qlora", "dpo", "orpo", "reward", "pretrain")
VISION = " vision"

OWN = "own"
TUNEDECK = "tunedeck"
XTUNER = "xtuner"


class Entry(msgspec.Struct, frozen=True):
    """A config of the catalogue. What it does not tell is "" or None."""

    name: str
    """As XTuner's ``copy-cfg`` knows it: the file's name without ``.py``."""
    model: str
    """The base model's hub name or folder."""
    method: str
    """One of `METHODS`; one that trains on images too adds " vision" ("qlora vision")."""
    size: str
    """Parameters as the name writes them: "7b", "0.5b", "8x7b"."""
    dataset: str
    """Hub names or files, joined by ", "; "" where the file only keeps a place for one's own."""
    path: Path
    family: str = ""
    """The model's release line: "internlm2.5", "qwen1.5", "llama3"."""
    tuning: str = ""
    """What is trained: "full", "lora" or "qlora"; of a DPO config too."""
    max_length: int | None = None
    """Tokens in a sample."""
    packed: bool = False
    """Whether several rows share a sample."""
    template: str = ""
    """XTuner's prompt template."""
    epochs: int | None = None
    lr: float | None = None
    batch_size: int | None = None
    """Samples in a micro-batch."""
    accumulation: int | None = None
    """Micro-batches in a step."""
    gpus: int | None = None
    """How many GPUs the name says it was made for."""
    sequence_parallel: int = 1
    """GPUs that share one sample."""
    deepspeed: str = ""
    """The DeepSpeed stage that suits method and size ("deepspeed_zero2"); "": none is needed."""
    about: str = ""
    """The first line of the file's own words, or ""."""
    source: str = ""
    """`OWN` (the workspace's), `TUNEDECK` or `XTUNER`."""
