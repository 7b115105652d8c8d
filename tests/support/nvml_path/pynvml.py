"""The real pynvml, with the tests' library under it: for processes that a test starts.

This folder is put on their path in front of all others (`tests.support.nvml`).
"""

import importlib.util
import os
import sys
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path

_here = Path(__file__).parent
_found = PathFinder.find_spec("pynvml", [entry for entry in sys.path if Path(entry) != _here])
assert _found is not None and isinstance(_found.loader, SourceFileLoader)
# In this very module: another thread that imports it at the same time has got hold of it already.
_code = _found.loader.get_code("pynvml")
assert _code is not None
exec(_code, globals())

_answers = importlib.util.spec_from_file_location("tunedeck_tests_nvml", _here.parent / "nvml.py")
assert _answers is not None and _answers.loader is not None
_nvml = importlib.util.module_from_spec(_answers)
sys.modules[_answers.name] = _nvml  # where its annotations are looked up
_answers.loader.exec_module(_nvml)
_nvml.install(sys.modules[__name__], Path(os.environ[_nvml.ANSWERS]))
