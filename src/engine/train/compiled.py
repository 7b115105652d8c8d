"""Decoder layers compiled by torch, where the config asks for that.

With

    compile_layers = True

at a config's top level, torch makes kernels of its own for the block that the model
repeats: few large ones in place of the hundreds that a layer's forward and backward
launch. XTuner by itself does not know the setting.

What is compiled is good for one shape of the input. So it is used for packed samples, which
all have one, and for nothing else that the model is asked: the chats in between go through
the layers as they were. Where torch cannot compile them, training goes on with those too, and
a short one is left alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import FlexibleRunner, Runner
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from engine.machine import compiler

SETTING = "compile_layers"
WORTH = 200
"""Steps that must be left: at 0.1 s saved in each, fewer take longer with compiling (7B, H200)."""


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
    which takes as long as the first. When one cannot be compiled all stay as they were from
    there on, and `failed` is told why.
    """

    def __init__(self, llm: nn.Module, failed: Callable[[str], object] | None = None) -> None:
        self.on = False
        self.layers = layers_of(llm)
        self._failed = failed
        self._usable = True
        # By itself torch compiles a backward when it comes to run, in the midst of a step.
        if hasattr(torch._functorch.config, "force_non_lazy_backward_lowering"):
            torch._functorch.config.force_non_lazy_backward_lowering = True
        for layer in self.layers:
            self._take(layer)

    def _take(self, layer: nn.Module) -> None:
        # Not nn.Module.compile: that one also holds while a chat's text grows.
        plain = layer.forward
        compiled = torch.compile(plain, dynamic=False)

        def forward(*args: Any, **options: Any) -> Any:
            if self.on and self._usable:
                try:
                    return compiled(*args, **options)
                except TorchDynamoException as error:  # of compiling; running raises others
                    if self._failed is None:
                        raise
                    self._usable = False
                    self._failed(f"{type(error).__name__}: {error}")
            return plain(*args, **options)

        layer.forward = forward


class CompileHook(Hook):  # type: ignore[misc]  # mmengine has no types
    """Compiles a model's layers, and uses them for the batches that have the packed shape."""

    def __init__(self) -> None:
        self._layers: Compiled | None = None
        self._shape: tuple[int, int] | None = None

    def before_train(self, runner: Any) -> None:
        """Take the model's layers, or say why not."""
        model = _bare(runner.model)
        why = unfit(runner.cfg) or _scattered(runner.model)
        why = why or unable(next(model.parameters()).device.type)
        if why:
            runner.logger.warning(f"{SETTING}: the layers are not compiled: {why}")
            return
        left = runner.max_iters - runner.iter
        if left < WORTH:
            runner.logger.info(f"{SETTING}: for {left} steps it would take longer than it saves.")
            return

        def failed(error: str) -> None:
            runner.logger.warning(
                f"{SETTING}: torch could not compile the layers; training goes on without: {error}"
            )

        self._shape = packed_shape(runner.cfg)
        self._layers = Compiled(model.llm, failed)
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
    if not data.get("pack_to_max_length", True) or not data.get("max_length"):  # XTuner's default
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
    return None


def _scattered(model: Any) -> str | None:
    """Whether DeepSpeed has cut the weights, by its engine: a config says it in many ways."""
    stage = getattr(model, "zero_optimization_stage", None)
    if stage is not None and stage() == 3:
        return "ZeRO-3 gathers weights while a layer runs."
    return None


def unable(device: str) -> str | None:
    """Why torch cannot compile, or not rightly, for `device` ("cuda", "cpu"); None: it can."""
    cuda = device == "cuda"
    if cuda and compiler.corrupts(torch.__version__):
        return f"torch {torch.__version__} then drops out wrongly (pytorch issue 198333)."
    return compiler.missing(cuda, importlib.util.find_spec("triton") is not None)


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
