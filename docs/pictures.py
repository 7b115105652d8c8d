"""Makes docs/pictures/: every pane as a terminal shows it, on the workspace of `make demo`.

    python docs/pictures.py [DEMO]

Nothing in the workspace is made anew.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from terminal_picture import Terminal

OUT = Path(__file__).parent / "pictures"
SIZES = {"": (140, 45), "-80x24": (80, 24)}


def main() -> None:
    """One app for each size, from pane to pane by keys."""
    demo = Path(sys.argv[1] if len(sys.argv) > 1 else "demo").resolve()
    if not (demo / "runs").is_dir():
        sys.exit(f"{demo} holds no demo: run `make demo` first.")
    for suffix, (columns, rows) in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            # The settings of whoever runs this must not show.
            settings = shlex.quote(f"XDG_CONFIG_HOME={folder}/config")
            command = (
                f"env {settings} {shlex.quote(sys.executable)} -m tui {shlex.quote(str(demo))}"
            )
            with Terminal(command, columns, rows) as terminal:
                walk(terminal, suffix)


def walk(terminal: Terminal, suffix: str) -> None:
    """Visit every pane and take its picture."""
    terminal.wait("F1 keys")
    terminal.keys("F2", pause=1)
    terminal.wait(" rows")
    terminal.keys("Down", "Down", pause=0.5)
    terminal.wait("carry loss", seconds=90)
    terminal.keys("c")
    terminal.wait("steps per epoch", "good ·", seconds=90)
    terminal.picture(OUT / f"data{suffix}.png")
    terminal.keys("F3", pause=1)
    terminal.wait("pretrained_model")
    terminal.keys("p")
    terminal.wait("samples →", seconds=90)
    terminal.picture(OUT / f"config{suffix}.png")
    terminal.keys("F4", pause=2)
    terminal.wait("loss")
    terminal.picture(OUT / f"train{suffix}.png")
    terminal.keys("F5", pause=1.5)
    if "verify the merged model" in terminal.text():
        terminal.keys("Enter")
    terminal.wait("they agree", seconds=120)
    terminal.picture(OUT / f"export{suffix}.png")
    terminal.keys("F6", pause=1)
    terminal.type("Who are you?")
    terminal.keys("Enter")
    terminal.wait("tok/s", seconds=120)
    while terminal.text().count("tok/s") < 2:
        terminal.keys(pause=1)
        terminal.wait("tok/s", seconds=120)
    terminal.wait("Enter  send")
    terminal.picture(OUT / f"chat{suffix}.png")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
