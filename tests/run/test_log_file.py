"""A log file, read from its end."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from engine.run.log import LogFollower
from engine.run.log_file import LogFile


def test_only_the_end_is_read_at_opening_and_the_rest_piece_by_piece(tmp_path: Path) -> None:
    count = 40_000  # 1.3 MB: more than is read at opening, and than is read at once
    path = tmp_path / "trainer.log"
    path.write_text("".join(f"line {n:05} of a log that is long\n" for n in range(count)))
    file = LogFile(path)
    file.grow()
    assert not file.whole and 0 < file.end - file.first < 10_000
    assert file.line(file.end - 1) == f"line {count - 1} of a log that is long"
    pieces = 0
    while file.before():
        pieces += 1
    assert file.whole and pieces > 1
    assert file.end - file.first == count
    assert file.line(file.first) == "line 00000 of a log that is long"


LONG = "x" * (3 << 20)
"""More than is read at opening, than is read at once and than a block holds."""


def test_a_line_that_has_no_end_hides_none_before_it(tmp_path: Path) -> None:
    """A progress bar that was never followed by a line break."""
    path = tmp_path / "trainer.log"
    path.write_text("first\nsecond\n" + LONG)
    file = LogFile(path)
    file.grow()
    assert not file.whole and file.first == file.end == 0 and file.rest.startswith("xxx")
    assert file.before() and not file.before()
    assert [file.line(number) for number in range(file.first, file.end)] == ["first", "second"]
    with path.open("a") as log:
        log.write(" 100%\nlast\n")
    while file.grow() != "same":
        pass
    assert file.end == 2 and file.line(0).startswith("xxx") and file.line(1) == "last"


def test_a_line_of_any_length_is_passed(tmp_path: Path) -> None:
    path = tmp_path / "trainer.log"
    path.write_text(f"first\n{LONG}\n" + "later\n" * 100_000)
    file = LogFile(path)
    file.grow()
    while file.before():
        pass
    assert file.whole and file.end - file.first == 100_002
    assert file.line(file.first) == "first" and file.line(file.first + 1).startswith("xxx")


def test_no_more_of_a_line_is_kept_than_is_shown(tmp_path: Path) -> None:
    """A GB without a line break took five minutes and three GB of memory."""
    path = tmp_path / "trainer.log"
    with path.open("wb") as log:
        log.truncate(64 << 20)
        log.seek(0, 2)
        log.write(b"\nlast\n")
    follower = LogFollower(path)
    tracemalloc.start()
    try:
        lines = list(follower.all())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(lines) == 2 and lines[1] == "last"
    assert peak < 32 << 20
