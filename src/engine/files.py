"""Writing files so that no reader ever sees half of one.

Everything that Tunedeck writes is the user's alone (0600, folders 0700):
servers are shared. Every verb imports this module and few need all of its
libraries: those are imported where they are used.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from engine import unforeseen
from engine.errors import Failed, Problem
from engine.i18n import _

_WRITING = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG))
"""Errors of writing alone: those of reading do not say either which file it was."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def private_folder(path: Path) -> Path:
    """Make `path` (0700) with its parents, and return it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(
            _("Cannot make the folder {path}").format(path=path),
            error.strerror or str(error),
            _("Choose another place, or correct its permissions."),
        ) from error
    return path


def own(folder: Path, enough: int | None = None) -> Path:
    """`folder`, or one beside it where another user has it (``NAME-UID``).

    What is kept private is never kept in another's folder, be that open to all: its owner
    could put anything there, and what lies in it already is theirs alone.

    Args:
        folder: it need not exist.
        enough: rights (`os.R_OK` …) with which another's may be used all the same.

    Raises `Problem` when that beside it is somebody else's: what is private would be theirs.
    """
    try:
        owners = {folder.lstat().st_uid, folder.stat().st_uid}  # of a link, and where it leads
    except OSError:
        return folder
    if owners == {os.getuid()} or (enough is not None and os.access(folder, enough)):
        return folder
    if os.access(folder, os.R_OK | os.W_OK | os.X_OK) and not _keeps_owners(folder.parent):
        return folder
    beside = folder.with_name(f"{folder.name}-{os.getuid()}")
    with contextlib.suppress(FileNotFoundError):
        if beside.lstat().st_uid != os.getuid():
            raise Problem(
                _("The folder {path} is another user's").format(path=beside),
                _("What you keep here would lie in it, as your user id is in its name."),
                _("Have it removed, or work in another folder."),
            )
    return beside


def _keeps_owners(folder: Path) -> bool:
    """Whether the disk says who made what: some give all to one user (NFS, FUSE, CIFS)."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder) as made:
            return os.fstat(made.fileno()).st_uid == os.getuid()
    except OSError:  # nothing can be made there: nothing of ours was
        return True


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_existing(path: Path, force: bool) -> None:
    """Raise `Problem` when `path` exists and `force` was not given."""
    if path.exists() and not force:
        raise Problem(
            _("{path} exists already").format(path=path),
            _("Nothing is overwritten unasked."),
            _("Choose another name."),
            ways=("force",),
        )


@contextmanager
def replacing(path: Path, force: bool = True, mode: int = 0o600) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the block ends without an error.

    Written beside the target, synced, then renamed over it; on any error the
    temporary file goes and `path` stays as it was.
    """
    refuse_existing(path, force)
    private_folder(path.parent)
    import tempfile

    prefix = f".{path.name}."
    with _told_of(path, path.parent / prefix):
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            _name(temporary, path, force)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    _sync_folder(path.parent)


def _name(temporary: Path, path: Path, force: bool) -> None:
    """Let `temporary` be `path`; what came there meanwhile is replaced with `force` only."""
    if not force:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            refuse_existing(path, force)
        except OSError:  # a disk without hard links
            refuse_existing(path, force)
        else:
            temporary.unlink()
            return
    temporary.replace(path)


@contextmanager
def replacing_folder(path: Path, force: bool = False) -> Iterator[Path]:
    """A new folder that becomes `path` when the block ends without an error.

    It is built under a temporary name beside the target. A leftover of an
    earlier attempt that was killed is removed first. Raises `Problem` while
    somebody else is making it.
    """
    refuse_existing(path, force)
    private_folder(path.parent)
    temporary = path.parent / f".{path.name}.part"
    with _told_of(path, temporary), _own(temporary, path):
        refuse_existing(path, force)  # it may have been finished just now
        try:
            yield temporary
            for file in sorted(temporary.rglob("*")):
                if file.is_file():
                    said = _("Cannot write {path}").format(path=file)
                    with in_words(said), file.open("rb") as opened:
                        os.fsync(opened.fileno())
            retired = path.parent / f".{path.name}.old"
            refuse_existing(path, force)
            if path.exists():
                _remove(retired)
                path.rename(retired)
            temporary.rename(path)
            _remove(retired)  # also one that a kill left between the two
        except BaseException:
            _remove(temporary)
            raise
    _sync_folder(path.parent)


@contextmanager
def _told_of(path: Path, temporary: Path) -> Iterator[None]:
    """An `OSError` inside names `path`, which its user knows, and not what is temporary.

    Args:
        path: what is being made.
        temporary: how the names begin under which it is made.
    """
    try:
        yield
    except OSError as error:
        nameless = error.filename is None and error.errno in _WRITING
        if nameless or str(error.filename).startswith(str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise


@contextmanager
def _own(temporary: Path, path: Path) -> Iterator[None]:
    """An empty folder `temporary` that is ours alone; `Problem` when somebody makes `path` too."""
    folder = None
    while folder is None:
        if temporary.is_symlink():  # what it leads to is nobody's leftover
            temporary.unlink()
        temporary.mkdir(mode=0o700, exist_ok=True)
        folder = _held(temporary, path)
    try:
        for left in temporary.iterdir():
            if left.is_dir() and not left.is_symlink():
                _remove(left)
            else:
                left.unlink()
        yield
    finally:
        os.close(folder)


def _held(temporary: Path, path: Path) -> int | None:
    """The folder, opened and locked; None when it is not there any more: another one is done."""
    with contextlib.suppress(FileNotFoundError):
        folder = os.open(temporary, _FOLDER | os.O_NOFOLLOW)
        try:
            if not _locked(folder):
                raise Failed(
                    _("{path} is being made already").format(path=path),
                    _("Another process writes it at this moment."),
                    _("Wait until that is done, or choose another name."),
                )
            if os.path.samestat(os.fstat(folder), temporary.stat()):
                return folder
        except BaseException:
            os.close(folder)
            raise
        os.close(folder)
    return None


def _locked(descriptor: int, wait: bool = False) -> bool:
    """Lock what is open until it is closed; False when somebody else has it locked."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a network disk without locks: as good as can be had there
        return True
    return True


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else is in such a block for `folder` meanwhile: what is read stays so till written.

    One waits for another. Where `folder` cannot be opened nobody can write there either.
    """
    try:
        descriptor = os.open(folder, _FOLDER)
    except OSError:
        yield
        return
    try:
        _locked(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """Remove a folder, if it is there, as far as that can be done."""
    if folder.exists():
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def in_words(what: str) -> Iterator[None]:
    """An `OSError` inside becomes `Failed`: `what` (a sentence) could not be done."""
    try:
        yield
    except OSError as error:
        todo = _("Make room, or correct the permissions of the folder it lies in.")
        todo = unforeseen.remedy(error.errno) or todo
        raise Failed(what, error.strerror or str(error), todo) from error


def write_json(path: Path, value: Any) -> None:
    """Replace `path` atomically with `value` as readable JSON."""
    import msgspec

    with replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def append_json(path: Path, value: Any) -> None:
    """Append `value` as one JSON line, in a single write where there is room for it.

    On a full disk half a line may be all that gets in. That raises `OSError`, and
    the next line begins behind it on a line of its own: who reads passes over the half.
    """
    import msgspec

    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        rest = (b"\n" if torn else b"") + msgspec.json.encode(value) + b"\n"
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)
