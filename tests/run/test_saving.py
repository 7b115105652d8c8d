"""Checkpoints: written whole, rotated last, and told from torn ones without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.run import checkpoints

ROOT = Path(__file__).parent.parent.parent
FIXTURES = ROOT / "tests" / "fixtures"
CASES = ("ours-none", "ours-kill", "ours-full", "plain-kill", "plain-full")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, Path]]:
    """For each case its exit status, and the folder that a toy was saved into."""
    base = tmp_path_factory.mktemp("saving")
    folders = {name: base / name for name in CASES}
    words = [word for name, folder in folders.items() for word in (name, str(folder))]
    said = subprocess.run(
        [sys.executable, ROOT / "tests/support/saving_faults.py", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split(" ") for line in said.stdout.splitlines()]
    ends = {words[0]: words[1] for words in lines if words[0] in CASES}
    return {name: (int(ends[name]), folders[name]) for name in CASES}


def whole(folder: Path) -> list[int]:
    return [one.step for one in checkpoints.find(folder) if one.complete]


def test_the_last_of_one_that_is_kept_is_there(saved: dict[str, tuple[int, Path]]) -> None:
    status, folder = saved["ours-none"]
    assert status == 0
    # Step 4 was the last; what a stop saved after it took its place.
    assert whole(folder) == [5] and not list(folder.glob(".*"))
    assert (folder / "last_checkpoint").read_text() == str(folder / "iter_5.pth")


@pytest.mark.parametrize(("fault", "status"), [("kill", -9), ("full", 1)])
def test_a_save_cut_short_leaves_the_one_before(
    saved: dict[str, tuple[int, Path]], fault: str, status: int
) -> None:
    end, folder = saved[f"ours-{fault}"]
    assert end == status and whole(folder) == [1]
    assert [one.step for one in checkpoints.find(folder)] == [1], "a torn one bears the name"
    # A kill leaves the half; a full disk must not stay full with it.
    assert len(list(folder.glob(".iter_2.pth.part"))) == (1 if fault == "kill" else 0)
    checkpoints.clear_parts(folder)
    assert not list(folder.glob(".*")) and whole(folder) == [1]

    plain_end, plain = saved[f"plain-{fault}"]
    assert plain_end == status and whole(plain) == [], "mmengine does it itself by now?"
    assert [one.step for one in checkpoints.find(plain)] == [2], "torn, and seen as that"


SHARED = ["zero2", "zero3/full-1", "zero3/full-2", "zero3/adapter-2"]
SHARED += [f"zero-ranks/{name}" for name in ("zero1-full-3", "zero2-fp16-2", "zero3-lora-3")]


@pytest.mark.parametrize("name", SHARED)
def test_a_deepspeed_folder_lacks_a_share(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "iter_8.pth"
    shutil.copytree(FIXTURES / name / "checkpoint", folder)
    [one] = checkpoints.find(tmp_path)
    assert one.kind == "deepspeed" and one.complete
    assert one.bytes == sum(share.stat().st_size for share in folder.iterdir())
    for share in sorted(folder.iterdir()):
        data = share.read_bytes()
        for cut in (len(data) - 30, len(data) // 2, 0):
            share.write_bytes(data[:cut])
            assert not checkpoints.find(tmp_path)[0].complete, (share.name, cut)
        share.unlink()
        assert not checkpoints.find(tmp_path)[0].complete, f"{share.name} is missing"
        share.write_bytes(data)
        assert checkpoints.find(tmp_path)[0].complete


def test_a_torn_file(saved: dict[str, tuple[int, Path]], tmp_path: Path) -> None:
    data = (saved["ours-none"][1] / "iter_5.pth").read_bytes()
    file = tmp_path / "iter_5.pth"
    for torn in (b"", data[:100], data[:-1], data[1:], b"\0" * len(data), data[4096:] or b"PK"):
        file.write_bytes(torn)
        assert not checkpoints.find(tmp_path)[0].complete, len(torn)
    file.write_bytes(data)
    assert checkpoints.find(tmp_path)[0].complete


def test_looking_again_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FIXTURES / "zero2" / "checkpoint", tmp_path / "iter_8.pth")
    before = checkpoints.find(tmp_path)
    monkeypatch.setattr(Path, "open", lambda *_args, **_options: pytest.fail("a file was opened"))
    monkeypatch.setattr(checkpoints.zipfile, "ZipFile", lambda *_: pytest.fail("a file was opened"))
    assert checkpoints.find(tmp_path) == before
