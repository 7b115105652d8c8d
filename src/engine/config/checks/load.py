"""Does the config parse, load, and name things that exist?"""

from __future__ import annotations

import ast
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.config.checks.findings import ERROR, INFO, WARNING, Finding, Fix
from engine.config.checks.loaded import Died, Loaded, TimedOut
from engine.config.known.field_table import RUNNER_KEYS
from engine.config.text.values import syntax_error
from engine.errors import Failed
from engine.i18n import _


def syntax(text: str) -> list[Finding]:
    """Whether Python can parse `text` (a byte order mark is refused by mmengine too)."""
    wrong = syntax_error(text)
    if wrong is None:
        return []
    line, column, reason = wrong
    bom = text.startswith("\ufeff")
    return [
        Finding(
            ERROR,
            "config-syntax",
            _("The config is not valid Python"),
            _("line {line}, column {column}: {reason}").format(
                line=line, column=column, reason=reason
            ),
            _("Save the file without a byte order mark.") if bom else _("Correct that line."),
        )
    ]


def path(config: Path, work_dir: Path | None) -> list[Finding]:
    """Whether mmengine can load a config that lies there, and the run's own copy of it.

    It writes the path between quotation marks into code (``ConfigTransformer``).
    """
    refused = [one for one in (config, work_dir) if one is not None and not _taken(one.absolute())]
    return [
        Finding(
            ERROR,
            "config-path",
            _("The config cannot be loaded from {path}").format(path=one),
            _('mmengine takes no path with a ", a backslash, a line break or what is not UTF-8.'),
            _("Rename the file, or the folder that has it in its name."),
        )
        for one in refused[:1]
    ]


def _taken(path: Path) -> bool:
    try:
        ast.parse(f'"{path}"')
    except (SyntaxError, ValueError):
        return False
    return True


def load_error(config: Loaded) -> list[Finding]:
    """What mmengine said when it could not load the config."""
    error = config.error
    if error is None:
        return []
    why = f"{error['kind']}: {error['text'].splitlines()[0] if error['text'] else ''}"
    if error["line"]:
        why = _("line {line}: {reason}").format(line=error["line"], reason=why)
    near = error["near"]
    todo = _("Did you mean {name}?").format(name=near) if near else _("Correct that line.")
    kind = error["kind"]
    if kind == "MemoryError":
        return [_greedy(why)]
    if kind in ("SystemExit", "KeyboardInterrupt"):
        return [_ends(why)]
    if kind in ("ImportError", "ModuleNotFoundError"):
        todo = _("Install it in the training environment, or choose another config.")
        return [Finding(ERROR, "module-missing", _("The config does not load"), why, todo)]
    return [Finding(ERROR, "config-load", _("The config does not load"), why, todo)]


def _greedy(why: str) -> Finding:
    return Finding(
        ERROR,
        "config-memory",
        _("The config takes too much memory"),
        why,
        _("A config should only give values: take what fills the memory out of it."),
    )


def _ends(why: str) -> Finding:
    return Finding(
        ERROR,
        "config-exit",
        _("The config ends the process that loads it"),
        why,
        _("A config should only give values: take what ends the process out of it."),
    )


def lost(failed: Failed) -> Finding:
    """The loading process hung, died, or could not start."""
    if isinstance(failed, TimedOut):
        return Finding(
            ERROR,
            "config-slow",
            _("The config does not come to an end"),
            _("It runs code when it is loaded, and that code was stopped."),
            _("A config should only give values: take the loop or the download out of it."),
        )
    if isinstance(failed, Died):
        return _ends(failed.why)
    return Finding(
        ERROR, "no-loader", failed.what, failed.why, failed.todo or _("Run `tunedeck doctor`.")
    )


PARTS = ("model", "train_dataloader", "train_cfg", "optim_wrapper")
"""What mmengine's runner cannot train without."""
_RUNS = frozenset(
    ("open", "exec", "eval", "compile", "__import__", "input", "print", "exit", "quit")
)
_QUIET = frozenset(("collections", "copy", "datetime", "functools", "math", "itertools", "typing"))
"""Modules of the standard library whose functions only make values."""


