"""A torch checkpoint read without torch, and without running anything in it.

``torch.save`` writes a zip: ``data.pkl``, a pickle that names the tensors, and
``data/N``, the raw bytes of each storage. A pickle may name any function and
have it called; here every name but the handful that rebuild a tensor becomes
an inert `Record`, so a hostile file yields records and nothing else.
"""

from __future__ import annotations

import math
import pickle
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import Problem
from engine.export import dtypes
from engine.export.torch_zip import NotStored, TorchZip, Torn
from engine.export.weights import Entry, Weight, read_into
from engine.i18n import _

_LARGEST_PICKLE = 1 << 30
_LARGEST_EXPANDED = 1 << 28
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # what torch < 1.6 wrote first


class _Sealed(type):
    """A class whose attributes a pickle cannot set (its BUILD opcode tries)."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise pickle.UnpicklingError(f"{cls.__name__} cannot be changed")


class Record(metaclass=_Sealed):
    """Stands in for an object of a class that means nothing here.

    It takes whatever a pickle hands to an object of that class, and drops it.
    """

    __slots__ = ()

    def __new__(cls, *_args: object, **_values: object) -> Record:  # noqa: D102
        return object.__new__(cls)

    def __setstate__(self, _state: object) -> None: ...
    def __setitem__(self, _key: object, _value: object) -> None: ...
    def append(self, _value: object) -> None: ...  # noqa: D102
    def extend(self, _values: object) -> None: ...  # noqa: D102
    def add(self, _value: object) -> None: ...  # noqa: D102


class Table(dict[Any, Any], metaclass=_Sealed):
    """An OrderedDict of the file (a state dict); its extra attributes are dropped."""

    __slots__ = ()

    def __setstate__(self, _state: object) -> None: ...


# Named tuples, because a pickle can set the attributes of other objects.
class Storage(NamedTuple):
    """Bytes in the file: entry ``data/<key>``, elements of `dtype`."""

    key: str
    dtype: str


class Tensor(NamedTuple):
    """A view of a storage: offset and strides count elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in the file as safetensors wants them."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True


class _TypeName(NamedTuple):
    dtype: str  # "" for a storage without a type of its own (UntypedStorage)


class _Callable:
    """A function that a pickle may call. No attribute of it can be set."""

    __slots__ = ()


class _Rebuild(_Callable):
    __slots__ = ()

    def __call__(
        self, storage: Storage, offset: int, shape: Any, strides: Any, *_rest: object
    ) -> Tensor:
        numbers = _numbers((offset, *shape, *strides))
        end = 1 + len(shape)
        return Tensor(storage, storage.dtype, numbers[0], numbers[1:end], numbers[end:])


class _RebuildTyped(_Rebuild):
    """How torch writes the types that have no storage of their own: they are named."""

    __slots__ = ()

    def __call__(
        self, storage: Storage, offset: int, shape: Any, strides: Any, *rest: object
    ) -> Tensor:
        _gradient, _hooks, kind, *_more = rest
        plain = super().__call__(storage, offset, shape, strides)
        return plain._replace(dtype=kind.dtype) if isinstance(kind, _TypeName) else plain


class _RebuildParameter(_Callable):
    __slots__ = ()

    def __call__(self, tensor: Tensor, *_rest: object) -> Tensor:
        return tensor


class _RebuildFromType(_Callable):
    """How torch writes a tensor that carries attributes of its own; those are dropped."""

    __slots__ = ()

    def __call__(self, rebuild: object, _type: object, values: Any, *_rest: object) -> Any:
        return rebuild(*values) if isinstance(rebuild, (_Rebuild, _RebuildParameter)) else Record()


class _Size(_Callable):
    __slots__ = ()

    def __call__(self, values: Any = ()) -> tuple[int, ...]:
        return _numbers(values)


def _numbers(values: Any) -> tuple[int, ...]:
    numbers = tuple(map(int, values))
    if numbers and min(numbers) < 0:
        raise pickle.UnpicklingError("a negative size")
    return numbers


_STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL", "ComplexFloatStorage": "C64",
}  # fmt: skip
_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Table,
    ("torch", "Size"): _Size(),
    ("torch._utils", "_rebuild_tensor"): _Rebuild(),
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
    ("torch._utils", "_rebuild_tensor_v3"): _RebuildTyped(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    ("torch._utils", "_rebuild_parameter_with_state"): _RebuildParameter(),
    ("torch._tensor", "_rebuild_from_type_v2"): _RebuildFromType(),
    ("torch.storage", "UntypedStorage"): _TypeName(""),
}
_KNOWN |= {("torch", name): _TypeName(dtype) for name, dtype in _STORAGES.items()}
_KNOWN |= {("torch", name): _TypeName(dtype) for name, dtype in dtypes.FROM_TORCH.items()}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get((module, name), Record)

    def persistent_load(self, reference: Any) -> Storage:
        kind, storage_type, key, _location, _elements = reference
        if kind != "storage" or not isinstance(storage_type, _TypeName):
            raise pickle.UnpicklingError("an unknown kind of storage")
        return Storage(str(key), storage_type.dtype)


