"""What a finished model is taken further with: commands to serve it and to copy it.

The flags were looked up in the documentation of vLLM 0.15 and in the sources of LMDeploy
0.16, SGLang and ollama of August 2026. All of them ask with the template in the
tokenizer's files, which need not be the one that XTuner trained with: `template.compare`
says whether it is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from engine import weight_files
from engine.errors import Problem
from engine.export import artefact, gguf, trained_config
from engine.export.base_model import read_config
from engine.export.template import Templates
from engine.export.verify import config_text
from engine.i18n import _

TOOLS = ("vllm", "lmdeploy", "sglang", "ollama")
# What `ollama create` converts by itself (convert/convert.go); others go through llama.cpp.
_OLLAMA = re.compile(
    r"(Llama|Ministral3|Mixtral|Gemma[234]?|Phi3|Qwen2|Qwen3Next|Olmo3|Cohere|GptOss|DeepseekV3"
    r"|Glm4MoeLite|Laguna|Lfm2|Lfm2Moe|NemotronH)ForCausalLM"
)
_TEMPLATE = re.compile(r"PROMPT_TEMPLATE\.(\w+)")


class Command(msgspec.Struct, frozen=True):
    """One thing to type: for which tool, the line, and what to know before."""

    tool: str
    command: str
    note: str = ""


class Handover(msgspec.Struct, frozen=True):
    """A finished model, how it is served and copied.

    `template` is XTuner's template that it was trained with ("" when unknown),
    `templates` what a comparison with the tokenizer's own found (None: not made).
    `gguf_bytes` says about how large it gets as a GGUF file, by type.
    """

    model: Path
    name: str
    bytes: int
    template: str
    templates: Templates | None
    notes: list[str]
    commands: list[Command]
    gguf_bytes: dict[str, int]


def describe(
    model: Path,
    *,
    tools: tuple[str, ...] = TOOLS,
    rsync: str = "",
    templates: Templates | None = None,
) -> Handover:
    """How `model` goes on from here.

    Args:
        model: a whole model's folder.
        tools: which servers (of `TOOLS`).
        rsync: ``HOST:FOLDER`` to copy it to, "" for no such line.
        templates: what `template.compare` found.

    Raises `Problem` when `model` is something else, or lacks some of its weights.
    """
    artefact.expect(model, (artefact.MODEL,), _("a whole model"))
    model = model.resolve()
    if not model.is_dir():
        raise Problem(
            _("{path} is one file of a model").format(path=model),
            _("It takes the whole folder."),
            _("Give {folder}.").format(folder=model.parent),
        )
    config = read_config(model)
    if not _own_names(model):
        weight_files.require(model)
    commands = [_MAKERS[tool](model, config) for tool in tools]
    if rsync:
        commands.append(Command("rsync", copy_line(model, rsync), _("goes on after a break")))
    trained = _trained_with(model)
    return Handover(
        model=model,
        name=model.name,
        bytes=sum(one.stat().st_size for one in model.rglob("*") if one.is_file()),
        template=trained,
        templates=templates,
        notes=_notes(model, config, trained, templates),
        commands=commands,
        gguf_bytes=gguf.sizes(model),
    )


def _own_names(model: Path) -> bool:
    """Whether its weights lie under names that transformers does not know, but others do."""
    others = (".safetensors", ".pth", ".gguf")
    known = weight_files.taken(model)
    return not known and any(one.suffix in others and one.is_file() for one in model.iterdir())


def trusted(model: Path) -> bool:
    """Whether the config that `model` was trained with lets it bring code of its own."""
    known = trained_config.read(config_text(model))
    return known is not None and known.trust_remote_code


def copy_line(model: Path, target: str) -> str:
    """The line that copies `model` into a folder of another machine."""
    return shlex.join(["rsync", "-a", "--partial", "--info=progress2", str(model), target])


def _vllm(model: Path, config: dict[str, Any]) -> Command:
    trust = ["--trust-remote-code"] if "auto_map" in config else []
    line = ["vllm", "serve", str(model), "--served-model-name", model.name, *trust]
    return Command("vllm", shlex.join(line), _("OpenAI API on port 8000"))


def _lmdeploy(model: Path, config: dict[str, Any]) -> Command:
    line = ["lmdeploy", "serve", "api_server", str(model), "--model-name", model.name]
    note = _("OpenAI API on port 23333")
    if "auto_map" in config:  # older ones ran a model's code unasked
        line.append("--trust-remote-code")
        note += " " + _("(before version 0.13 without {flag})").format(flag=line[-1])
    return Command("lmdeploy", shlex.join(line), note)


def _sglang(model: Path, config: dict[str, Any]) -> Command:
    trust = ["--trust-remote-code"] if "auto_map" in config else []
    # (Newer ones would rather be called `sglang serve`, which older ones do not know.)
    line = ["python", "-m", "sglang.launch_server", "--model-path", str(model)]
    line += ["--served-model-name", model.name, *trust]
    return Command("sglang", shlex.join(line), _("OpenAI API on port 30000"))


def _ollama(model: Path, config: dict[str, Any]) -> Command:
    """ollama reads the folder itself for the architectures that it knows."""
    architectures = config.get("architectures")
    first = architectures[0] if isinstance(architectures, list) and architectures else ""
    source, note = model, _("add -q q4_K_M to quantise")
    if not _OLLAMA.fullmatch(str(first)):
        source = gguf.default_out(model, gguf.USUAL)
        note = _("ollama cannot read {architecture}: make the GGUF file first").format(
            architecture=first or "?"
        )
    name = re.sub(r"[^a-z0-9._-]+", "-", model.name.lower()).strip("-") or "model"
    recipe = f"{name}.Modelfile"
    lines = [
        f"printf 'FROM %s\\n' {shlex.quote(str(source))} > {shlex.quote(recipe)}",
        shlex.join(["ollama", "create", name, "-f", recipe]),
        shlex.join(["ollama", "run", name]),
    ]
    return Command("ollama", " && ".join(lines), note)


_MAKERS: dict[str, Callable[[Path, dict[str, Any]], Command]] = {
    "vllm": _vllm,
    "lmdeploy": _lmdeploy,
    "sglang": _sglang,
    "ollama": _ollama,
}


def _trained_with(model: Path) -> str:
    found = _TEMPLATE.search(config_text(model))
    return found[1] if found else ""


def _notes(
    model: Path, config: dict[str, Any], trained: str, templates: Templates | None
) -> list[str]:
    notes = []
    if not _has_template(model):
        notes.append(_("The tokenizer has no chat template: servers cannot chat with it as it is."))
    elif templates is not None and templates.agree is False:
        notes.append(
            _(
                "It was trained with XTuner's template {trained}, and the tokenizer's own differs:"
                " a server asks in another way than it was trained."
            ).format(trained=trained or _("of its config"))
        )
    elif templates is not None and templates.why:
        notes.append(_("The templates were not compared: {why}").format(why=templates.why))
    if "auto_map" in config:
        notes.append(_("It brings Python code of its own, which every server runs."))
    return notes


def _has_template(model: Path) -> bool:
    if any((model / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    return bool(weight_files.read_json(model / "tokenizer_config.json").get("chat_template"))
