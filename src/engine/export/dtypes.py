"""Element types, by their safetensors names, and the casts between them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from engine.errors import Failed, Problem
from engine.i18n import _

if TYPE_CHECKING:
    import numpy as np

SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1,
    "BOOL": 1, "C64": 8,
}  # fmt: skip
"""Bytes of one element."""

FLOATS = ("F32", "F16", "BF16", "F64")
"""The types that arithmetic and casts are done on."""

FROM_TORCH = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
    "bool": "BOOL", "complex64": "C64",
}  # fmt: skip
"""torch's names (``torch.bfloat16`` without the ``torch.``)."""

SHORT = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}
"""The names of the command line."""

_NUMPY = {
    "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?", "C64": "c8",
}  # fmt: skip


def parse(name: str) -> str:
    """The safetensors name of ``fp32``, ``fp16`` or ``bf16``. Raises `Problem` for another."""
    try:
        return SHORT[name]
    except KeyError:
        raise Problem(
            _("The data type {name} is not known").format(name=name),
            "",
            _("Known: {names}.").format(names=", ".join(SHORT)),
        ) from None


def short(dtype: str) -> str:
    """How people write a safetensors type: ``bf16`` for BF16."""
    return next((name for name, value in SHORT.items() if value == dtype), dtype.lower())


def torch_name(dtype: str) -> str:
    """How ``config.json`` writes a safetensors type: ``bfloat16`` for BF16."""
    return next(name for name, value in FROM_TORCH.items() if value == dtype)


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy type of a safetensors type (little endian)."""
    import numpy

    if dtype in _NUMPY:
        return numpy.dtype("<" + _NUMPY[dtype])
    import ml_dtypes

    kinds: dict[str, Any] = {
        "BF16": ml_dtypes.bfloat16,
        "F8_E4M3": ml_dtypes.float8_e4m3fn,
        "F8_E5M2": ml_dtypes.float8_e5m2,
    }
    result: np.dtype[Any] = numpy.dtype(kinds[dtype])
    return result


def view(raw: memoryview, dtype: str) -> np.ndarray[Any, Any]:
    """The elements in `raw`, where they lie."""
    import numpy

    return numpy.frombuffer(raw, numpy_dtype(dtype))


def widen(raw: memoryview, dtype: str, out: np.ndarray[Any, Any]) -> None:
    """Write the elements in `raw`, of type `dtype`, to the flat float32 array `out`."""
    import numpy

    if dtype == "BF16":  # the upper half of a float32
        numpy.left_shift(numpy.frombuffer(raw, "<u2"), 16, out=out.view("<u4"), dtype="<u4")
    else:
        numpy.copyto(out, view(raw, dtype), casting="unsafe")


def store(values: np.ndarray[Any, Any], dtype: str, out: memoryview, name: str) -> None:
    """Write flat `values` to `out` as `dtype`, rounded to nearest even.

    Raises `Failed` when a finite value does not fit (float16 ends at 65504):
    an infinity in a weight makes every answer garbage, without a word. `name`
    is the tensor's, for the message.
    """
    import numpy

    target = view(out, dtype)
    with numpy.errstate(over="ignore"):
        numpy.copyto(target, values, casting="unsafe")
    if dtype == "F16" and not numpy.isfinite(target).all() and numpy.isfinite(values).all():
        raise Failed(
            _("The weight {name} does not fit into fp16").format(name=name),
            _("It holds values beyond 65504, where fp16 ends."),
            _("Use bf16, which reaches as far as fp32."),
        )


def rounds_to(exact: bytearray, dtype: str, rounded: bytearray, narrow: str) -> bool:
    """Whether elements of type `dtype`, rounded to nearest even as `narrow`, are `rounded`."""
    import numpy

    with numpy.errstate(over="ignore"):
        values = view(memoryview(exact), dtype).astype(numpy_dtype(narrow))
    stored = view(memoryview(rounded), narrow)
    # (A weight that is no number any more is none in both.)
    return bool(((values == stored) | ((values != values) & (stored != stored))).all())


_kept = threading.local()


def scratch(use: str, count: int, dtype: str) -> np.ndarray[Any, Any]:
    """`count` elements of working memory of this thread, the same again for the same `use`.

    (Fresh memory has to be cleared by the kernel, page by page.)
    """
    import numpy

    kind = numpy.dtype(dtype)
    found: np.ndarray[Any, Any] | None = _kept.__dict__.get(use)
    if found is None or found.nbytes < count * kind.itemsize:
        found = _kept.__dict__[use] = numpy.empty(count * kind.itemsize, "u1")
    return found[: count * kind.itemsize].view(kind)
