"""Under torchrun, a rank ends when torchrun does, and when another one keeps it waiting.

torchrun starts its ranks in sessions of their own. Killed, it leaves them to
train on; our supervisor ends them, but where that was killed as well, nobody
would. A trainer without torchrun is our supervisor's own child, and outlives it.

At NCCL's time-out torch ends the rank that waited, unless it is told to take leave of
the others first. That never returns while the rank that was waited for still hangs (seen
with torch 2.11 and NCCL 2.28: the GPUs were held for minutes on end), and torchrun tells
it so where nobody else says anything.
"""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_AT_TIMEOUT, _LEAVE_FIRST, _END = "TORCH_NCCL_ASYNC_ERROR_HANDLING", "1", "3"
"""torch's variable, what torchrun sets it to, and what torch itself holds without it."""
_RUN_ID = "TORCHELASTIC_RUN_ID"
"""What torchrun gives to each rank."""


def fasten() -> None:
    """Have the kernel end this process with its parent, where that is torchrun; NCCL as well."""
    if _RUN_ID not in os.environ:
        return
    if os.environ.get(_AT_TIMEOUT) == _LEAVE_FIRST:
        os.environ[_AT_TIMEOUT] = _END
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it has ended just before
        os.kill(os.getpid(), signal.SIGKILL)
