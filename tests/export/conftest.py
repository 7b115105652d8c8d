from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from engine.export.convert import convert

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def torch_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files that torch wrote, see make_files.py."""
    folder = tmp_path_factory.mktemp("torch")
    subprocess.run([sys.executable, HERE / "make_files.py", folder], check=True)
    return folder


@pytest.fixture
def adapter(torch_files: Path, tmp_path: Path) -> Path:
    return convert(torch_files / "iter_12.pth", tmp_path / "adapter").adapter


NUMPY = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BF16": ml_dtypes.bfloat16, "I64": "i8", "I32": "i4",
    "I16": "i2", "I8": "i1", "U8": "u1", "U16": "u2", "BOOL": "?",
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
}  # fmt: skip


def load(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """A safetensors file, read by the letter of the format."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    assert header.pop("__metadata__", {}).get("format", "pt") == "pt"
    return {
        name: np.frombuffer(
            data[8 + length + one["data_offsets"][0] : 8 + length + one["data_offsets"][1]],
            NUMPY[one["dtype"]],
        ).reshape(one["shape"])
        for name, one in header.items()
    }


def save(path: Path, tensors: dict[str, np.ndarray[Any, Any]]) -> None:
    """Write a safetensors file, by the letter of the format."""
    names = {np.dtype(value): key for key, value in NUMPY.items()}
    header, at = {}, 0
    for name, value in tensors.items():
        end = at + value.nbytes
        header[name] = {
            "dtype": names[value.dtype], "shape": value.shape, "data_offsets": [at, end],
        }  # fmt: skip
        at = end
    encoded = json.dumps(header).encode()
    body = b"".join(value.tobytes() for value in tensors.values())
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + body)


def same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Bit-equal, shape and type included."""
    return (
        one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    )


def sums_hold(folder: Path) -> None:
    """The manifest names every file but itself, and each is what it says."""
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, capture_output=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    named = [line.split("  ", 1)[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert sorted([*named, "SHA256SUMS"]) == sorted(one.name for one in folder.iterdir())
