"""Checkpoints that are whole or not there, and never the last one lost.

As mmengine saves, the oldest checkpoint is deleted before the new one is
written, and the new one is written under its final name: with
``max_keep_ckpts=1`` a kill or a full disk in that moment leaves nothing to go
on from. Here each checkpoint is written under another name, synced, and takes
its own name when all of it is on the disk; only then is an older one deleted.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import FlexibleRunner, Runner

PART = ".{name}.part"
"""What the checkpoint `name` is called while it is written; `engine.run.checkpoints` knows it."""


def install() -> None:
    """Make every runner save this way, and CheckpointHook delete afterwards."""
    for runner_class in (Runner, FlexibleRunner):
        runner_class.save_checkpoint = _whole(runner_class.save_checkpoint)
    for method in ("_save_checkpoint_with_step", "_save_best_checkpoint"):
        setattr(CheckpointHook, method, _deleting_last(getattr(CheckpointHook, method)))


def save_now(runner: Any, step: int) -> None:
    """Save after iteration `step` as CheckpointHook would: same name, content and rotation.

    A checkpoint that the hook has just saved is not saved again.
    """
    hook = next((one for one in runner.hooks if isinstance(one, CheckpointHook)), None)
    meta = {"epoch": runner.epoch, "iter": step}
    if hook is not None and not hook.by_epoch:
        path = os.path.join(hook.out_dir, hook.filename_tmpl.format(step))  # noqa: PTH118
        if hook.last_ckpt == path:
            return
        runner.logger.info(f"Saving checkpoint at {step} iterations")
        hook._save_checkpoint_with_step(runner, step, meta=meta)
        return
    runner.logger.info(f"Saving checkpoint at {step} iterations")
    folder = hook.out_dir if hook is not None and hook.out_dir else runner.work_dir
    runner.save_checkpoint(folder, f"iter_{step}.pth", meta=meta, by_epoch=False)
    if is_main_process():
        path = os.path.join(folder, f"iter_{step}.pth")  # noqa: PTH118
        (Path(runner.work_dir) / "last_checkpoint").write_text(path, encoding="utf-8")


def _whole(save: Callable[..., Any]) -> Callable[..., None]:
    """A runner's `save_checkpoint` that shows the checkpoint only when it is whole."""

    @functools.wraps(save)
    def save_checkpoint(
        runner: Any, out_dir: str, filename: str, *args: Any, **options: Any
    ) -> None:
        if "://" in str(out_dir) or os.environ.get("DS_CEPH_DIR"):
            # An object store shows whole files only.
            save(runner, out_dir, filename, *args, **options)
            return
        part = Path(out_dir) / PART.format(name=filename)
        if is_main_process():
            _remove(part)
        barrier()
        try:
            save(runner, out_dir, part.name, *args, **options)
            _sync(part)
        except BaseException:
            # On a full disk what is half written is in the way of everything else.
            _remove(part)
            raise
        _name(part, Path(out_dir) / filename)

    return save_checkpoint


def _name(part: Path, final: Path) -> None:
    """Give the finished `part` its name, once every rank has written its share.

    The main rank does it; on other nodes with a disk of their own their first rank.
    """
    barrier()
    if is_main_process():
        _replace(part, final)
    barrier()
    if os.environ.get("LOCAL_RANK", "0") == "0" and part.exists():
        with contextlib.suppress(FileNotFoundError):  # one disk after all, seen late
            _replace(part, final)


def _replace(part: Path, final: Path) -> None:
    if final.is_dir():  # a folder cannot be renamed over another
        old = final.with_name(f".{final.name}.old.part")
        _remove(old)
        final.rename(old)
        part.rename(final)
        _remove(old)
    else:
        part.replace(final)
    _sync_one(final.parent)


def _deleting_last(save: Callable[..., None]) -> Callable[..., None]:
    """A method of CheckpointHook whose deletions are carried out when it has saved."""

    @functools.wraps(save)
    def saving(hook: Any, *args: Any, **options: Any) -> None:
        backend, later = hook.file_backend, _Later(hook.file_backend)
        hook.file_backend = later
        try:
            save(hook, *args, **options)
        finally:
            hook.file_backend = backend
        later.carry_out()

    return saving


class _Later:
    """A file backend of mmengine that keeps deletions for later and does the rest at once."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._deletions: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._deletions.append(("remove", path))

    def rmtree(self, path: str) -> None:
        self._deletions.append(("rmtree", path))

    def carry_out(self) -> None:
        for method, path in self._deletions:
            with contextlib.suppress(FileNotFoundError):
                getattr(self._backend, method)(path)


def _sync(part: Path) -> None:
    """Put all of `part` on the disk: a name must not get there before its content."""
    if part.is_dir():
        for file in part.rglob("*"):
            _sync_one(file)
    if part.exists():  # only the main rank writes a plain one
        _sync_one(part)


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
