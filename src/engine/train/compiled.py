"""Decoder layers compiled by torch, where the config asks for that.

With

    compile_layers = True

at a config's top level, torch makes kernels of its own for the block that the model
repeats: few large ones in place of the hundreds that a layer's forward and backward
launch. XTuner by itself does not know the setting.

What is compiled is good for one shape of the input. So it is used for packed samples, which
all have one, and for nothing else that the model is asked: the chats in between go through
the layers as they were.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import FlexibleRunner, Runner
from torch import nn

SETTING = "compile_layers"


def install() -> None:
    """Let every runner compile its model's layers when the runner's config asks for that."""

    def listen(runner_class: Any) -> None:
        original = runner_class.register_hooks

        def register_hooks(runner: Any, *args: Any, **options: Any) -> None:
            original(runner, *args, **options)
            if runner.cfg.get(SETTING) is True:
                # The first to learn of a step's end: after it the model may be asked to chat.
                runner.register_hook(CompileHook(), priority="HIGHEST")

        runner_class.register_hooks = register_hooks

    for runner_class in (Runner, FlexibleRunner):
        listen(runner_class)


def layers_of(llm: nn.Module) -> list[nn.Module]:
    """The blocks that `llm` is a stack of, by the class that transformers knows them by."""
    names = getattr(llm, "_no_split_modules", None) or ()
    return [module for module in llm.modules() if type(module).__name__ in names]


class Compiled:
    """The layers of `llm`: they run compiled while `on`, and as they were otherwise.

    It is to be turned between steps only: a backward that computes a layer again must meet
    the layer that the forward met. Every shape that layers meet while `on` is compiled anew,
    which takes as long as the first.
    """

    def __init__(self, llm: nn.Module) -> None:
        self.on = False
        self.layers = layers_of(llm)
        for layer in self.layers:
            self._take(layer)

    def _take(self, layer: nn.Module) -> None:
        # Not nn.Module.compile: that one also holds while a chat's text grows.
        plain = layer.forward
        compiled = torch.compile(plain, dynamic=False)

        def forward(*args: Any, **options: Any) -> Any:
            return (compiled if self.on else plain)(*args, **options)

        layer.forward = forward


class CompileHook(Hook):  # type: ignore[misc]  # mmengine has no types
    """Compiles a model's layers, and uses them for the batches that have the packed shape."""

    def __init__(self) -> None:
        self._layers: Compiled | None = None
        self._shape: tuple[int, int] | None = None

    def before_train(self, runner: Any) -> None:
        """Take the model's layers, or say why not."""
        model = _bare(runner.model)
        why = missing_compiler(next(model.parameters()).device.type) or unfit(runner.cfg)
        if why:
            runner.logger.warning(f"{SETTING}: the layers are not compiled: {why}")
            return
        self._shape = packed_shape(runner.cfg)
        self._layers = Compiled(model.llm)
        runner.logger.info(
            f"{SETTING}: {len(self._layers.layers)} layers; "
            "the first step takes longer, while torch compiles them."
        )

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Use what is compiled for this batch if it has the shape."""
        if self._layers is not None:
            self._layers.on = _shape(data_batch) == self._shape

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Leave all that comes between two steps to the layers as they were."""
        if self._layers is not None:
            self._layers.on = False


def packed_shape(config: Any) -> tuple[int, int] | None:
    """Samples and tokens of a full batch of packed samples; None: they are not packed."""
    loader = config.train_dataloader
    data = loader.dataset
    if not data.get("pack_to_max_length") or not data.get("max_length"):
        return None
    return loader.get("batch_size", 1), data.max_length


def unfit(config: Any) -> str | None:
    """Why a training by this config is not one whose layers can be compiled; None: it is."""
    if packed_shape(config) is None:
        return "samples are not packed, so each batch has a length of its own."
    if config.model.get("use_varlen_attn"):
        return "use_varlen_attn looks at lengths that no two samples share."
    if _class_name(config.model.type) != "SupervisedFinetune":
        return "only for SupervisedFinetune it is known to be right."
    if config.get("strategy", {}).get("config", {}).get("zero_optimization", {}).get("stage") == 3:
        return "ZeRO-3 gathers weights while a layer runs."
    return None


def missing_compiler(device: str) -> str | None:
    """What torch would miss to compile for `device` ("cuda", "cpu"); None: nothing."""
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        return "Triton is not installed."
    names = (os.environ.get("CC"), "gcc", "clang") if device == "cuda" else ("g++", "clang++")
    if not any(name and shutil.which(name) for name in names):
        return "there is no C compiler (gcc)." if device == "cuda" else "there is no g++."
    return None


def _class_name(kind: Any) -> str:
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    return str(name).rpartition(".")[2]


def _bare(model: Any) -> Any:
    """XTuner's model in what distributed training or DeepSpeed put around it."""
    while is_model_wrapper(model) or type(model).__name__ == "DeepSpeedEngine":
        model = model.module
    return model


def _shape(batch: Any) -> tuple[int, ...] | None:
    """Samples and tokens of a batch; None when its form is not known."""
    try:
        return tuple(batch["data"]["input_ids"].shape)
    except (KeyError, TypeError, AttributeError):
        return None
