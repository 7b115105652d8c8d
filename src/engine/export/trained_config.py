"""What export needs to know from an XTuner config, read without running it.

Both forms work: the one a person writes, and the resolved one that mmengine
stores in a checkpoint.
"""

from __future__ import annotations

import ast
from typing import Any, NamedTuple

from engine import assignments


class TrainedConfig(NamedTuple):
    """The parts of a config that an adapter depends on.

    Attributes:
        base: path or name of the base model, "" when the config does not tell.
        lora: the arguments of ``LoraConfig``; None when there is none. A value
            that could not be told without running the config is left out.
        revision: the base model's revision on its hub, or "".
        trust_remote_code: whether the config lets the model bring its own code.
        quantized: whether the base was quantized in training (QLoRA).
        questions: the evaluation questions.
    """

    base: str
    lora: dict[str, Any] | None
    revision: str
    trust_remote_code: bool
    quantized: bool
    questions: tuple[str, ...]


DATA = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".gz", ".zst")


def data_files(text: str) -> list[str]:
    """The data files that a config names, as it writes them; [] when it is not Python."""
    tree = assignments.parse(text)
    if tree is None:
        return []
    names = dict.fromkeys(
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return [name for name in names if name.endswith(DATA)]


_MAIN = (
    "max_length", "pack_to_max_length", "use_varlen_attn", "prompt_template", "batch_size",
    "accumulative_counts", "sequence_parallel_size", "max_epochs", "max_iters", "optim_type", "lr",
    "betas", "weight_decay", "max_norm", "warmup_ratio",
)  # fmt: skip
_LONGEST = 80


def main_values(text: str) -> dict[str, str]:
    """What a person asks for first, as the config writes it at its top; {} when not Python.

    Values that are longer than a line are left out.
    """
    tree = assignments.parse(text)
    if tree is None:
        return {}
    found = {
        target.id: ast.unparse(statement.value)
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name) and target.id in _MAIN
    }
    return {name: found[name] for name in _MAIN if len(found.get(name, " " * 99)) <= _LONGEST}


def read(text: str) -> TrainedConfig | None:
    """Read a config's text; None when it is not Python or has no model in it."""
    names = assignments.read(text)
    if names is None:
        return None
    model = names.get("model")
    llm = model.get("llm") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(llm, dict):
        return None
    base = llm.get("pretrained_model_name_or_path")
    lora = model.get("lora")
    revision = llm.get("revision")
    return TrainedConfig(
        base=base if isinstance(base, str) else "",
        lora={key: value for key, value in lora.items() if _plain(value)}
        if isinstance(lora, dict)
        else None,
        revision=revision if isinstance(revision, str) else "",
        trust_remote_code=llm.get("trust_remote_code") is True,
        quantized=bool(llm.get("quantization_config")),
        questions=_questions(names),
    )


def _questions(names: dict[str, Any]) -> tuple[str, ...]:
    hooks = names.get("custom_hooks")
    for hook in hooks if isinstance(hooks, (list, tuple)) else ():
        found = hook.get("evaluation_inputs") if isinstance(hook, dict) else None
        if isinstance(found, (list, tuple)):
            return tuple(one for one in found if isinstance(one, str))
    return ()


def _plain(value: Any) -> bool:
    """A scalar, or a list or dict of scalars: all that ``LoraConfig`` takes."""
    parts = list(value.values()) if isinstance(value, dict) else value
    parts = parts if isinstance(parts, (list, tuple, set)) else [parts]
    return all(part is None or isinstance(part, (str, int, float)) for part in parts)
