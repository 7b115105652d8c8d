"""A terminal in tmux, driven by keys, and a PNG of what it really shows.

    python docs/terminal_picture.py OUT.png --size 80x24 --keys "2 Down Enter" -- COMMAND …

Needs tmux and two fonts (Debian: fonts-dejavu-core, fonts-noto-cjk).
"""

from __future__ import annotations

import argparse
import html
import os
import re
import shlex
import subprocess
import time
import uuid
from itertools import groupby
from pathlib import Path

from rich.ansi import AnsiDecoder
from rich.cells import get_character_cell_size
from rich.console import Console
from rich.terminal_theme import TerminalTheme

CELL = 12.2
"""Width of a cell in Rich's SVG, in pixels."""
LINE = 24.4
"""Height of a line there."""
_SIZE = ("COLUMNS", "LINES")
BACKGROUND = (18, 18, 18)
THEME = TerminalTheme(
    BACKGROUND,
    (208, 208, 208),
    [(18, 18, 18), (215, 95, 95), (135, 175, 95), (215, 175, 95),
     (95, 175, 215), (175, 135, 175), (95, 175, 175), (208, 208, 208)],
    [(98, 98, 98), (255, 135, 135), (175, 215, 135), (255, 215, 135),
     (135, 215, 255), (215, 175, 215), (135, 215, 215), (255, 255, 255)],
)  # fmt: skip


class Terminal:
    """A command in a tmux session of its own, with a screen of `columns` × `rows`."""

    def __init__(self, command: str, columns: int, rows: int, folder: Path | None = None) -> None:
        self.columns, self.rows = columns, rows
        self._socket = f"tunedeck-{uuid.uuid4().hex[:8]}"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows),
                   *(["-c", str(folder)] if folder else []), command)  # fmt: skip
        self._tmux("set", "-g", "status", "off")
        self._tmux("set", "-s", "escape-time", "10")
        # With the status line gone the window is one row taller than asked for.
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def _tmux(self, *arguments: str) -> str:
        # A size in the environment would count more than the terminal's own.
        ours = {name: value for name, value in os.environ.items() if name not in _SIZE}
        done = subprocess.run(
            ["tmux", "-L", self._socket, *arguments],
            capture_output=True,
            text=True,
            check=True,
            env=ours,
        )
        return done.stdout

    def keys(self, *names: str, pause: float = 0.25) -> None:
        """Press keys by tmux's names (Enter, Escape, F2, C-p, a)."""
        for name in names:
            self._tmux("send-keys", name)
            time.sleep(pause)

    def type(self, text: str, pause: float = 0.25) -> None:
        """Type `text` as it stands."""
        self._tmux("send-keys", "-l", text)
        time.sleep(pause)

    def text(self, padded: bool = False) -> str:
        """What the screen shows, without colours; `padded` lines keep the spaces at their ends."""
        return self._tmux("capture-pane", "-p", *(["-N"] if padded else []))

    def wait(self, *wanted: str, seconds: float = 30) -> str:
        """Wait until one of `wanted` is on the screen; raises TimeoutError with the screen."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            shown = self.text()
            if any(part in shown for part in wanted):
                return shown
            time.sleep(0.15)
        raise TimeoutError(f"{wanted} did not appear in {seconds:.0f} s:\n{self.text()}")

    def pid(self) -> int:
        """The process in the terminal."""
        return int(self._tmux("display", "-p", "#{pane_pid}"))

    def picture(self, path: Path) -> None:
        """Write a PNG of the screen."""
        import resvg_py

        console = Console(width=self.columns, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
        captured = self._tmux("capture-pane", "-p", "-e", "-N").rstrip("\n").split("\n")
        decoder = AnsiDecoder()  # one for all: tmux does not tell a colour again on the next line
        for line in captured + [""] * (self.rows - len(captured)):
            console.print(decoder.decode_line(line), no_wrap=True, crop=True, overflow="crop")
        svg = console.export_svg(title="", theme=THEME, code_format=_FORMAT)
        width, height = self.columns * CELL + 20, self.rows * LINE + 16
        svg = svg.replace("VIEWBOX", f"-10 -8 {width:.0f} {height:.0f}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(resvg_py.svg_to_bytes(svg_string=_by_width(svg))))

    def close(self) -> None:
        """End the session and what runs in it."""
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], capture_output=True)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


_FORMAT = """<svg viewBox="VIEWBOX" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: "DejaVu Sans Mono", "Noto Sans Mono CJK SC";
font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<rect x="-10" y="-8" width="110%" height="110%" fill="rgb(18,18,18)"/>
<g>{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g></g></svg>"""


def _by_width(svg: str) -> str:
    """Split each run of text where the characters' width changes.

    Rich gives a run's length by its characters, so that a renderer squeezes
    Chinese to half its width; a run of one width can be given its true length.
    """

    def split(found: re.Match[str]) -> str:
        attributes, text = found[1], html.unescape(found[2])
        x = float(re.search(r'x="([\d.]+)"', attributes)[1])  # type: ignore[index]
        rest = re.sub(r' ?\b(x|textLength)="[\d.]+"', "", attributes)
        pieces = []
        for width, characters in groupby(text, get_character_cell_size):
            piece = "".join(characters)
            if width == 0:
                continue
            length = len(piece) * width * CELL
            pieces.append(
                f'<text {rest} x="{x:.1f}" textLength="{length:.1f}">'
                f"{html.escape(piece).replace(' ', '&#160;')}</text>"
            )
            x += length
        return "".join(pieces)

    return re.sub(r"<text ([^>]*)>([^<]*)</text>", split, svg)


def main() -> None:
    """Run a command in a terminal, press keys, take a picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", default="80x24")
    parser.add_argument("--wait", default="")
    parser.add_argument("--keys", default="", help="tmux key names, separated by spaces")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    columns, rows = (int(part) for part in args.size.split("x"))
    with Terminal(shlex.join(args.command), columns, rows, args.folder) as terminal:
        if args.wait:
            terminal.wait(args.wait)
        terminal.keys(*args.keys.split())
        time.sleep(0.5)
        terminal.picture(args.out)


if __name__ == "__main__":
    main()
