"""Families of models: told from a name or a folder, with the prompt template that is theirs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from engine.config import model_files
from engine.paths import expanded


class Family(NamedTuple):
    """A release line of models. `template` is XTuner's for its chat models, "" where unsure."""

    name: str
    template: str


_PATTERNS = (
    # The first that fits a name wins: newer and narrower ones stand before older and wider ones.
    (r"internvl", Family("internvl", "")),
    (r"internlm3", Family("internlm3", "")),
    (r"internlm2[.-]5", Family("internlm2.5", "internlm2_chat")),
    (r"internlm2", Family("internlm2", "internlm2_chat")),
    (r"internlm", Family("internlm", "internlm_chat")),
    (r"polar", Family("polar", "")),
    (r"deepseek-?r1", Family("deepseek-r1", "")),
    (r"qwen3", Family("qwen3", "qwen_chat")),
    (r"qwen2[.-]5", Family("qwen2.5", "qwen_chat")),
    (r"qwen2", Family("qwen2", "qwen_chat")),
    (r"qwen1[.-]5", Family("qwen1.5", "qwen_chat")),
    (r"qwen", Family("qwen", "qwen_chat")),
    (r"code-?llama", Family("codellama", "code_llama_chat")),
    (r"llama-?3[.-][1-9](?!\d*b)", Family("llama3.x", "llama3_chat")),
    (r"llama-?3", Family("llama3", "llama3_chat")),
    (r"llama-?2", Family("llama2", "llama2_chat")),
    (r"tinyllama", Family("tinyllama", "zephyr")),
    (r"llama", Family("llama", "")),
    (r"vicuna", Family("vicuna", "vicuna")),
    (r"wizardcoder", Family("wizardcoder", "wizardcoder")),
    (r"wizardlm", Family("wizardlm", "wizardlm")),
    (r"deepseek-?coder", Family("deepseek-coder", "deepseek_coder")),
    (r"deepseek-?moe", Family("deepseek-moe", "deepseek_moe")),
    (r"deepseek-?v2", Family("deepseek-v2", "deepseek_v2")),
    (r"deepseek", Family("deepseek", "")),
    (r"mixtral", Family("mixtral", "mixtral")),
    (r"zephyr", Family("zephyr", "zephyr")),
    (r"mistral", Family("mistral", "mistral")),
    (r"baichuan2", Family("baichuan2", "baichuan2_chat")),
    (r"baichuan", Family("baichuan", "baichuan_chat")),
    (r"chatglm3", Family("chatglm3", "chatglm3")),
    (r"chatglm2", Family("chatglm2", "chatglm2")),
    (r"gemma", Family("gemma", "gemma")),
    (r"phi-?3", Family("phi3", "phi3_chat")),
    (r"minicpm3", Family("minicpm3", "minicpm3")),
    (r"minicpm", Family("minicpm", "minicpm")),
    (r"command-?r", Family("command-r", "cohere_chat")),
    (r"starcoder", Family("starcoder", "")),
    (r"smollm", Family("smollm", "qwen_chat")),
    (r"(?:^|[^a-z])yi(?:[^a-z]|$)", Family("yi", "")),
)
_CHAT = re.compile(r"chat|instruct|[-_]it\b|assistant|zephyr|vicuna|wizard|command-?r|minicpm")
_BASE = re.compile(r"[-_]base\b")

_SIZE = re.compile(r"(?<![a-z0-9.])((?:\d+x)?\d+(?:\.\d+)?)[ ]?([bm])(?![a-z0-9])")
_DECIMAL = re.compile(r"(?:(?<=[a-z][_-])([0-24-9])|(?<=\d_)([01]))_(\d)(?=[bm](?:[^a-z]|$))")
_SIZES = (
    # Models whose names do not say how big they are.
    (r"phi-?3-mini", "3.8b"),
    (r"moe-a2[.-]7", "14b"),
    (r"deepseek-?v2-?lite", "16b"),
    (r"deepseek-?v2", "236b"),
    (r"command-?r-?plus", "104b"),
    (r"command-?r", "35b"),
    (r"starcoder", "15b"),
    (r"chatglm[23]", "6b"),
)


def _plain(name: str) -> str:
    return re.sub(r"[_\s]", "-", name.lower())


def family(name: str) -> Family | None:
    """The family that a model's or config's `name` belongs to."""
    plain = _plain(name)
    return next((one for pattern, one in _PATTERNS if re.search(pattern, plain)), None)


def architecture(model: str) -> str:
    """What kind of layers a model has ("internlm2", "llama", "qwen2"), or "".

    A folder says it itself; of a hub name the family tells.
    """
    folder = expanded(model)
    if folder.is_dir():
        return str(model_files.config(folder).get("model_type", ""))
    known = family(model)
    name = known.name.partition(".")[0] if known else ""
    return "llama" if "llama" in name else name


def size(name: str) -> str:
    """How many parameters a model's or config's `name` says ("7b", "0.5b", "8x7b"), or ""."""
    # "1_8b" is how names write 1.8b: a digit alone between "_" or "-" and "_".
    lower = _DECIMAL.sub(lambda m: f"{m[1] or m[2]}.{m[3]}", name.lower())
    plain = _plain(lower)
    found = _SIZE.search(plain)
    if found:
        return found[1] + found[2]
    return next((known for pattern, known in _SIZES if re.search(pattern, plain)), "")


def parameters(size: str) -> float | None:
    """The number of parameters that a size means: "8x7b" → 47e9 (experts share the rest)."""
    found = re.fullmatch(r"(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])", size)
    if found is None:
        return None
    one = float(found[2]) * (1e9 if found[3] == "b" else 1e6)
    return one * (1 if found[1] is None else 0.83 * int(found[1]))


def template(model: str) -> str:
    """The name of XTuner's prompt template for the chat model `model`; "" when not sure.

    A folder tells by its own chat template; a hub name by its family.
    """
    folder = expanded(model)
    if folder.is_dir():
        return _template_of(folder)
    known = family(model)
    plain = _plain(model)
    if known is None or not _CHAT.search(plain) or _BASE.search(plain):
        return ""
    return known.template


def _template_of(folder: Path) -> str:
    """By the marks that the folder's chat template writes; its kind tells those alike apart."""
    own = model_files.chat_template(folder)
    kind = str(model_files.config(folder).get("model_type", ""))
    marks = (
        ("<|start_header_id|>", "", "llama3_chat"),
        ("<|im_start|>", "internlm", "internlm2_chat"),
        ("<|im_start|>", "qwen", "qwen_chat"),
        ("<|im_start|>", "llama", "qwen_chat"),
        ("<<SYS>>", "llama", "llama2_chat"),
        ("[INST]", "mixtral", "mixtral"),
        ("[INST]", "mistral", "mistral"),
        ("<start_of_turn>", "gemma", "gemma"),
        ("<|START_OF_TURN_TOKEN|>", "cohere", "cohere_chat"),
        ("<|end|>", "phi3", "phi3_chat"),
        ("<用户>", "minicpm", "minicpm"),
    )
    for mark, prefix, name in marks:
        if mark in own and kind.startswith(prefix):
            return name
    return ""
