"""numpy's matrix products, kept to the thread that asks for them."""

from __future__ import annotations

import os
import sys


def one_thread() -> None:
    """Keep BLAS from starting threads of its own, which would wait for one another.

    It has an effect only before numpy is first imported.
    """
    if "numpy" not in sys.modules:
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ.setdefault(name, "1")
