"""Is the model a model, whole, and does the template fit it? Read from its files alone."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.config.findings import ERROR, INFO, WARNING, Finding, Fix
from engine.config.loaded import Loaded
from engine.i18n import _

KEYS = (
    "model.llm.pretrained_model_name_or_path",
    "model.pretrained_model_name_or_path",
    "pretrained_model_name_or_path",
)
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_MARKERS = re.compile(r"<\|[^|<>\s]+\|>|\[/?INST\]|<(?:start|end)_of_turn>")
# These need no beginning-of-text token: XTuner knows them by name.
_NO_BOS = ("QWenTokenizer", "Qwen2Tokenizer")


def name(config: Loaded) -> tuple[str, str]:
    """The base model that the config names, and the key it stands at ("" when nowhere)."""
    for key in KEYS:
        value = config.get(key)
        if isinstance(value, str):
            return value, key
    return "", ""


def folder(config: Loaded) -> Path | None:
    """The model's folder on this machine; None for a hub name or a path that is not there."""
    value, _key = name(config)
    path = Path(value).expanduser() if value else None
    return path if path is not None and path.is_dir() else None


def check(config: Loaded) -> list[Finding]:
    """Findings about the base model and its tokenizer."""
    value, key = name(config)
    if not value:
        return []
    path = Path(value).expanduser()
    field = "pretrained_model_name_or_path" if config.get(KEYS[-1]) == value else key
    if not path.exists():
        return _absent(value, path, field)
    if not path.is_dir():
        return [_not_a_model(value, _("It is a file; a model is a folder."), field)]
    if not (path / "config.json").is_file():
        if (path / "adapter_config.json").is_file():
            return [
                Finding(
                    ERROR,
                    "model-adapter",
                    _("{path} is an adapter, not a model").format(path=value),
                    _("Training starts from a whole model."),
                    _("Give the base model, or merge the adapter into it first."),
                    field=field,
                )
            ]
        return [_not_a_model(value, _("It has no config.json."), field)]
    return [
        *_weights(path, value, field),
        *_tokenizer(path, value, field),
        *_remote_code(path, config),
        *_template(path, config),
    ]


def _absent(value: str, path: Path, field: str) -> list[Finding]:
    # "models/x" has the form of a hub name; in a workspace it is a folder.
    local = path.parent.is_dir() or path.parts[0] in ("models", ".", "..")
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", value) is not None and not local
    if not hub:
        return [
            Finding(
                ERROR,
                "model-missing",
                _("There is no model at {path}").format(path=value),
                _("Looked from {folder}.").format(folder=Path.cwd())
                if not path.is_absolute()
                else "",
                _("Give the folder that holds the model's config.json."),
                field=field,
            )
        ]
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    if (cache / ("models--" + value.replace("/", "--"))).is_dir():
        return []
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")
    return [
        Finding(
            ERROR if offline else WARNING,
            "model-missing" if offline else "model-hub",
            _("The model {name} is not on this machine").format(name=value),
            _("HF_HUB_OFFLINE is set, so it cannot be fetched.")
            if offline
            else _("XTuner would fetch it from the hub when the training starts."),
            _("Give a local folder in {field}.").format(field=field),
            field=field,
        )
    ]


def _not_a_model(value: str, why: str, field: str) -> Finding:
    return Finding(
        ERROR,
        "model-not-a-model",
        _("{path} is not a model").format(path=value),
        why,
        _("Give the folder that holds the model's config.json."),
        field=field,
    )


def _weights(path: Path, value: str, field: str) -> list[Finding]:
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        shards = set((_json(path / index).get("weight_map") or {}).values())
        missing = sorted(str(shard) for shard in shards if not (path / str(shard)).is_file())
        if shards and missing:
            return [
                Finding(
                    ERROR,
                    "model-incomplete",
                    _("The model {path} is not whole").format(path=value),
                    _("Missing: {files}").format(files=", ".join(missing[:3])),
                    _("Copy or download it again."),
                    field=field,
                )
            ]
        if shards:
            return []
    if any((path / weights).is_file() for weights in _WEIGHTS):
        return []
    return [_not_a_model(value, _("It has no weights (model.safetensors or shards)."), field)]


def _tokenizer(path: Path, value: str, field: str) -> list[Finding]:
    if not any((path / one).is_file() for one in _TOKENIZERS):
        return [
            Finding(
                ERROR,
                "tokenizer-missing",
                _("The model {path} has no tokenizer").format(path=value),
                _("None of {files} is there.").format(files=", ".join(_TOKENIZERS)),
                _("Copy the base model's tokenizer files into it."),
                field=field,
            )
        ]
    settings = _json(path / "tokenizer_config.json")
    kind = str(settings.get("tokenizer_class", "")).removesuffix("Fast")
    special = _json(path / "special_tokens_map.json")
    # Only the generic class has no beginning of its own.
    if kind == "PreTrainedTokenizer" and not (
        settings.get("bos_token") or special.get("bos_token")
    ):
        return [
            Finding(
                ERROR,
                "tokenizer-bos",
                _("The tokenizer has no beginning-of-text token"),
                _(
                    "XTuner fails on it while it reads the data (unless it is one of {kinds})."
                ).format(kinds=", ".join(_NO_BOS)),
                _("Add a bos_token to the model's tokenizer_config.json."),
                field=field,
            )
        ]
    return []


def _remote_code(path: Path, config: Loaded) -> list[Finding]:
    needs = bool(_json(path / "config.json").get("auto_map"))
    given = config.get("model.llm.trust_remote_code") is True
    if needs and not given:
        return [
            Finding(
                WARNING,
                "remote-code",
                _("This model brings Python code of its own, which the config does not allow"),
                _("It may not load without."),
                _("Look at the code in its folder; then set trust_remote_code = True."),
                Fix("model.llm.trust_remote_code", True),
                "model.llm.trust_remote_code",
            )
        ]
    if needs:
        return [
            Finding(
                INFO,
                "remote-code",
                _("Python code from the model's folder will run"),
                _("trust_remote_code is set."),
                field="model.llm.trust_remote_code",
            )
        ]
    return []


def _template(path: Path, config: Loaded) -> list[Finding]:
    """The template's markers should be ones that the model's own chat template uses."""
    entries = (config.template or {}).get("entries")
    own = _chat_template(path)
    if not isinstance(entries, Mapping) or not own:
        return []
    wanted = set(_MARKERS.findall(str(entries.get("INSTRUCTION", ""))))
    tokens = _json(path / "tokenizer_config.json").get("added_tokens_decoder") or {}
    known = own + " ".join(str(one.get("content", "")) for one in tokens.values())
    missing = sorted(marker for marker in wanted if marker not in known)
    if not missing:
        return []
    return [
        Finding(
            WARNING,
            "template",
            _("The prompt template {name} does not fit this model").format(
                name=(config.template or {}).get("name") or ""
            ),
            _("The model's own template has no {markers}.").format(markers=", ".join(missing)),
            _("Choose the template of the model's family, or answers may never stop."),
            field="prompt_template",
        )
    ]


def _chat_template(path: Path) -> str:
    file = path / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    template = _json(path / "tokenizer_config.json").get("chat_template")
    if not template:
        return ""
    return template if isinstance(template, str) else json.dumps(template, ensure_ascii=False)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
