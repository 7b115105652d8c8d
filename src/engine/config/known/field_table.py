"""The settings that Tunedeck knows, found by any of their names; the names the trainer reads."""

from __future__ import annotations

import re
from functools import cache

from engine.config.known import data as known_data
from engine.config.known import model as known_model
from engine.config.known import running as known_running
from engine.config.known import training as known_training
from engine.config.known.setting import Known

TABLE: tuple[Known, ...] = (
    *known_model.TABLE,
    *known_data.TABLE,
    *known_training.TABLE,
    *known_running.TABLE,
)

BY_NAME = {name: known for known in TABLE for name in known.names if "*" not in name}
_PATTERNS = [
    (re.compile(re.escape(name).replace(r"\*", r"[^.]+")), known)
    for known in TABLE
    for name in known.names
    if "*" in name
]


@cache
def find(name: str) -> Known | None:
    """What is known of the setting `name` ("lr", "alpaca_en.map_num_proc"); None: nothing."""
    found = BY_NAME.get(name)
    if found is None:
        found = next((known for shape, known in _PATTERNS if shape.fullmatch(name)), None)
    return found


ADDABLE = frozenset(
    (
        "work_dir",
        "load_from",
        "resume",
        "randomness",
        "log_level",
        "visualizer",
        "experiment_name",
        "keep_base_dtype",
        "compile_layers",
        "model_resource",
    )
)
"""Top-level settings that may be missing in a file and still mean something to the trainer.

mmengine and XTuner read all but two, which are ours: ``keep_base_dtype``
(`engine.train.base`) and ``compile_layers`` (`engine.train.compiled`).
"""

RUNNER_KEYS = ADDABLE | {
    "auto_scale_lr",
    "cfg",
    "compile",
    "custom_hooks",
    "custom_imports",
    "data_preprocessor",
    "default_hooks",
    "default_scope",
    "env_cfg",
    "framework",
    "launcher",
    "log_processor",
    "lora",
    "model",
    "model_resource",
    "model_wrapper_cfg",
    "optim_wrapper",
    "param_scheduler",
    "runner_type",
    "sequence_parallel_size",
    "strategy",
    "test_cfg",
    "test_dataloader",
    "test_evaluator",
    "tokenizer",
    "train_cfg",
    "train_dataloader",
    "train_dataset",
    "trainer",
    "training_args",
    "use_varlen_attn",
    "val_cfg",
    "val_dataloader",
    "val_evaluator",
}
"""Every top-level name that mmengine's runner, XTuner's trainer or ours reads."""
