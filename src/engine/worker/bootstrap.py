"""Starts a module of ``engine`` under an interpreter that need not know it.

    python .../engine/worker/bootstrap.py engine.train.entry ARGUMENTS

The user's training environment has XTuner but not Tunedeck. Putting our
site-packages on its path would mix two environments, so only the package
``engine`` is made importable, from where this file lies. This folder and the
current one are kept off the path (what -P does, which Python 3.10 lacks).
"""

import importlib.util
import runpy
import sys
from pathlib import Path


def _main() -> None:
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if entry and Path(entry).resolve() != here]
    package = here.parent
    if "engine" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "engine", package / "__init__.py", submodule_search_locations=[str(package)]
        )
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["engine"] = module
        spec.loader.exec_module(module)
    name = sys.argv[1]
    del sys.argv[1]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
