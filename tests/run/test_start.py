"""A trainer's start: what it leaves out is there when it is asked for, and rows are not stale."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine.machine import mapped_rows
from engine.train import late
from tests.conftest import ROOT

RAN: list[str] = []
"""Which of the modules below have run, in order."""
Modules = Callable[[dict[str, set[str]], dict[str, str]], None]


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Modules]:
    """Writes modules that note when they run; says which are late, and what they are called for."""
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    RAN.clear()

    def write(late_names: dict[str, set[str]], texts: dict[str, str]) -> None:
        for name, text in texts.items():
            path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            head = f"from {__name__} import RAN\nRAN.append(__name__)\n"
            path.write_text(head + text)
        names = {name: frozenset(called) for name, called in late_names.items()}
        monkeypatch.setattr(late, "NAMES", names)
        late.install()

    yield write
    for name in sys.modules.keys() - before:
        del sys.modules[name]


def test_a_late_module_runs_when_it_is_asked(modules: Modules) -> None:
    modules({"plain_one": set()}, {"plain_one": "VALUE = [__name__, __file__, __spec__.name]"})
    module = import_module("plain_one")
    assert import_module("plain_one") is sys.modules["plain_one"] is module
    assert module.__name__ == "plain_one" and module.__file__ and not RAN
    assert tuple(module.VALUE) == ("plain_one", module.__file__, "plain_one")
    assert RAN == ["plain_one"] and type(module) is ModuleType
    assert module.VALUE is module.VALUE and "VALUE" in dir(module)
    assert RAN == ["plain_one"]
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _nothing = module.nothing


def test_dir_of_a_late_module_is_whole(modules: Modules) -> None:
    modules({"plain_one": set()}, {"plain_one": "VALUE = 1"})
    assert "VALUE" in dir(import_module("plain_one"))


def test_what_is_only_called_runs_its_module_at_the_call(modules: Modules) -> None:
    text = "def double(x, times=2):\n    return x * times"
    modules({"plain_one": {"double"}}, {"plain_one": text})
    space: dict[str, Any] = {}
    exec("from plain_one import double", space)
    assert not RAN
    assert space["double"](2) == 4 and space["double"](2, times=3) == 6
    assert RAN == ["plain_one"]
    assert space["double"] is not import_module("plain_one").double  # a stand-in, for calls only


def test_a_late_package_runs_before_its_modules_do(modules: Modules) -> None:
    texts = {
        "pack.__init__": "from pack import second\nFIRST = second.VALUE",
        "pack.second": "VALUE = 2",
        "pack.third": "import pack\nVALUE = pack.FIRST",
        "pack.fourth": "import pack\nVALUE = pack.FIRST",
    }
    modules({"pack": set(), "pack.fourth": set()}, texts)
    fourth = import_module("pack.fourth")
    assert not RAN  # a late module of a late package
    second = import_module("pack.second")  # imported by the package itself
    assert RAN == ["pack", "pack.second"]
    assert second is sys.modules["pack.second"] and second.__spec__.loader is second.__loader__
    assert import_module("pack.third").VALUE == fourth.VALUE == 2
    assert RAN == ["pack", "pack.second", "pack.third", "pack.fourth"]


def test_a_late_module_of_a_late_package_brings_it(modules: Modules) -> None:
    texts = {"pack.__init__": "", "pack.fourth": "VALUE = 4"}
    modules({"pack": set(), "pack.fourth": set()}, texts)
    assert import_module("pack.fourth").VALUE == 4
    assert RAN == ["pack", "pack.fourth"]


def test_a_late_module_that_fails_says_so_when_asked(modules: Modules) -> None:
    modules({"broken": set(), "not_there": set()}, {"broken": "raise ImportError('no driver')"})
    module = import_module("broken")
    with pytest.raises(ImportError, match="no driver"):
        _value = module.VALUE
    assert "broken" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        import_module("not_there")


def facts(program: str, *arguments: Path) -> dict[str, Any]:
    """What a program in ``tests/support`` prints in its last line."""
    ran = subprocess.run(
        [sys.executable, ROOT / "tests/support" / program, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def test_what_a_start_leaves_out_works_when_it_is_used() -> None:
    found = facts("start_facts.py")
    assert found["late"] == sorted(late.NAMES)  # importing XTuner asks for none of them
    assert not found["compiler"]
    assert found["structure"] and found["texts"]
    assert found["optimizer"] == 0.5
    assert found["sleeps"] == [[], [2, 2]]  # a child may be a loader that is still ending
    assert found["matched"] == [[0, 1], [1, 0]]
    assert not found["compiles"]
    assert all(found["others"]) and found["late then"] == []


def test_few_rows_are_mapped_here_and_an_edited_map_module_is_noticed(tmp_path: Path) -> None:
    found = facts("mapped_rows.py", tmp_path)
    assert found["pieces matter"] and found["same"]
    assert found["alone"] > 0 and found["many"] > 0
    assert found["few"] == 0
    first, first_file, again, again_file, *edited = found["words"]
    assert (first, again) == ("one", "one") and first_file == again_file  # from the cache
    assert edited[::2] == ["two", "two"] and first_file not in edited
    assert str(mapped_rows.folder()) in first_file and Path(first_file).match("cache-*.arrow")