class TorchFile:
    """An open checkpoint: `root` is what was saved, tensors as `Tensor`. Close it after use."""

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises `Problem` for a file that is not a whole torch checkpoint."""
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise _problem(path, error.strerror or str(error), _("Check the path.")) from error
        self._ordered: tuple[Tensor, bytes] | None = None
        try:
            self._zip = self._opened()
            self.root: Any = self._load()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> TorchFile:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.close()

    def _opened(self) -> TorchZip:
        start = self._file.read(len(_LEGACY))
        if start == _LEGACY:
            raise _problem(
                self.path,
                _("It is in the format that torch wrote before version 1.6."),
                _("Load and save it once with a newer torch, then try again."),
            )
        if not start.startswith(b"PK"):
            raise _problem(self.path, _("It is not a checkpoint that torch wrote."))
        try:
            return TorchZip(self._file.fileno())
        except Torn as error:
            raise _problem(
                self.path,
                _("The file is torn: its end is missing or damaged."),
                _("Take another checkpoint of the run; this one was cut off while being saved."),
            ) from error

    def _place(self, name: str) -> tuple[int, int] | None:
        """First byte and size of an entry, None when there is none."""
        try:
            return self._zip.place(name)
        except Torn as error:
            raise _problem(self.path, _("The file is damaged.")) from error
        except NotStored as error:
            raise _problem(
                self.path, _("It is a zip file, but not one that torch wrote.")
            ) from error

    def _load(self) -> Any:
        place = self._place("data.pkl")
        if place is None or place[1] > _LARGEST_PICKLE:
            raise _problem(self.path, _("It is a zip file, but not one that torch wrote."))
        order = self._place("byteorder")
        if order is not None and self._bytes(*order) != b"little":
            raise _problem(self.path, _("It was written on a big-endian machine."))
        self._file.seek(place[0])
        try:
            return _Reader(_Window(self._file, place[1])).load()
        # A damaged or hostile pickle can fail in any way at all.
        except Exception as error:
            raise _problem(
                self.path,
                _("The file is damaged: {error}").format(error=error),
                _("Take another checkpoint of the run."),
            ) from error

    def _bytes(self, start: int, size: int) -> bytes:
        data = bytearray(size)
        self._fill(start, memoryview(data))
        return bytes(data)

    def _fill(self, start: int, buffer: memoryview) -> None:
        try:
            read_into(self._file.fileno(), start, buffer)
        except EOFError:
            raise _problem(
                self.path, _("The file is torn: its end is missing or damaged.")
            ) from None

    def _storage(self, tensor: Tensor) -> int:
        """Where the tensor's storage begins; raises `Problem` unless the tensor lies inside it."""
        place = self._place(f"data/{tensor.storage.key}")
        width = dtypes.SIZES.get(tensor.dtype, 0)
        # A stride of 0 makes many elements of one: no reason to fill the disk with them.
        if place and tensor.elements * width > max(place[1], _LARGEST_EXPANDED):
            place = None
        last = tensor.offset
        if tensor.elements:
            last += sum(
                (size - 1) * stride
                for size, stride in zip(tensor.shape, tensor.strides, strict=True)
            )
        if place is None or not width or (tensor.elements and (last + 1) * width > place[1]):
            raise _problem(self.path, _("The file is damaged: a tensor lies outside its storage."))
        return place[0]

    def weight(self, name: str, tensor: Tensor) -> Weight:
        """The tensor under a name, as the rest of export takes it."""
        return Weight(Entry(name, tensor.dtype, tensor.shape), partial(self.into, tensor))

    def into(self, tensor: Tensor, begin: int, buffer: memoryview) -> None:
        """Fill `buffer` with the tensor's bytes from `begin` on, elements in row-major order.

        From any thread. A tensor that is not contiguous is put in order whole,
        and stays in memory until another one is.
        """
        start = self._storage(tensor)
        width = dtypes.SIZES[tensor.dtype]
        if not 0 <= begin <= begin + len(buffer) <= tensor.elements * width:
            raise _problem(self.path, _("The file is damaged: a tensor lies outside its storage."))
        if tensor.contiguous:
            self._fill(start + tensor.offset * width + begin, buffer)
            return
        ordered = self._ordered
        if ordered is None or ordered[0] != tensor:
            ordered = self._ordered = (tensor, self._gather(tensor, start, width))
        buffer[:] = ordered[1][begin : begin + len(buffer)]

    def _gather(self, tensor: Tensor, start: int, width: int) -> bytes:
        import numpy

        if not tensor.elements:
            return b""
        span = 1 + sum((s - 1) * t for s, t in zip(tensor.shape, tensor.strides, strict=True))
        data = self._bytes(start + tensor.offset * width, span * width)
        flat = numpy.frombuffer(data, dtype=f"V{width}")
        strides = [stride * width for stride in tensor.strides]
        return numpy.lib.stride_tricks.as_strided(flat, tensor.shape, strides).tobytes()


class _Window:
    """The next `size` bytes of a file, as the file that the unpickler reads.

    With `peek` it takes thousands of small objects from one piece; without, it asks
    for each (90,000 calls for an optimizer's state, most of a conversion's time).
    """

    def __init__(self, file: BufferedReader, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(self._left if count < 0 else min(count, self._left))
        self._left -= len(data)
        return data

    def peek(self, count: int = 0) -> bytes:
        return self._file.peek(count)[: self._left]

    def readline(self) -> bytes:
        data = self._file.readline(self._left)
        self._left -= len(data)
        return data


def _problem(path: Path, why: str, todo: str = "") -> Problem:
    what = _("Cannot read the checkpoint {path}").format(path=path)
    return Problem(what, why, todo or _("Take another checkpoint, or copy the file again."))
