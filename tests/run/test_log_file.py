"""A log file, read from its end."""

from __future__ import annotations

from pathlib import Path

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
