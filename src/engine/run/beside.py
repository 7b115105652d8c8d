"""The modules of the user's own that a config imports: they lie beside it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from engine import files

_DOTTED = re.compile(r"([A-Za-z_]\w*)\.\w+")
"""XTuner also takes a function as the text "module.name"."""


def modules(config: Path) -> list[Path]:
    """The files in the config's folder that it imports, and that those import in turn.

    A run takes them along, or it would change, or fail, with the folder it came from.
    """
    found: dict[str, Path] = {}
    unread = [config]
    while unread:
        for name in _imported(unread.pop()):
            path = config.with_name(f"{name}.py")
            if name not in found and path != config and path.is_file():
                found[name] = path
                unread.append(path)
    return list(found.values())


def lay(config: Path, text: bytes, folder: Path) -> Path:
    """Write `text` as the config in `folder`, under the name that `config` has, and return it.

    The modules that lie beside `config` go along. Raises `Problem` where one is there already,
    unless it says the same.
    """
    laid = {folder / config.name: text}
    laid |= {folder / module.name: module.read_bytes() for module in modules(config)}
    for path, content in laid.items():
        if not path.is_file() or path.read_bytes() != content:
            with files.replacing(path, force=False) as file:
                file.write(content)
    return folder / config.name


def _imported(path: Path) -> set[str]:
    """The names of top-level modules that the file names; none of what is no Python."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8-sig"))
    except (OSError, SyntaxError, ValueError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Constant) and (dotted := _DOTTED.fullmatch(str(node.value))):
            names.add(dotted[1])
    return names
