"""A GGUF file through llama.cpp's own programs, where they are installed.

``convert_hf_to_gguf.py`` makes one in 16 bits, ``llama-quantize`` a smaller one of it
(both as of llama.cpp b6000 and later). Nothing of it is imported or rebuilt here.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine import files
from engine.errors import Failed, Problem
from engine.export import artefact, room
from engine.export.base_model import BaseModel
from engine.i18n import _
from engine.paths import expanded
from engine.settings import Settings

CONVERTER = "convert_hf_to_gguf.py"
QUANTIZER = "llama-quantize"
USUAL = "q4_k_m"
# Bits per weight that llama.cpp's own table gives for Llama 3.1 8B; another model's
# embeddings have another share, which moves the size by some percent.
BITS = {
    "f32": 32.0, "bf16": 16.0, "f16": 16.0, "q8_0": 8.5, "q6_k": 6.56, "q5_k_m": 5.70,
    "q5_k_s": 5.57, "q4_k_m": 4.89, "q4_k_s": 4.67, "q3_k_m": 4.0, "q2_k": 3.16,
}  # fmt: skip
_DIRECT = ("f32", "bf16", "f16", "q8_0")
"""Types that the converter writes by itself."""
_LOOK = 0.2
"""Seconds between looks at the growing file."""


class Programs(msgspec.Struct, frozen=True):
    """llama.cpp's programs: the converter, and what quantises (None: not installed)."""

    converter: Path
    quantizer: Path | None


class Made(msgspec.Struct, frozen=True):
    """A GGUF file that was made."""

    path: Path
    type: str
    bytes: int
    seconds: float


def find(settings: Settings) -> Programs | None:
    """llama.cpp's programs in the folder that the settings name, else on PATH."""
    folder = expanded(settings.llama_cpp) if settings.llama_cpp else None
    converter = _program(CONVERTER, folder)
    return Programs(converter, _program(QUANTIZER, folder)) if converter else None


def _program(name: str, folder: Path | None) -> Path | None:
    if folder is None:
        found = shutil.which(name)
        return Path(found) if found else None
    places = (folder, folder / "build" / "bin", folder / "bin")
    return next((place / name for place in places if (place / name).is_file()), None)


def default_out(model: Path, kind: str) -> Path:
    """Where the file goes when nobody says: beside the model's folder."""
    return model.with_name(f"{model.name}-{kind.upper()}.gguf")


def sizes(model: Path) -> dict[str, int]:
    """About how many bytes `model` takes as each type; {} when its weights cannot be counted."""
    try:
        count = _parameters(model)
    except Problem:
        return {}
    return {kind: int(count * bits / 8) for kind, bits in BITS.items()}


def _parameters(model: Path) -> int:
    with BaseModel(model) as opened:
        return sum(_count(entry.shape) for entry in opened.entries.values())


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for one in shape:
        total *= one
    return total


def make(
    model: Path,
    kind: str,
    out: Path | None = None,
    *,
    settings: Settings,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Made:
    """Write `model` as a GGUF file of the type `kind` (a key of `BITS`).

    Args:
        model: a whole model's folder.
        kind: ``q4_k_m``, ``f16``, …
        out: the file; by default `default_out`.
        settings: name llama.cpp's folder, and the interpreter for its converter.
        force: replace `out`.
        progress: told bytes written and bytes expected.
        cancelled: asked often; once true, nothing is left.

    Raises `Problem` for what cannot be done, `Failed` when a program of llama.cpp's fails.
    """
    started = time.monotonic()
    kind = kind.lower()
    programs = _check(model, kind, settings)
    out = out or default_out(model.resolve(), kind)
    files.refuse_existing(out, force)
    expected = sizes(model)
    steps = [kind] if kind in _DIRECT else ["f16", kind]
    total = sum(expected.get(step, 0) for step in steps)
    room.check_disk(out, total)
    with _parts(out) as (first, second):
        told = _Told(total, progress, cancelled)
        line = [settings.python, str(programs.converter), str(model), "--outfile", str(first)]
        _run([*line, "--outtype", steps[0]], first, told)
        made = first
        if len(steps) == 2:
            told.before += first.stat().st_size
            # (None was refused by `_check`.)
            line = [str(programs.quantizer), str(first), str(second), kind.upper()]
            _run(line, second, told)
            made = second
        made.chmod(0o600)
        size = made.stat().st_size
        made.replace(out)
    return Made(out, kind, size, round(time.monotonic() - started, 3))


def _check(model: Path, kind: str, settings: Settings) -> Programs:
    artefact.expect(model, (artefact.MODEL,), _("a whole model"))
    if kind not in BITS:
        raise Problem(
            _("{kind} is not a GGUF type that is known here").format(kind=kind),
            "",
            _("Choose one of: {names}.").format(names=", ".join(BITS)),
        )
    programs = find(settings)
    missing = CONVERTER if programs is None else QUANTIZER
    if programs is None or (programs.quantizer is None and kind not in _DIRECT):
        raise Problem(
            _("llama.cpp's {program} is not here").format(program=missing),
            _("GGUF files are made by llama.cpp's own programs."),
            _("Install llama.cpp, and put it on PATH or set llama_cpp to its folder."),
        )
    return programs


@contextmanager
def _parts(out: Path) -> Iterator[tuple[Path, Path]]:
    """Two hidden names beside `out`; what lies there goes, before and after."""
    files.private_folder(out.parent)
    parts = (out.with_name(f".{out.name}.f16.part"), out.with_name(f".{out.name}.part"))
    for part in parts:
        part.unlink(missing_ok=True)
    try:
        yield parts
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


class _Told:
    """Turns the sizes of growing files into progress."""

    def __init__(
        self,
        total: int,
        progress: Callable[[int, int], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.before = 0
        self._total, self._progress, self._cancelled = total, progress, cancelled

    def look(self, part: Path) -> None:
        """Tell how far `part` has come. Raises `Failed` once cancelled."""
        if self._cancelled is not None and self._cancelled():
            raise Failed(_("Making the GGUF file was cancelled"), _("Nothing was written."))
        if self._progress is not None:
            size = part.stat().st_size if part.exists() else 0
            self._progress(min(self.before + size, self._total), self._total)


def _run(line: list[str], part: Path, told: _Told) -> None:
    """Run a program that writes `part`; its end is quoted when it fails."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        try:
            process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        except OSError as error:
            raise Failed(
                _("{program} cannot be started").format(program=line[0]),
                error.strerror or str(error),
            ) from error
        try:
            while process.poll() is None:
                told.look(part)
                time.sleep(_LOOK)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode or not part.is_file():
            said.seek(0)
            lines = [one.strip() for one in said if one.strip()]
            raise Failed(
                _("llama.cpp could not make the file"),
                lines[-1] if lines else _("It ended with {code}.").format(code=process.returncode),
                _("Its own words are in the details."),
                "\n".join(lines[-60:]),
            )
