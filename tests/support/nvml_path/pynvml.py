"""The real pynvml, with the tests' library under it: for processes that a test starts.

This folder is put on their path in front of all others (`tests.support.nvml`).
"""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

_here = Path(__file__).parent
_spec = PathFinder.find_spec("pynvml", [entry for entry in sys.path if Path(entry) != _here])
assert _spec is not None and _spec.loader is not None
_real = importlib.util.module_from_spec(_spec)
_spec._initializing = True  # type: ignore[attr-defined]  # another thread's import waits for it
sys.modules["pynvml"] = _real  # what the import statement gives its caller
_spec.loader.exec_module(_real)

_answers = importlib.util.spec_from_file_location("tunedeck_tests_nvml", _here.parent / "nvml.py")
assert _answers is not None and _answers.loader is not None
_nvml = importlib.util.module_from_spec(_answers)
sys.modules[_answers.name] = _nvml  # where its annotations are looked up
_answers.loader.exec_module(_nvml)
_nvml.install(_real, Path(os.environ[_nvml.ANSWERS]))
_spec._initializing = False  # type: ignore[attr-defined]
