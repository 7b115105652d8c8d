"""What the dialogs of the config pane offer, and what comes of the answers."""

from __future__ import annotations

from pathlib import Path

from engine.config.making import fitting
from engine.config.making.copy import Copied
from engine.config.stock import catalogue
from engine.config.stock.entry import Entry
from engine.config.text.source import ConfigSource
from engine.dataset.called import own_place
from engine.errors import Problem
from engine.export import artefact
from engine.files import refuse_existing
from engine.i18n import _
from engine.joined.copying import copy_config
from engine.settings import Settings
from engine.workspace import Workspace
from tui.dialogs.choose import Choice


def entries(workspace: Workspace, settings: Settings) -> list[Entry]:
    """The catalogue. Raises `Problem` when there is none."""
    found = catalogue.load(settings, workspace.root)
    if not found:
        raise Problem(
            _("The catalogue is empty"),
            _("XTuner is not in the training environment {python}.").format(python=settings.python),
            _("F8 shows the machine; `tunedeck doctor` says how to install it. o opens a file."),
        )
    return found


def config_choices(workspace: Workspace) -> list[Choice]:
    """The workspace's own configs, those changed last first."""
    found = [*workspace.configs.rglob("*.py"), *workspace.root.glob("*.py")]
    found = [path for path in found if not path.name.startswith(("_", "."))]
    found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return [Choice(str(path), workspace.relative(path)) for path in found]


def local_models(workspace: Workspace) -> list[Path]:
    """The whole models in ``models/``, those made first first: a base comes before its merges."""
    if not workspace.models.is_dir():
        return []
    folders = [path for path in workspace.models.iterdir() if path.is_dir()]
    folders = [
        path
        for path in folders
        if not path.name.startswith(".") and artefact.identify(path).kind == artefact.MODEL
    ]
    return sorted(folders, key=lambda path: (path.stat().st_mtime, path.name))


def suggestion(workspace: Workspace, stock: Path) -> tuple[str, str]:
    """Where a copy of the config `stock` could go, and the model it could start from.

    The model that was last used as a base comes first, then one that lies in
    the workspace; else what the stock config says itself.
    """
    data = workspace.last().data
    stem = own_place(Path(data), workspace).stem if data else stock.stem
    target = workspace.configs / f"{stem}.py"
    number = 2
    while target.exists():
        target = workspace.configs / f"{stem}-{number}.py"
        number += 1
    base = workspace.last().base
    models = local_models(workspace)
    if base and Path(base).is_dir():
        model = workspace.relative(Path(base))
    elif models:
        model = str(models[0].relative_to(workspace.root))  # a link in it stays one
    else:
        model = stock_model(stock)
    return workspace.relative(target), model


def stock_model(stock: Path) -> str:
    """The model that a config of the catalogue starts from, as it says itself."""
    source = ConfigSource.open(stock)
    for key in ("pretrained_model_name_or_path", "llm_name_or_path"):
        if source.has(key):
            return str(source.get(key))
    return ""


def target_path(workspace: Workspace, name: str) -> Path:
    """Where a copy called `name` goes. Raises `Problem` for a name that is taken or none."""
    if not name.strip():
        raise Problem(_("The new config needs a name"), "", _("For example: configs/mine.py"))
    path = workspace.resolve(name.strip())
    if path.suffix != ".py":
        path = path.with_name(path.name + ".py")
    if path.parent == workspace.root and "/" not in name:
        path = workspace.configs / path.name
    refuse_existing(path, force=False)
    return path


def make(workspace: Workspace, settings: Settings, stock: Path, name: str, model: str) -> Copied:
    """Copy `stock`, pointed at `model` and at the dataset that is open. Raises `Problem`."""
    last = workspace.last()
    local = workspace.resolve(model) if model else None
    return copy_config(
        stock,
        target_path(workspace, name),
        settings=settings,
        workspace_root=workspace.root,
        data=last.dataset or None,
        shape=last.shape or None,
        model=(str(local) if local and local.exists() else model) or None,
        template=last.template or None,
        card=fitting.card(None),
    )
