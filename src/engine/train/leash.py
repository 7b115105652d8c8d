"""Under torchrun, a rank ends when torchrun does.

torchrun starts its ranks in sessions of their own. Killed, it leaves them to
train on; our supervisor ends them, but where that was killed as well, nobody
would. A trainer without torchrun is our supervisor's own child, and outlives it.
"""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_RUN_ID = "TORCHELASTIC_RUN_ID"
"""What torchrun gives to each rank."""


def fasten() -> None:
    """Have the kernel end this process with its parent, where that is torchrun."""
    if _RUN_ID not in os.environ:
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended just before
        os.kill(os.getpid(), signal.SIGKILL)
