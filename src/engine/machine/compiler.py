"""Can torch compile a model on this machine, and is what it makes right?"""

from __future__ import annotations

import os
import re
import shutil

from engine.i18n import _

_CORRUPT = (2, 13)
"""From this torch on. Of the masks that it draws for dropout on CUDA, up to four neighbours are
the same, and the backward of a layer that is computed twice draws other ones than the forward
(pytorch issue 198333, open in September 2026; 2.12 and those before are right)."""


def missing(cuda: bool, triton: bool) -> str | None:
    """What torch would miss here to compile for CUDA, or else for the CPU; None: nothing.

    `triton`: whether the training interpreter has Triton.
    """
    if cuda and not triton:
        return _("Triton is not installed.")
    names = (os.environ.get("CC"), "gcc", "clang") if cuda else ("g++", "clang++")
    if not any(name and shutil.which(name) for name in names):
        return _("There is no C compiler (gcc).") if cuda else _("There is no C++ compiler (g++).")
    return None


def corrupts(torch_version: str) -> bool:
    """Whether what this torch ("2.13.0+cu130") compiles for CUDA drops out wrongly."""
    found = re.match(r"(\d+)\.(\d+)", torch_version)
    return found is not None and (int(found[1]), int(found[2])) >= _CORRUPT
