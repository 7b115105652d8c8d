"""Files come out the same whether one thread makes them or several."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from engine.errors import Failed
from engine.export import maker, output
from engine.export.output import Output
from tests.export.conftest import sums_hold


class Bytes:
    """A file that can be made from any place on."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def into(self, begin: int, buffer: memoryview) -> None:
        buffer[:] = self.data[begin : begin + len(buffer)]


@pytest.fixture(params=[0, 1 << 30], ids=["threads", "one"])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways, in pieces small enough that there are some."""
    monkeypatch.setattr(output, "AT_ONCE", request.param)
    monkeypatch.setattr(output, "_PIECE", 1 << 12)
    monkeypatch.setattr(maker, "CHUNK", 1 << 12)


@pytest.mark.usefixtures("at_once")
def test_pieces_come_in_order_and_are_told(tmp_path: Path) -> None:
    dice = random.Random(1)
    files = {f"{size}": Bytes(dice.randbytes(size)) for size in (100_001, 1 << 15, 4096, 5, 0)}
    heard: list[int] = []
    folder = Output(tmp_path)
    assert folder.make(files, heard.append) == sum(heard)
    folder.manifest()
    assert {name: (tmp_path / name).read_bytes() for name in files} == {
        name: file.data for name, file in files.items()
    }
    sums_hold(tmp_path)
    assert len(heard) == 25 + 8 + 1 + 1


@pytest.mark.usefixtures("at_once")
def test_what_goes_wrong_in_the_middle_is_what_is_raised(tmp_path: Path) -> None:
    class Torn(Bytes):
        def into(self, begin: int, buffer: memoryview) -> None:
            if begin > 20_000:
                raise EOFError("torn")
            super().into(begin, buffer)

    files = {"whole": Bytes(bytes(50_000)), "torn": Torn(bytes(50_000))}
    with pytest.raises(EOFError, match="torn"):
        Output(tmp_path).make(files, lambda _count: None)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "there").touch()
    with pytest.raises(Failed, match="Cannot write"):
        Output(tmp_path / "again").make({"there": Bytes(b"x")}, lambda _count: None)
