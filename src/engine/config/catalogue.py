"""The configs that ship with XTuner and with Tunedeck, read without importing them."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine import resources
from engine.config import packages
from engine.errors import Problem
from engine.i18n import _
from engine.settings import Settings

METHODS = ("full", "lora", "qlora", "dpo", "orpo", "reward", "pretrain")


class Entry(msgspec.Struct, frozen=True):
    """A config of the catalogue. What its text does not tell is ""."""

    name: str
    """As XTuner's ``copy-cfg`` knows it: the file's name without ``.py``."""
    model: str
    """The base model's hub name or folder."""
    method: str
    """One of `METHODS`; a llava or internvl config adds " vision" ("qlora vision")."""
    size: str
    """Parameters as the name writes them: "7b", "0.5b", "8x7b"."""
    dataset: str
    path: Path


_MODEL = re.compile(
    r"^(?:pretrained_model_name_or_path|llm_name_or_path|path)\s*=\s*\(?\s*[\"']([^\"']+)[\"']",
    re.M,
)
_DATA = re.compile(
    r"^(?!pretrained|llm|visual)(?:\w*(?:data|alpaca|oasst|moss|dataset|_path|_files)\w*)\s*=\s*"
    r"[\[(]?\s*[\"']([^\"']+)[\"']",
    re.M,
)
_SIZE = re.compile(r"(?:^|_)((?:\d+x)?\d+(?:_\d+)?[bm])(?=_|$)")
_VISION = ("llava", "internvl")


def load(settings: Settings, workspace_root: Path | None = None) -> list[Entry]:
    """All configs, by name: the workspace's own, Tunedeck's, XTuner's; the first of a name wins.

    Without XTuner in the training interpreter only the first two are there.
    """
    found: dict[str, Entry] = {}
    for folder in _folders(settings, workspace_root):
        for path in _configs(folder):
            if path.stem not in found:
                entry = _entry(path)
                if entry is not None:
                    found[path.stem] = entry
    return sorted(found.values(), key=lambda entry: entry.name)


def _folders(settings: Settings, workspace_root: Path | None) -> Iterator[Path]:
    if workspace_root is not None:
        yield workspace_root / "configs"
    yield resources.configs()
    xtuner = packages.folder("xtuner", settings)
    if xtuner is not None:
        yield xtuner / "configs"


def _configs(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        for path in sorted(folder.rglob("*.py")):
            if not path.name.startswith(("_", ".")):
                yield path


def _entry(path: Path) -> Entry | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    model = _MODEL.search(text)
    if model is None:
        return None  # XTuner keeps a few programs among its configs
    data = _DATA.search(text, model.end())
    size = _SIZE.search(path.stem.lower())
    return Entry(
        name=path.stem,
        model=model[1],
        method=_method(path, text),
        size=size[1].replace("_", ".") if size else "",
        dataset=data[1] if data else "",
        path=path,
    )


def _method(path: Path, text: str) -> str:
    name = path.stem.lower()
    for method in ("orpo", "dpo", "reward", "pretrain"):
        if method in name or f"/{method}" in str(path.parent).lower():
            break
    else:
        lora = "LoraConfig" in text
        quantised = re.search(r"load_in_[48]bit\s*=\s*True", text) is not None
        method = "qlora" if lora and quantised else "lora" if lora else "full"
    return f"{method} vision" if any(one in str(path).lower() for one in _VISION) else method


def search(entries: list[Entry], query: str) -> list[Entry]:
    """The entries in which every word of `query` stands somewhere, in their order."""
    words = query.lower().split()
    return [
        entry
        for entry in entries
        if all(
            word
            in f"{entry.name} {entry.model} {entry.method} {entry.size} {entry.dataset}".lower()
            for word in words
        )
    ]


def find(name: str, settings: Settings, workspace_root: Path | None = None) -> Path:
    """The config that `name` means: a path, or a name of the catalogue. Raises `Problem`."""
    path = Path(name).expanduser()
    if path.suffix == ".py" or "/" in name:
        if path.is_file():
            return path
        raise Problem(
            _("Cannot read the config {path}").format(path=path),
            _("It is a folder.") if path.is_dir() else _("There is no such file."),
            _("`tunedeck config list` shows the names of the catalogue."),
        )
    entries = load(settings, workspace_root)
    for entry in entries:
        if entry.name == name:
            return entry.path
    near = difflib.get_close_matches(name, [entry.name for entry in entries], n=3, cutoff=0.7)
    raise Problem(
        _("The catalogue has no config {name}").format(name=name),
        _("Did you mean {name}?").format(name=", ".join(near)) if near else "",
        _("`tunedeck config list` shows the names of the catalogue."),
    )


def deepspeed(settings: Settings) -> dict[str, Path]:
    """The DeepSpeed settings that XTuner knows by name ("deepspeed_zero2"), and their files."""
    xtuner = packages.folder("xtuner", settings)
    if xtuner is None:
        return {}
    return {path.stem: path for path in sorted((xtuner / "configs").rglob("*.json"))}


def templates(settings: Settings) -> list[str]:
    """The names of XTuner's prompt templates; empty when XTuner is not there."""
    xtuner = packages.folder("xtuner", settings)
    if xtuner is None:
        return []
    try:
        tree = ast.parse((xtuner / "utils" / "templates.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return []
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            names = [one.id for one in node.targets if isinstance(one, ast.Name)]
            if names == ["PROMPT_TEMPLATE"]:
                return [one.arg for one in node.value.keywords if one.arg is not None]
    return []
