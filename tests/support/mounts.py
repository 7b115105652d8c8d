"""File systems of a test's own: small ones and read-only ones, seen by nobody else.

A process of its own gets a copy of all mounts (mount_namespaces(7)), so that
nothing is left when it has ended, whatever became of it. Without root it is
root in a namespace of its own (user_namespaces(7)), where the machine lets it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

_NEW_MOUNTS, _NEW_USER = 0x20000, 0x10000000
_READ_ONLY, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 32, 4096, 16384, 1 << 18
_SKIPPED = 77
_LIMIT = 120
"""Seconds after which the work counts as hanging."""
_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source: str, target: Path, kind: str, flags: int, options: str = "") -> None:
    done = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    if done:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def small(folder: Path, size: int) -> None:
    """Put an empty file system of `size` bytes onto `folder`, which is made."""
    folder.mkdir(exist_ok=True)
    _mount("small", folder, "tmpfs", 0, f"size={size}")


def read_only(folder: Path) -> None:
    """Let nobody write in `folder`, root included."""
    _mount(str(folder), folder, "", _BIND)
    _mount("", folder, "", _REMOUNT | _BIND | _READ_ONLY)


def apart(work: Callable[[], None]) -> None:
    """Do `work` in a fork of this process that may mount; fail as it fails.

    Skips the test on a machine where that is not allowed.
    """
    child = os.fork()
    if child == 0:
        os._exit(_in_child(work))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == _SKIPPED:
        pytest.skip("this machine does not let us mount a file system")
    assert status == 0, f"it failed in a process apart (status {status}); its traceback is above"


def _in_child(work: Callable[[], None]) -> int:
    try:
        _enter()
    except OSError:
        return _SKIPPED
    signal.alarm(_LIMIT)
    try:
        work()
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _enter() -> None:
    user, group = os.getuid(), os.getgid()
    if _libc.unshare(_NEW_MOUNTS | (_NEW_USER if user else 0)):
        raise OSError(ctypes.get_errno(), "unshare")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _mount("", Path("/"), "", _RECURSIVE | _PRIVATE)
