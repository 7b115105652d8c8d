"""Checkpoints are read to the bit, and nothing in them runs."""

from __future__ import annotations

import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.export import dtypes
from engine.export.pickle_reader import Record, Tensor, TorchFile
from tests.export.conftest import load


def zipped(path: Path, data: bytes, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in entries.items():
            archive.writestr(f"archive/data/{name.lstrip('_')}", content)
    return path


@pytest.mark.parametrize("name", ["views", "kinds", "parameter"])
def test_tensors_are_bit_equal_to_what_torch_saved(torch_files: Path, name: str) -> None:
    expected = load(torch_files / f"{name}.safetensors")
    with TorchFile(torch_files / f"{name}.pth") as file:
        assert set(file.root) == set(expected)
        for key, tensor in file.root.items():
            assert tensor.shape == expected[key].shape
            assert dtypes.numpy_dtype(tensor.dtype) == expected[key].dtype
            assert file.weight("", tensor).read() == expected[key].tobytes(), key


def test_checksums_are_not_needed(torch_files: Path, tmp_path: Path) -> None:
    # torch.serialization.set_crc32_options(False) leaves them out.
    data = bytearray((torch_files / "parameter.pth").read_bytes())
    with zipfile.ZipFile(torch_files / "parameter.pth") as archive:
        for member in archive.infolist():
            crc = struct.pack("<I", member.CRC)
            data = data.replace(crc, b"\0\0\0\0")
    (tmp_path / "a.pth").write_bytes(data)
    expected = load(torch_files / "parameter.safetensors")["weight"]
    with TorchFile(tmp_path / "a.pth") as file:
        assert file.weight("", file.root["weight"]).read() == expected.tobytes()


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", range(5))
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "ran"
    data = pickle.dumps({"state_dict": {}, "evil": Evil(mark)}, protocol)
    pickle.loads(data)
    assert mark.exists(), "the pickle must be able to do harm"
    mark.unlink()
    with TorchFile(zipped(tmp_path / "a.pth", data)) as file:
        assert isinstance(file.root["evil"], Record)
    assert not mark.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cbuiltins\neval\n(Vopen('{mark}','w')\ntR.",
        b"(Vopen('{mark}','w')\nibuiltins\neval\n.",
        b"cbuiltins\ngetattr\n(cos\nsystem\nVx\ntR(Vtouch {mark}\ntR.",
        b"csubprocess\nrun\n(Vtouch {mark}\ntR.",
        # A call on what an earlier call gave, and attributes set on our own classes.
        b"ctorch\nFloatStorage\n(Vx\ntR.",
        b"ccollections\nOrderedDict\n}V__setstate__\ncos\nsystem\nsb(tR.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(N}V__call__\ncos\nsystem\nstb.",
        b"cnothing\nKnown\n(N}V__setstate__\ncos\nsystem\nstb.",
    ],
)
def test_handmade_opcodes_run_nothing_and_change_nothing(tmp_path: Path, code: bytes) -> None:
    mark = tmp_path / "ran"
    path = zipped(tmp_path / "a.pth", code.replace(b"{mark}", str(mark).encode()))
    before = dict(vars(Record))
    try:
        TorchFile(path).__exit__()
    except Problem as problem:
        assert "a.pth" in problem.what
    assert not mark.exists()
    assert dict(vars(Record)) == before


