"""Cold start until the first full frame: Tunedeck against a ten-line Textual app.

    python benchmarks/startup.py [--runs 9]

Both run in turn (A B A B …) in a pseudo-terminal of 80×24; a frame is full when
its last line has been written. Prints medians and the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from terminal import Pty

TEN_LINES = """
from textual.app import App
from textual.widgets import Header, Footer, Static
class Ten(App):
    BINDINGS = [("q", "quit", "Quit")]
    def compose(self):
        yield Header()
        yield Static("Hello")
        yield Footer()
Ten().run(mouse=False)
"""


def seconds(command: list[str], last: bytes) -> float:
    """Seconds from the start of `command` until `last` is on its screen."""
    terminal = Pty(command, TEXTUAL_ANIMATIONS="none")
    try:
        return terminal.until(last)
    finally:
        terminal.close()


def main() -> None:
    """Measure both, print the table."""
    parser = argparse.ArgumentParser(description="Cold start against a ten-line Textual app.")
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "ten.py"
        script.write_text(TEN_LINES)
        workspace = Path(folder) / "workspace"
        workspace.mkdir()
        plain = [sys.executable, str(script)]
        ours = [sys.executable, "-m", "tui", str(workspace)]
        pairs = []
        for number in range(runs + 1):
            pair = (seconds(plain, b"palette"), seconds(ours, b"commands"))
            if number:  # the first pair warms the file cache
                pairs.append(pair)
    ratios = [ours / plain for plain, ours in pairs]
    print(f"ten-line Textual app   {statistics.median(pair[0] for pair in pairs):.3f} s")
    print(f"tunedeck               {statistics.median(pair[1] for pair in pairs):.3f} s")
    spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
    print(f"ratio, median of pairs {statistics.median(ratios):.2f} ({spread})")


if __name__ == "__main__":
    main()