def runs_code(config: Loaded) -> list[Finding]:
    """What the config does when it is loaded, beside giving values: worth a look before trust."""
    found = []
    for line, call in _calls(config.wiring.tree):
        found.append(
            Finding(
                INFO,
                "config-code",
                _("The config runs {call} each time it is loaded").format(call=call),
                _("line {line}").format(line=line),
                _("Make sure that you trust it."),
            )
        )
    return found[:3]


def _calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Calls into the standard library at the top level; those of other libraries only name."""
    outside = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if _really_imported(node, alias.name)
    }
    for node in _top_level(tree):
        if not isinstance(node, ast.Call):
            continue
        root: ast.expr = node.func
        while isinstance(root, ast.Attribute):
            root = root.value
        if isinstance(root, ast.Name) and (root.id in outside or root.id in _RUNS):
            shown = ast.unparse(node.func)
            if shown not in ("os.getenv", "os.environ.get") and ".path." not in shown:
                yield node.lineno, shown


def _really_imported(node: ast.Import | ast.ImportFrom, name: str) -> bool:
    """mmengine imports the standard library alone; of the rest it keeps names."""
    module = node.module or "" if isinstance(node, ast.ImportFrom) else name
    top = module.partition(".")[0]
    return top in sys.stdlib_module_names and top not in _QUIET


def _top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes that run when the module does: not the insides of functions."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def names(config: Loaded) -> list[Finding]:
    """Names that the libraries do not have, and keywords that they do not take."""
    return [_wrong(one) for one in _once(config.wrong)]


def _once(wrong: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One per cause: a value that is used in several places is wrong once."""
    seen: dict[tuple[str, str, str], dict[str, Any]] = {}
    for one in wrong:
        last = one["field"].rpartition(".")[2] if one["kind"].startswith("key") else ""
        key = (one["kind"], one["name"], last)
        if key not in seen or one["field"].count(".") < seen[key]["field"].count("."):
            seen[key] = one
    return list(seen.values())


def _wrong(one: dict[str, Any]) -> Finding:
    near, field = one["near"], one["field"]
    hint = _("Did you mean {name}?").format(name=near) if near else ""
    if one["kind"] == "module":
        return Finding(
            ERROR,
            "module-missing",
            _("The package {name} is not installed").format(name=one["name"]),
            _("The config takes {field} from it.").format(field=field),
            _("Install it in the training environment, or choose another config."),
            field=field,
        )
    if one["kind"] in ("name", "member"):
        return Finding(
            ERROR,
            "name-missing",
            _("There is no {name}").format(name=one["name"]),
            _("The config uses it for {field}.").format(field=field),
            hint,
            field=field,
        )
    key = field.rpartition(".")[2]
    return Finding(
        ERROR if one["kind"] == "key" else WARNING,
        "unknown-key",
        _("{owner} knows no {key}").format(owner=one["name"], key=key),
        _("XTuner would stop with a TypeError after it has loaded the model.")
        if one["kind"] == "key"
        else _("It may be ignored, or stop the training."),
        hint or _("Take it out, or correct its name."),
        Fix(field, rename=near) if near else None,
        field,
    )


def unused(config: Loaded) -> list[Finding]:
    """Top-level names that nobody reads and that look like one that the trainer reads."""
    stored, read = _uses(config.wiring.tree)
    found = []
    for name in stored:
        if name in RUNNER_KEYS or name not in config.values:
            continue
        near = difflib.get_close_matches(name, sorted(RUNNER_KEYS - set(stored)), n=1, cutoff=0.8)
        # One that the config itself reads is meant, unless XTuner cannot do without the right one.
        if near and (name not in read or near[0] in PARTS):
            found.append(
                Finding(
                    ERROR,
                    "unknown-name",
                    _("Nothing reads {name}").format(name=name),
                    _("XTuner ignores a name that it does not know, or misses the right one."),
                    _("Did you mean {name}?").format(name=near[0]),
                    Fix(name, rename=near[0]),
                    name,
                )
            )
    return found


def _uses(tree: ast.Module) -> tuple[list[str], set[str]]:
    stored: list[str] = []
    read: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                stored.append(node.id)
            else:
                read.add(node.id)
    return list(dict.fromkeys(stored)), read
