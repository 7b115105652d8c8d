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


LAYER = "model.layers.0"


def weights(seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """The base that the checkpoints of make_files.py were trained on."""
    random = np.random.default_rng(seed)
    shapes = {
        "model.embed_tokens.weight": (10, 6),
        f"{LAYER}.self_attn.q_proj.weight": (8, 6),
        f"{LAYER}.mlp.down_proj.weight": (6, 5),
        "model.norm.weight": (6,),
        "lm_head.weight": (10, 6),
    }
    return {
        name: random.standard_normal(shape).astype(ml_dtypes.bfloat16)
        for name, shape in shapes.items()
    }


def make_base(folder: Path, shards: int = 1, **config: Any) -> Path:
    folder.mkdir()
    tensors = weights()
    if shards == 1:
        save(folder / "model.safetensors", tensors)
    else:
        names = list(tensors)
        parts = {f"model-{n + 1:05}-of-{shards:05}.safetensors": names[n::shards]
                 for n in range(shards)}  # fmt: skip
        for file, some in parts.items():
            save(folder / file, {name: tensors[name] for name in some})
        where = {name: file for file, some in parts.items() for name in some}
        index = {"metadata": {}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    values = {"model_type": "llama", "torch_dtype": "bfloat16", "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(values | config))
    for name in ("tokenizer.json", "generation_config.json", "chat_template.jinja", "LICENSE",
                 "modeling_own.py", "README.md", "pytorch_model.bin", ".hidden"):  # fmt: skip
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base")


def change(folder: Path, **values: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
