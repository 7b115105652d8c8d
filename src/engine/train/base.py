"""An adapter's frozen base in the type it was loaded in, where the config asks for that.

XTuner has peft turn all 16-bit weights of the base that are not quantised into
float32: twice the memory, and autocast turns them back for every product. With

    keep_base_dtype = True

at a config's top level they are only frozen. The adapter is float32 in any
case (peft sees to that). XTuner by itself does not know the setting.
"""

from __future__ import annotations

from typing import Any

from mmengine.runner import FlexibleRunner, Runner

SETTING = "keep_base_dtype"


def install() -> None:
    """Make the base of every runner keep its type when the runner's config asks for it."""
    import xtuner.model.sft as sft

    prepare = sft.prepare_model_for_kbit_training
    asked: list[bool] = []  # by the config of the runner that was made last

    def prepare_or_keep(model: Any, checkpointing: bool = True) -> Any:
        if not any(asked):
            return prepare(model, checkpointing)
        # What peft sets up for checkpointing besides, XTuner has set up by now.
        model.requires_grad_(False)
        return model

    def listen(runner_class: Any) -> None:
        original = runner_class.from_cfg

        def from_cfg(cfg: Any) -> Any:
            asked[:] = [cfg.get(SETTING) is True]
            return original(cfg)

        runner_class.from_cfg = staticmethod(from_cfg)

    sft.prepare_model_for_kbit_training = prepare_or_keep
    for runner_class in (Runner, FlexibleRunner):
        listen(runner_class)
