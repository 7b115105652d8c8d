"""Errors that nobody put into words where they arose, as a person reads them.

The last fence of the verbs and of the app. A file system refuses for reasons that
can befall any path at any line (a name that is too long, a disk that fails), and its
error says which path: that is told as it is. Everything else is a fault of ours.
"""

from __future__ import annotations

import errno
import os

from engine.errors import Failed, Problem
from engine.i18n import N_, _
from engine.text import one_line

_REMEDIES = {
    errno.ENOSPC: N_("Make room on its disk."),
    errno.EDQUOT: N_("Make room on its disk."),
    errno.EROFS: N_("A disk that became so by itself is damaged: tell who looks after it."),
    errno.EIO: N_("The disk may be damaged: tell who looks after it."),
    errno.ENAMETOOLONG: N_("Give a shorter name."),
    errno.EACCES: N_("Correct its permissions, or those of the folder it lies in."),
    errno.EPERM: N_("Correct its permissions, or those of the folder it lies in."),
    errno.ELOOP: N_("It is a link that leads to itself: correct or remove it."),
    errno.EMFILE: N_("Raise the limit of open files: ulimit -n 65536"),
}
"""What to do, by the system's error number."""
_INPUTS = frozenset(
    (
        errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES,
        errno.EPERM, errno.EINVAL, errno.ENXIO,
    )
)  # fmt: skip
"""Numbers that say something of the path that was given, not of the work done on it."""
_LOOP = "Symlink loop from "
_AROUND = 60
"""Characters that are told on both sides of one that cannot be written."""
_SHOWN = 200
"""Characters of a path that are told: one that is too long need not be read through."""


def as_problem(error: BaseException | None, details: str) -> Problem:
    """`error` as it is told: itself when it is in words already.

    Args:
        error: what was raised.
        details: where one sees more of it ("F7 shows the details"), without a full stop.
    """
    if isinstance(error, Problem):
        return error
    said = refused(error) or _undecodable(error)
    if said is not None:
        return said
    return Failed(
        _("Something went wrong inside Tunedeck"),
        f"{type(error).__name__}: {error}",
        _("{details}; please report them. Nothing of your runs is touched.").format(
            details=details
        ),
        _traceback(error),
    )


def _undecodable(error: BaseException | None) -> Problem | None:
    """A name of which some bytes are no UTF-8 cannot be written down, in a config least of all."""
    if not isinstance(error, UnicodeEncodeError) or error.encoding != "utf-8":
        return None
    around = error.object[max(0, error.start - _AROUND) : error.end + _AROUND]
    return Problem(
        _("A name is not UTF-8"),
        one_line(around),
        _("Rename it: `convmv -f gbk -t utf8 -r --notest FOLDER` does it for a whole folder."),
        _traceback(error),
    )


def remedy(number: int | None) -> str:
    """What to do about the system's error `number`; "" for one that says nothing of it."""
    return _(_REMEDIES[number]) if number in _REMEDIES else ""


def refused(error: BaseException | None) -> Problem | None:
    """What the file system refused, when `error` is that, and not a network's or a library's."""
    if isinstance(error, RuntimeError) and str(error).startswith(_LOOP):  # by Path.resolve
        error = OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(error)[len(_LOOP) :].strip("'"))
    if not isinstance(error, OSError):
        return None
    path = error.filename2 if error.filename2 is not None else error.filename
    if isinstance(path, str | bytes):
        name = os.fsdecode(path)
        shown = name if len(name) <= _SHOWN else name[:_SHOWN] + "…"
        what = _("Cannot use {path}").format(path=shown)
    elif _nowhere():
        return folder_gone()
    elif error.errno in _REMEDIES:  # (a descriptor has no name)
        what = _("A file or folder could not be used")
    else:
        return None
    kind = Problem if error.errno in _INPUTS else Failed
    return kind(what, error.strerror or str(error), remedy(error.errno), _traceback(error))


def folder_gone() -> Problem:
    """What is told where the current folder is no more."""
    return Problem(
        _("The current folder does not exist any more"),
        _("It was removed or replaced since this shell entered it."),
        _("Enter it again with cd."),
    )


def _nowhere() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 (all that is asked)
    except FileNotFoundError:
        return True
    return False


def _traceback(error: BaseException | None) -> str:
    import traceback

    return "".join(traceback.format_exception(error)) if error is not None else ""
