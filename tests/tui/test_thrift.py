"""Only the cells that differ are sent, and the terminal shows what it would have shown."""

from __future__ import annotations

import io
import random
import re

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region, Size
from textual.strip import Strip

from tui.thrift import Shown

SIZE = Size(40, 6)
CODES = re.compile(r"\x1b\[([\d;]*)([mHG])|(\n)|(.)", re.DOTALL)
STYLES = [
    Style(),
    Style(color="#ff0000", bgcolor="#000000"),
    Style(color="#00ff00", bgcolor="#000000"),
    Style(color="#00ff00", bgcolor="#000040", bold=True),
    Style(color="#00ff00", reverse=True),
    Style(underline=True),
    Style(bgcolor="#000040", dim=True),
]
TEXTS = ["ab", "    ", "训练", "⠤⣀", "x 训 y", "e\u0301", "\N{ROCKET}", "é─"]


class Terminal:
    """What is on a terminal of `SIZE` after the sequences that were written to it."""

    def __init__(self) -> None:
        self.rows = [[(" ", ())] * SIZE.width for _row in range(SIZE.height)]
        self.x = self.y = 0
        self.pen: tuple[str, ...] = ()

    def write(self, text: str) -> int:
        """Take what a program wrote; returns how many bytes that is."""
        for numbers, act, line, character in CODES.findall(text):
            if act == "H":
                self.y, self.x = (int(number) - 1 for number in numbers.split(";"))
            elif act == "G":
                self.x = int(numbers) - 1
            elif act == "m":
                self._dip(numbers)
            elif character:
                self._put(character)
            elif line:
                self.y += 1
        return len(text.encode())

    def _dip(self, codes: str) -> None:
        pen = dict(part.split("=", 1) for part in self.pen)
        left = codes.split(";")
        while left:
            code = left.pop(0)
            if code in ("", "0"):
                pen = {}
            elif code in ("38", "48"):
                kind, *rest = left
                taken = [kind, *rest[: 3 if kind == "2" else 1]]
                pen[code] = ";".join(taken)
                del left[: len(taken)]
            elif code in ("39", "49"):
                pen.pop("38" if code == "39" else "48", None)
            else:
                pen[f"a{code}"] = ""
        self.pen = tuple(sorted(f"{name}={value}" for name, value in pen.items()))

    def _put(self, character: str) -> None:
        width, row = cell_len(character), self.rows[self.y]
        if not width:
            before = self.x - 1 - (row[self.x - 1][0] == "")
            row[before] = (row[before][0] + character, row[before][1])
            return
        for at in (self.x, self.x + width - 1):  # half of a wide one is none
            if row[at][0] == "" and at == self.x:
                row[at - 1] = (" ", row[at - 1][1])
            elif at + 1 < SIZE.width and row[at + 1][0] == "" and at == self.x + width - 1:
                row[at + 1] = (" ", row[at + 1][1])
        row[self.x : self.x + width] = [(character, self.pen), ("", self.pen)][:width]
        self.x += width

    def seen(self) -> list[list[object]]:
        """The cells, where of a blank only that counts which shows."""
        return [
            [
                (" ", tuple(part for part in pen if not part.startswith(("38=", "a1", "a2"))))
                if one == " " and not {"a7=", "a4="} & set(pen)
                else (one, pen)
                for one, pen in row
            ]
            for row in self.rows
        ]


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, color_system="256")


def strip(chance: random.Random, width: int) -> Strip:
    """Pieces of text in several styles, `width` cells in all."""
    pieces: list[Segment] = []
    while (left := width - sum(cell_len(piece.text) for piece in pieces)) > 0:
        text = chance.choice(TEXTS)
        text = text if cell_len(text) <= left else "." * left
        pieces.append(Segment(text, chance.choice(STYLES)))
    return Strip(pieces, width)


def whole(chance: random.Random) -> LayoutUpdate:
    """The screen, drawn as a whole."""
    rows = [[strip(chance, SIZE.width)] for _row in range(SIZE.height)]
    return LayoutUpdate(rows, Region(0, 0, *SIZE))


def part(chance: random.Random) -> ChopsUpdate:
    """Some rows of two widgets side by side, one of them perhaps not drawn."""
    cut = chance.randrange(8, SIZE.width - 8)
    ends = [[cut, SIZE.width]] * SIZE.height
    chops: list[dict[int, Strip | None]] = [
        {0: strip(chance, cut), cut: chance.choice([None, strip(chance, SIZE.width - cut)])}
        for _row in range(SIZE.height)
    ]
    rows = sorted(chance.sample(range(SIZE.height), 3))
    return ChopsUpdate(chops, [(row, 0, SIZE.width) for row in rows], ends)


@pytest.mark.parametrize("seed", range(40))
def test_the_terminal_shows_what_it_would_have_shown(seed: int, console: Console) -> None:
    chance, shown = random.Random(seed), Shown()
    plain, thrifty = Terminal(), Terminal()
    for update in [whole(chance), *(part(chance) for _time in range(12)), whole(chance)]:
        plain.write(update.render_segments(console))
        thrifty.write(shown.of(update, SIZE).render_segments(console))
        assert thrifty.seen() == plain.seen()


def row(*pieces: tuple[str, Style]) -> ChopsUpdate:
    """One row of one widget, drawn anew."""
    text = Strip([Segment(*piece) for piece in pieces])
    blank = Strip([Segment(" " * (SIZE.width - text.cell_length), STYLES[1])])
    line = Strip([*text, *blank], SIZE.width)
    return ChopsUpdate([{0: line}], [(0, 0, SIZE.width)], [[SIZE.width]])


def test_what_is_there_is_not_sent_again(console: Console) -> None:
    shown, red = Shown(), STYLES[1]

    def sent(update: ChopsUpdate) -> str:
        return shown.of(update, SIZE).render_segments(console)

    assert "step 41 of 训练" in sent(row(("step 41 of 训练", red)))
    assert sent(row(("step 41 of 训练", red))) == ""
    assert sent(row(("step 42 of 训练", red))) == "\x1b[1;7H\x1b[38;5;196;48;5;16m2\x1b[0m"
    assert "\x1b[1;14H" in sent(row(("step 42 of 训线", red))), "a wide one is sent whole"
    shown.forget()
    assert "step 42" in sent(row(("step 42 of 训线", red)))


def test_another_colour_is_sent_without_what_stays(console: Console) -> None:
    shown = Shown()
    shown.of(row(("ab", STYLES[1])), SIZE).render_segments(console)
    sent = shown.of(row(("a", STYLES[2]), ("c", STYLES[1])), SIZE).render_segments(console)
    assert sent == "\x1b[1;1H\x1b[38;5;46;48;5;16ma\x1b[38;5;196mc\x1b[0m"


@pytest.mark.parametrize("smaller", [Size(40, 2), Size(39, 6), Size(0, 0)])
def test_what_was_drawn_for_a_larger_terminal_is_sent_as_it_is(
    smaller: Size, console: Console
) -> None:
    """Its window became smaller between the drawing and the writing."""
    for seed in range(10):
        chance, shown = random.Random(seed), Shown()
        first = whole(chance)
        shown.of(first, SIZE).render_segments(console)
        for late in (part(chance), whole(chance)):
            sent = shown.of(late, smaller).render_segments(console)
            assert sent == late.render_segments(console)
        again = shown.of(first, SIZE).render_segments(console)
        assert again == first.render_segments(console), "nothing is known of what it shows"
