"""Files that are no plain config: said in words, and nothing lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.config.text import textfile
from engine.config.text.source import ConfigSource
from engine.errors import Problem


@pytest.mark.parametrize(
    ("data", "what", "todo"),
    [
        ("x = '尖米'\n".encode("gbk"), "not UTF-8", "GB18030"),
        ("x = '尖米'\n".encode("utf-16"), "not UTF-8", "UTF-16"),
        (b"\x80\x00\xff", "not UTF-8", "Save it as UTF-8"),
        (b"#" * (textfile.MOST + 1), "no config", "path of a Python config"),
    ],
)
def test_what_is_no_text_of_a_config_is_told(
    tmp_path: Path, data: bytes, what: str, todo: str
) -> None:
    path = tmp_path / "c.py"
    path.write_bytes(data)
    with pytest.raises(Problem, match=what) as caught:
        textfile.read(path)
    assert todo in caught.value.todo
    assert path.read_bytes() == data


def test_line_ends_tabs_and_a_mark_of_byte_order_stay(tmp_path: Path) -> None:
    path = tmp_path / "c.py"
    data = "\ufeffx = dict(\r\n\ta=1,\t# tab\r\n)\r\n".encode()
    path.write_bytes(data)
    source = ConfigSource.open(path)
    source.set("x.b", 2)
    source.set("x.a", 5)
    source.save()
    assert path.read_bytes() == data.replace(b"a=1,\t# tab", b"a=5,\t# tab\r\n\tb=2,")


def test_a_read_only_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "c.py"
    path.write_text("x = 1\n")
    path.chmod(0o400)
    source = ConfigSource.open(path)
    source.set("x", 2)
    with pytest.raises(Problem, match="read-only"):
        source.save()
    assert path.read_text() == "x = 1\n"
    assert list(tmp_path.iterdir()) == [path]


def test_mode_and_link_are_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "real.py", tmp_path / "link.py"
    real.write_text("x = 1\n")
    real.chmod(0o640)
    link.symlink_to(real)
    source = ConfigSource.open(link)
    source.set("x", 2)
    source.save()
    assert link.is_symlink() and real.read_text() == "x = 2\n"
    assert real.stat().st_mode & 0o777 == 0o640


def test_an_edit_elsewhere_that_is_no_text_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "c.py"
    path.write_text("x = 1\n")
    source = ConfigSource.open(path)
    source.set("x", 2)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(Problem, match="changed by someone else"):
        source.save()
    assert path.read_bytes() == b"\xff\xfe"


def test_a_folder_that_cannot_be_written_to_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.py"
    path.write_text("x = 1\n")

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Problem, match="Cannot write") as caught:
        textfile.write(path, "x = 2\n", force=True)
    assert "No space left" in caught.value.why
    assert path.read_text() == "x = 1\n"
