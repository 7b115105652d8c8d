"""The rows that trainings mapped: told, and deleted when that is asked for."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from engine.cli import main
from engine.machine import doctor, mapped_rows
from engine.settings import Settings


def fill(*names: str, age: float = 0.0) -> list[Path]:
    """Files of 1000 bytes where ``datasets`` has them, last used so many seconds ago."""
    made = []
    for name in names:
        path = mapped_rows.folder() / "json" / "default-1" / "0.0.0" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
        os.utime(path, (time.time() - age,) * 2)
        made.append(path)
    return made


def test_they_are_deleted_and_nothing_else_is(capsys: pytest.CaptureFixture[str]) -> None:
    old = fill("cache-1.arrow", "cache-2_00001_of_00002.arrow", age=90_000)
    others = [*fill("json-train.arrow", "dataset_info.json", age=90_000), *fill("cache-3.arrow")]
    assert main.main(["doctor", "--forget-rows", "--json"]) == 0
    gone = json.loads(capsys.readouterr().out)
    assert gone == {"folder": str(mapped_rows.folder()), "files": 2, "bytes": 2000}
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in others), "loaded rows, and those of a start under way"
    assert main.main(["doctor", "--forget-rows"]) == 0
    assert "0 files" in capsys.readouterr().out


def test_the_doctor_tells_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def row() -> list[doctor.Check]:
        checks = doctor.run(Settings(), tmp_path)
        return [one for one in checks if str(mapped_rows.folder()) in one.detail]

    assert row() == []
    [big] = fill("cache-1.arrow")
    [few] = row()
    os.truncate(big, 20_000_000_000)  # of holes
    [many] = row()
    assert few.ok is True and many.ok is None and "--forget-rows" in many.fix


def test_a_folder_that_goes_meanwhile_is_passed_over() -> None:
    for path in fill("cache-1.arrow", "cache-2.arrow"):
        place = mapped_rows.folder() / path.stem
        place.mkdir()
        path.rename(place / path.name)
    found = mapped_rows._files()
    first, _status = next(found)
    for place in mapped_rows.folder().glob("cache-*"):
        if place != first.parent:
            shutil.rmtree(place)
    assert list(found) == []


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/datasets"),
        ({"XDG_CACHE_HOME": "/c", "HF_HOME": "/h"}, "/h/datasets"),
        ({"HF_HOME": "/h", "HF_DATASETS_CACHE": "/d"}, "/d"),
    ],
)
def test_they_are_looked_for_where_datasets_keeps_them(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert mapped_rows.folder() == Path(expected)
