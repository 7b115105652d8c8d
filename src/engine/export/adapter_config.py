"""``adapter_config.json``, complete, from the trained weights and their config."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.errors import Problem
from engine.export.trained_config import TrainedConfig
from engine.export.weights import Entry
from engine.i18n import _

PEFT_VERSION = "0.21.2"
"""The version of peft whose fields these are; older ones ignore what they do not know."""

DEFAULTS: dict[str, Any] = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "init_lora_weights": True,
    "kasa_config": None,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 8,
    "lora_bias": False,
    "lora_dropout": 0.0,
    "lora_ga_config": None,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "monteclora_config": None,
    "qalora_group_size": 16,
    "r": 8,
    "rank_pattern": {},
    "target_modules": None,
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
    "velora_config": None,
}
"""``LoraConfig``'s own defaults (task_type: what XTuner trains)."""


def build(config: TrainedConfig, entries: Iterable[Entry], path: Path) -> dict[str, Any]:
    """The adapter's config as peft would write it.

    Args:
        config: the XTuner config of the run.
        entries: the trained tensors, under peft's names (``base_model.model.…``).
        path: the checkpoint, for messages.

    Raises `Problem` when config and weights do not belong together.
    """
    entries = list(entries)
    told = config.lora or {}
    values = {name: told.get(name, default) for name, default in DEFAULTS.items()}
    values |= {
        "peft_type": "LORA",
        "peft_version": PEFT_VERSION,
        "inference_mode": True,
        "base_model_name_or_path": config.base or None,
        "revision": config.revision or None,
    }
    if values["target_modules"] in (None, "all-linear"):  # peft writes down what these became
        values["target_modules"] = _targets(entries)
    if any(entry.name.endswith("lora_magnitude_vector") for entry in entries):
        values["use_dora"] = True
    if any(entry.name.endswith("lora_B.bias") for entry in entries):
        values["lora_bias"] = True
    _check_rank(values, entries, path)
    return dict(sorted(values.items()))


def _targets(entries: list[Entry]) -> list[str]:
    """The last names of the modules that have LoRA weights: ``q_proj``, …"""
    modules = (entry.name.partition(".lora_")[0] for entry in entries if ".lora_" in entry.name)
    return sorted({module.rpartition(".")[2] for module in modules})


def _check_rank(values: dict[str, Any], entries: list[Entry], path: Path) -> None:
    ranks = {one.shape[0] for one in entries if one.name.endswith("lora_A.weight") and one.shape}
    if values["rank_pattern"] or not ranks or ranks == {values["r"]}:
        return
    raise Problem(
        _("The config does not belong to the checkpoint {path}").format(path=path),
        _("It says LoRA rank {told}; the weights have rank {real}.").format(
            told=values["r"], real=", ".join(map(str, sorted(ranks)))
        ),
        _("Give the config of that run."),
        ways=("config",),
    )