def tensor_pickle(key: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """A pickle of one tensor, with the numbers that a hostile file might hold."""
    numbers = "".join(f"I{n}\n" for n in shape), "".join(f"I{n}\n" for n in strides)
    return (
        f"ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV{key}\nVcpu\nI4\ntQ"
        f"I{offset}\n({numbers[0]}t({numbers[1]}tI00\nNtR."
    ).encode()


def test_the_handmade_tensor_is_one(tmp_path: Path) -> None:
    content = struct.pack("<4f", 1, 2, 3, 4)
    path = zipped(tmp_path / "a.pth", tensor_pickle("0", 0, (2, 2), (1, 2)), _0=content)
    with TorchFile(path) as file:
        assert file.weight("", file.root).read() == struct.pack("<4f", 1, 3, 2, 4)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(0, (5,), (1,)), (3, (2,), (1,)), (0, (2,), (9,)), (0, (1 << 40,), (0,)), (9, (1,), (1,))],
)
def test_a_tensor_outside_its_storage_is_refused(
    tmp_path: Path, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    data = tensor_pickle("0", offset, shape, strides)
    with TorchFile(zipped(tmp_path / "a.pth", data, _0=b"\0" * 16)) as file:
        assert isinstance(file.root, Tensor)
        with pytest.raises(Problem):
            file.weight("", file.root).read()


@pytest.mark.parametrize("numbers", [(-1, (1,), (1,)), (0, (-1,), (1,)), (0, (1,), (-1,))])
def test_negative_numbers_are_refused(
    tmp_path: Path, numbers: tuple[int, tuple[int, ...], tuple[int, ...]]
) -> None:
    with pytest.raises(Problem):
        TorchFile(zipped(tmp_path / "a.pth", tensor_pickle("0", *numbers), _0=b"\0" * 16))


def test_bad_files_say_what_they_are(torch_files: Path, tmp_path: Path) -> None:
    whole = (torch_files / "views.pth").read_bytes()
    bad = {
        "torn": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"hello",
        "zip": zipped(tmp_path / "x.zip", b"not a pickle").read_bytes(),
        "legacy": (torch_files / "legacy.pth").read_bytes(),
    }
    said = set()
    for name, content in bad.items():
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content)
        with pytest.raises(Problem) as caught:
            TorchFile(path)
        assert str(path) in caught.value.what
        said.add(caught.value.why)
    assert len(said) == 4  # empty and text are the same: not torch's
    compressed = tmp_path / "compressed.pth"
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(Problem):
        TorchFile(compressed)
    with pytest.raises(Problem):
        TorchFile(tmp_path)


def test_a_conversion_imports_only_what_it_needs(torch_files: Path) -> None:
    unwanted = "torch", "transformers", "numpy", "peft", "msgspec", "zipfile", "shutil", "logging"
    files = str(torch_files / "iter_12.pth"), str(torch_files / "light")
    code = (
        "import sys; from engine.cli.main import main;"
        f"assert main(['convert', *{files!r}]) == 0;"
        f"print([name for name in {unwanted!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_zip_of_large_numbers_is_read_as_any_other(
    torch_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Beyond 4 GB sizes and places stand in fields of 64 bits; here all of them do.
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 0)
    path = tmp_path / "wide.pth"
    with (
        zipfile.ZipFile(torch_files / "views.pth") as plain,
        zipfile.ZipFile(path, "w") as wide,
    ):
        for name in plain.namelist():
            with wide.open(name, "w", force_zip64=True) as file:
                file.write(plain.read(name))
    assert b"PK\6\6" in path.read_bytes()
    expected = load(torch_files / "views.safetensors")
    with TorchFile(path) as file:
        for key, tensor in file.root.items():
            assert file.weight("", tensor).read() == expected[key].tobytes(), key


def test_a_file_cut_off_or_changed_anywhere_is_a_problem_at_most(
    torch_files: Path, tmp_path: Path
) -> None:
    whole = (torch_files / "parameter.pth").read_bytes()
    path = tmp_path / "a.pth"
    dice = random.Random(3)
    for end in (*range(len(whole) - 400, len(whole)), *range(0, len(whole), 97)):
        path.write_bytes(whole[:end])
        with pytest.raises(Problem):
            TorchFile(path)
    for _number in range(400):  # mostly in the directory, whose numbers are then wild
        data = bytearray(whole)
        data[-dice.randrange(1, 1200)] = dice.randrange(256)
        path.write_bytes(data)
        with suppress(Problem), TorchFile(path) as file:
            for tensor in file.root.values():
                file.weight("", tensor).read()
