"""A Chinese dataset in a real terminal: columns line up, nothing is cut in half, an editor opens.

tmux has its own idea of how wide a character is. Where it differed from the
app's, a line would not fill the screen's width exactly.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))
from terminal_picture import Terminal

WORDS = [
    "请介绍一下你自己",
    "，。！？“引号”（括号）《书名》" * 9,
    "a" + "汉字" * 80,
    "汉字" * 80,
    "👍🏽 表情 🎉 与 ⚠️ 混排，家庭👨‍👩‍👧‍👦在这里" * 3,
    "cafe\u0301 e\u0301te\u0301 組み合わせ文字 が\u3099 き\u309a" * 5,
    "こんにちは、元気ですか。ﾊﾝｶｸｶﾅ も全角ＡＢＣも" * 4,
    "한국어 문장입니다. 안녕하세요" * 5,
    "mixed 中文 and English，数字１２３ 123" * 5,
    "𠮷野家 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 🇨🇳 ①②③" * 6,
    "tab\there\r\nand a line \x1b[2J\x1b]0;x\x07 escape\u202e rtl",
    None,
]
# The terminal's size, and the cell behind the table's last one: at 80×24 a scrollbar stands there.
SIZES = [((80, 24), 79), ((140, 45), 56)]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace in which the dataset is open; every fourth row is the same again."""
    root = tmp_path / "数据"
    (root / "data").mkdir(parents=True)
    data = root / "data" / "宽字符.json"
    rows = [{"conversation": [{"input": one, "output": one}]} for one in WORDS]
    data.write_text(json.dumps(rows + rows[:3], ensure_ascii=False, indent=1), encoding="utf-8")
    (root / ".tunedeck").mkdir()
    (root / ".tunedeck/last.json").write_text(json.dumps({"data": str(data)}))
    return root


def at(line: str, start: int, end: int) -> str:
    """What stands on the cells from `start` to `end`; fails where one is half a character."""
    column, found = 0, ""
    for character in line:
        width = cell_len(character)
        if column < end and column + width > start and width:
            assert start <= column and column + width <= end, f"{character!r} crosses {line!r}"
            found += character
        column += width
    return found


def lines_of(terminal: Terminal, width: int) -> list[str]:
    """The screen's lines, each of which fills the terminal exactly, by its own count."""
    lines = terminal.text(padded=True).rstrip("\n").split("\n")
    for line in lines:
        assert "\ufffd" not in line and line.isprintable(), repr(line)
        # tmux keeps spaces only where something was written.
        assert cell_len(line) <= width, line
        if line.startswith("   "):
            assert cell_len(line) == width, line
    return lines


def check_rows(lines: list[str], end: int) -> int:
    """Numbers, turns, tokens, words and marks stand in their columns; how many rows."""
    header = next(place for place, line in enumerate(lines) if "first words" in line)
    assert at(lines[header], 8, 9) == "#" and at(lines[header], 23, 34) == "first words"
    rows = 0
    for line in lines[header + 1 :]:
        number = at(line, 0, 9).strip()
        if not number.isdigit():
            break
        rows += 1
        assert at(line, 0, 9) == f"{int(number):>9}"
        assert at(line, 10, 15).strip() in ("1", "-") and at(line, 9, 10) == " "
        assert at(line, 23, end - 5)[:1].strip(), "words begin in their column"
        assert at(line, end - 5, end - 4) == " ", "and end before the marks"
        assert at(line, end - 4, end).strip() in ("", "✗", "dup", "!")
    return rows


@pytest.mark.parametrize(("size", "end"), SIZES)
def test_columns_line_up_in_a_real_terminal(
    workspace: Path, size: tuple[int, int], end: int
) -> None:
    width = size[0]
    command = [
        *("env", "EDITOR=sed -i s/请介绍一下/说说/", "LC_ALL=C.UTF-8"),
        *(sys.executable, "-m", "tui", str(workspace)),
    ]
    with Terminal(shlex.join(command), *size) as terminal:
        terminal.wait("15 rows")
        terminal.keys("c")
        terminal.wait("1 broken: row 11")
        seen = check_rows(lines_of(terminal, width), end)
        assert seen >= 6
        terminal.keys("End")
        terminal.wait("       14 ")
        lines = lines_of(terminal, width)
        assert check_rows(lines, end) >= 6
        assert any("dup" in at(line, end - 4, end) for line in lines if line[0] == " ")
        # The row itself, drawn in full, wraps between characters.
        for _row in range(5):
            terminal.keys("Up")
            lines_of(terminal, width)
        # The editor takes over the terminal and gives it back.
        terminal.keys("Home", "e")
        terminal.wait("Row 0 was changed")
        terminal.wait("说说你自己")
        assert check_rows(lines_of(terminal, width), end) >= 6
        terminal.keys("u")
        terminal.wait("Undone")
        terminal.wait("请介绍一下你自己")
