"""The start that preflight looks at: a config, on which devices, how, and where to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.config.checks.loaded import Loaded
from engine.machine.devices import GpuId
from engine.machine.gpu import Gpu, Gpus
from engine.settings import Settings

_HALF = ("float16", "bfloat16")


@dataclass(frozen=True)
class Start:
    """What every check is given."""

    path: Path
    config: Loaded
    settings: Settings
    wanted: Sequence[GpuId] | None = None
    """The GPUs that were asked for; empty: the CPU; None: one GPU, or the CPU."""
    deepspeed: Mapping[str, Any] | None = None
    """The DeepSpeed setting's content; None without."""
    work_dir: Path | None = None
    machine: Gpus = field(default_factory=lambda: Gpus([]))
    side_by_side: int | None = None
    """How many processes train, on all nodes together; None: one for each GPU asked for."""

    @property
    def gpus(self) -> list[Gpu]:
        """The GPUs that it will run on, as far as they exist; none for the CPU."""
        if self.wanted is None:
            best = max(self.machine.gpus, key=lambda one: one.free, default=None)
            return [] if best is None else [best]
        known = {one.id: one for one in self.machine.gpus}
        return [known[index] for index in self.wanted if index in known]

    @property
    def on_cpu(self) -> bool:
        """Whether it will run without a GPU."""
        return not self.gpus and not self.wanted

    @property
    def processes(self) -> int:
        """How many processes train side by side, on all nodes together."""
        return self.side_by_side or max(1, len(self.wanted or ()))

    @property
    def zero(self) -> int:
        """DeepSpeed's ZeRO stage; 0 without."""
        stage = (self.deepspeed or {}).get("zero_optimization", {})
        return int(stage.get("stage", 0)) if isinstance(stage, Mapping) else 0

    # What several checks ask of the config

    @property
    def lora(self) -> bool:
        """Whether it trains an adapter."""
        return isinstance(self.config.get("model.lora"), Mapping)

    @property
    def quantized(self) -> str:
        """ "4-bit", "8-bit", or "" for a base that is loaded as it is."""
        block = "model.llm.quantization_config"
        if self.config.get(f"{block}.load_in_4bit") is True:
            return "4-bit"
        return "8-bit" if self.config.get(f"{block}.load_in_8bit") is True else ""

    @property
    def amp(self) -> bool:
        """Whether mmengine's mixed precision is asked for (DeepSpeed brings its own)."""
        wrapper = self.config.name("optim_wrapper.type")
        return wrapper == "AmpOptimWrapper" and self.deepspeed is None

    @property
    def dtype(self) -> str:
        """The number format in which the weights load: "float16", "bfloat16" or ""."""
        name = self.config.name("model.llm.torch_dtype").removeprefix("torch.")
        return name if name in _HALF else ""

    @property
    def packed(self) -> bool:
        """Whether short samples are joined."""
        return self.config.get(f"{self.dataset}.pack_to_max_length", True) is not False

    @property
    def dataset(self) -> str:
        """The key of the dataset: mmengine's place, or that of the Hugging Face trainer."""
        usual = "train_dataloader.dataset"
        return usual if self.config.get(usual) is not None else "train_dataset"
