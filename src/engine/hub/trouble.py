"""What went wrong with a hub, in words. Inside the workers that ask one."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from engine.errors import Failed, Problem
from engine.hub.repo import SOURCES, Repo
from engine.i18n import _


def broke_off(error: BaseException) -> bool:
    """Whether the line broke in the middle, so that another attempt may end well."""
    import requests

    lines = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return any(
        isinstance(one, lines) or "Consistency check failed" in str(one) for one in _causes(error)
    )


def unreachable(error: BaseException) -> bool:
    """Whether the hub could not be asked at all: no network, or none is to be used."""
    names = {type(one).__name__ for one in _causes(error)}
    return bool(names & {"OfflineModeIsEnabled", "LocalEntryNotFoundError"}) or broke_off(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextlib.contextmanager
def explained(repo: Repo, kind: str, what: str) -> Iterator[None]:
    """Turn whatever a client raises into `what`, why and what to do."""
    try:
        yield
    except Problem:
        raise
    except ImportError as error:
        raise Failed(
            _("{hub} cannot be asked").format(hub=repo.where),
            str(error),
            _("Install modelscope into the training environment."),
            repr(error),
        ) from error
    except Exception as error:
        why, todo = _reason(error, repo, kind)
        raise Failed(what, why, todo, repr(error)) from error


def _reason(error: BaseException, repo: Repo, kind: str) -> tuple[str, str]:
    """Why it failed, and what to do."""
    said = str(error).strip().split("\n")[0] or type(error).__name__
    names = {type(one).__name__ for one in _causes(error)}
    statuses = {
        getattr(getattr(one, "response", None), "status_code", None) for one in _causes(error)
    }
    if any(isinstance(one, OSError) and one.errno == errno.ENOSPC for one in _causes(error)):
        todo = _(
            "Free space, or set HF_HOME or MODELSCOPE_CACHE to a bigger disk; it goes on there."
        )
        return _("The disk is full."), todo
    if "GatedRepoError" in names or statuses & {401, 403}:
        todo = _("Accept its terms on its page if it has any, then set HF_TOKEN (or log in).")
        return _("It is closed to you, or it does not exist."), todo
    if statuses & {404} or names & {"RepositoryNotFoundError", "NotExistError"}:
        other = "ms" if repo.source == "hf" else "hf"
        todo = _("Check the name; on {hub} it would be {other}.").format(
            hub=SOURCES[other], other=Repo(other, repo.name)
        )
        missing = {
            "dataset": _("There is no dataset of this name."),
            "model": _("There is no model of this name."),
        }
        return missing[kind], todo
    if unreachable(error):
        todo = _("Check the network, or set HF_ENDPOINT to a mirror that can be reached.")
        return said, todo
    return said, _("Try again; what has arrived is kept.")
