"""From a checkpoint to a PEFT adapter folder: no base model, no torch, no GPU.

The adapter's weights stand in the checkpoint as they are; converting renames
them and copies their bytes, so it costs what reading and writing them costs.
A checkpoint of full fine-tuning becomes a whole model's folder the same way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine import files
from engine.assignments import XTUNER_CONFIG
from engine.errors import Problem
from engine.export import adapter_config, artefact, dtypes, room, trained_config, training
from engine.export.checkpoint import Checkpoint
from engine.export.output import Output
from engine.export.recipe import WeightFile, cast
from engine.export.trained_config import TrainedConfig
from engine.export.weights import Entry, Weight
from engine.i18n import _

if TYPE_CHECKING:
    from engine.export.full_model import FullModel

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

Progress = Callable[[int, int], None]
"""``progress(bytes done, bytes in all)``."""


class Converted(NamedTuple):
    """What `convert` made: the folder, its tensors, its size and the time it took.

    `kind` is ``adapter``, or ``model`` where the whole model was trained; the
    folder is under `adapter` in both cases.
    """

    adapter: Path
    keys: int
    bytes: int
    seconds: float
    kind: str = artefact.ADAPTER


def default_out(checkpoint: Path, kind: str = artefact.ADAPTER) -> Path:
    """Where the result goes when nobody says: beside the checkpoint, named after it."""
    return checkpoint.with_name(f"{checkpoint.name.removesuffix('.pth')}-{kind}")


def convert(
    checkpoint: Path,
    out: Path | None = None,
    *,
    config: Path | None = None,
    base: Path | None = None,
    dtype: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Write the adapter (or the model) in `checkpoint` to the new folder `out`.

    Args:
        checkpoint: a ``.pth`` file of XTuner's, or a DeepSpeed folder (ZeRO-1, 2 or 3).
        out: the folder to make; by default `default_out`.
        config: the run's XTuner config, for a checkpoint that does not carry it.
        base: for full fine-tuning, the model that it began with, whose tokenizer and
            config are copied; by default the one that the config names.
        dtype: ``fp32``, ``fp16`` or ``bf16``; None keeps what was trained.
        force: replace `out` when it exists.
        progress: told the bytes written so far.

    Raises `Problem` for what cannot be converted; nothing is then written.
    """
    started = time.monotonic()
    artefact.expect(checkpoint, artefact.CHECKPOINTS, _("a checkpoint"))
    target = dtypes.parse(dtype) if dtype else None
    if out:
        files.refuse_existing(out, force)
    with Checkpoint(checkpoint) as opened:
        text, known = _config(opened, config)
        result: AdapterFolder | FullModel
        if known.lora is None and not any(".lora_" in one.entry.name for one in opened.weights):
            from engine.export.full_model import FullModel  # not every checkpoint is one

            kind, result = artefact.MODEL, FullModel(opened, known, base, target)
        else:
            kind, result = artefact.ADAPTER, AdapterFolder(opened, known, target)
        out = out or default_out(checkpoint, kind)
        files.refuse_existing(out, force)
        total = sum(file.size for file in result.files.values())
        room.check_disk(out, total)
        with files.replacing_folder(out, force) as folder:
            output = Output(folder)
            size = result.write(output, _adding(total, progress))
            output.write(XTUNER_CONFIG, [text])
            trained = training.of(checkpoint, opened.step)
            output.text(training.NAME, trained.text())
            if kind == artefact.MODEL:
                from engine.export import card

                name = str(base or known.base)
                card.write(output, name, card.whole(name), text.decode(errors="replace"), trained)
            output.manifest()
    seconds = round(time.monotonic() - started, 3)
    return Converted(out, len(result.entries), size, seconds, kind)


def _adding(total: int, progress: Progress | None) -> Callable[[int], None]:
    """Turns the bytes of single pieces into progress."""
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    return add


def _config(opened: Checkpoint, given: Path | None) -> tuple[bytes, TrainedConfig]:
    """The config's text to keep with the adapter, and what it says."""
    stored = opened.config.encode()
    beside = given or _beside(opened.path)
    try:
        text = beside.read_bytes() if beside else stored
    except OSError as error:
        raise Problem(
            _("Cannot read the config {path}").format(path=beside),
            error.strerror or str(error),
            _("Check the path."),
        ) from error
    # What was really trained is what the checkpoint says, unless told otherwise.
    source = text if given or not stored else stored
    known = trained_config.read(source.decode("utf-8", "replace"))
    if known is None:
        raise Problem(
            _("Cannot tell how {path} was trained").format(path=opened.path),
            _("It carries no config that can be read.")
            if given is None
            else _("{path} is not a config of XTuner's.").format(path=given),
            _("Give the config of the run."),
            ways=("config",),
        )
    return text, known


def _beside(checkpoint: Path) -> Path | None:
    """The config in the run's folder, if there is exactly one (DeepSpeed adds tools of its own)."""
    found = [
        one for one in checkpoint.absolute().parent.glob("*.py") if not one.name.startswith("zero_")
    ]
    return found[0] if len(found) == 1 else None


class AdapterFolder:
    """An adapter as peft writes it, known before anything is written.

    Attributes:
        files: the one weight file.
    """

    def __init__(self, opened: Checkpoint, known: TrainedConfig, dtype: str | None) -> None:
        """Plan the folder. Raises `Problem` when config and weights make no adapter."""
        weights = _renamed(opened)
        self._described = adapter_config.build(known, [one.entry for one in weights], opened.path)
        self.files = {WEIGHTS: WeightFile([cast(one, one.entry, dtype) for one in weights])}

    @property
    def entries(self) -> list[Entry]:
        """The tensors, as they will be written."""
        return self.files[WEIGHTS].entries

    def write(self, output: Output, told: Callable[[int], None]) -> int:
        """Write weights and config; `told` hears the bytes of each chunk."""
        size = output.make(self.files, told)
        output.text(CONFIG, json.dumps(self._described, indent=2, ensure_ascii=False) + "\n")
        return size


def _renamed(opened: Checkpoint) -> list[Weight]:
    """The weights under the names that peft gives them in an adapter folder."""
    names = [weight.entry.name for weight in opened.weights]
    if not any(".lora_" in name for name in names):
        raise Problem(
            _("{path} holds no adapter").format(path=opened.path),
            _("Its config says LoRA, but it has no LoRA weights."),
            _("Take another checkpoint of the run, or give its config."),
            ways=("config",),
        )
    strange = [name for name in names if not name.startswith("llm.base_model.model.")]
    if strange:
        raise Problem(
            _("Cannot convert {path}").format(path=opened.path),
            _("It holds more than a language model's adapter: {name}, …").format(name=strange[0]),
            _("Use XTuner's own tool: python -m xtuner.tools.model_converters.pth_to_hf."),
        )
    return [
        Weight(Entry(peft_name(one.entry.name), one.entry.dtype, one.entry.shape), one.into)
        for one in opened.weights
    ]


def peft_name(name: str) -> str:
    """A trained tensor's name in an adapter folder.

    XTuner's prefix and the adapter's own name (always ``default``) go:
    ``llm.base_model.model.x.lora_A.default.weight`` is
    ``base_model.model.x.lora_A.weight``.
    """
    name = name.removeprefix("llm.").replace(".modules_to_save.default.", ".")
    module, found, part = name.partition(".lora_")
    if not found:
        return name
    part = part.replace(".default", "", 1)
    return f"{module}.lora_{part}".removesuffix(
        ".weight" if part == "magnitude_vector.weight" else ""
    )
