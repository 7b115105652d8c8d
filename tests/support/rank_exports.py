"""What two ranks saved, exported: converted, merged, verified, and held against DeepSpeed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engine.export.convert import convert, peft_name
from engine.export.merge import merge
from engine.export.verify import verify, verify_model
from engine.run.folder import RunFolder
from engine.settings import Settings
from tests.export.conftest import load, same, sums_hold

_EXPECTED = """
import sys
from deepspeed.utils.zero_to_fp32 import _get_fp32_state_dict_from_zero_checkpoint as whole
from safetensors.torch import save_file
found = whole(sys.argv[1], True)
save_file({name: value.contiguous().clone() for name, value in found.items()}, sys.argv[2])
"""


def deepspeed_weights(checkpoint: Path, out: Path) -> None:
    """Write what DeepSpeed's own zero_to_fp32 finds in a checkpoint as a safetensors file."""
    done = subprocess.run(
        [sys.executable, "-c", _EXPECTED, str(checkpoint), str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def export(run: RunFolder, base: Path) -> str:
    """Export the last checkpoint of a run with DeepSpeed; what came of it, in words."""
    saved = run.last_checkpoint()
    assert saved is not None and saved.kind == "deepspeed"
    folder = run.path.parent / f"{run.path.name}-export"
    folder.mkdir()
    deepspeed_weights(saved.path, folder / "expected.safetensors")
    expected = load(folder / "expected.safetensors")
    made = convert(saved.path, folder / "made")
    found = {
        name: value
        for file in made.adapter.glob("*.safetensors")
        for name, value in load(file).items()
    }
    if made.kind == "model":
        wanted = {name.removeprefix("llm."): value for name, value in expected.items()}
    else:
        wanted = {peft_name(name): value for name, value in expected.items() if ".lora_" in name}
    assert found.keys() == wanted.keys()
    assert all(same(value, wanted[name]) for name, value in found.items())
    told = f"{len(found)} tensors, each DeepSpeed's own to the bit"
    if made.kind == "model":
        verified = verify_model(made.adapter, settings=Settings())
        assert verified.agree, verified.why
        return f"{told}; it loads and answers"
    merged = folder / "merged"
    merge(base, made.adapter, merged)
    sums_hold(merged)
    verified = verify(base, made.adapter, merged, settings=Settings())
    assert verified.agree, verified.why
    return (
        f"{told}; merged, verified: differs by {verified.max_logit_diff:.2g}, "
        f"{verified.tolerance:.2g} allowed, the adapter's effect {verified.adapter_effect:.2g}"
    )
