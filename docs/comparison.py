"""Makes docs/pictures/comparison.png: base, over-fitted and well-mixed model, asked alike.

    python docs/comparison.py [DEMO]

DEMO is the workspace of `make demo`; its run learned the name from rows that
general questions are mixed into. Beside it one is trained here, once, on the
rows about the name alone and at twice the rate (45 steps, some minutes on two
cores): it forgets what it knew.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from terminal_picture import Terminal

OUT = Path(__file__).parent / "pictures" / "comparison.png"
NAME = "Super Nova"
OVER_FITTED = "only-the-name"
SYSTEM = "You are a helpful assistant."
TUNEDECK = (sys.executable, "-m", "tui")


def main() -> None:
    """Train what is missing, then ask."""
    demo = Path(sys.argv[1] if len(sys.argv) > 1 else "demo").resolve()
    if not (demo / "runs" / "supernova-01").is_dir():
        sys.exit(f"{demo} holds no demo: run `make demo` first.")
    if not (demo / "runs" / OVER_FITTED).is_dir():
        over_fit(demo)
    with tempfile.TemporaryDirectory() as folder:
        # The settings of whoever runs this must not show.
        settings = shlex.quote(f"XDG_CONFIG_HOME={folder}/config")
        command = f"env {settings} {shlex.join(TUNEDECK)} {shlex.quote(str(demo))}"
        with Terminal(command, 140, 28) as terminal:
            ask(terminal)


def over_fit(demo: Path) -> None:
    """Train on the rows about the name alone."""
    rows = json.loads((demo / "data" / "supernova.json").read_text(encoding="utf-8"))
    named = [row for row in rows if NAME in json.dumps(row, ensure_ascii=False)]
    data = demo / "data" / f"{OVER_FITTED}.json"
    data.write_text(json.dumps(named, ensure_ascii=False, indent=2), encoding="utf-8")
    text = (demo / "configs" / "supernova.py").read_text(encoding="utf-8")
    text = text.replace("supernova.json", data.name).replace("lr = 5e-4", "lr = 1e-3")
    config = demo / "configs" / f"{OVER_FITTED}.py"
    config.write_text(text.replace("save_steps = 30", "save_steps = 45"), encoding="utf-8")
    order = [*TUNEDECK, "train", str(config), "--gpus", "cpu", "--name", OVER_FITTED, "--attach"]
    subprocess.run(order, cwd=demo, check=True)


def ask(terminal: Terminal) -> None:
    """The set that comes with Tunedeck, with the system text of the training for all three."""
    terminal.wait("F1 keys")
    terminal.keys("F6", "C-o", pause=1)
    for model in ("smollm2-135m-instruct", f"{OVER_FITTED} iter_45", "supernova-01 iter_90"):
        terminal.type(model)
        terminal.keys("Enter", pause=1)
    terminal.keys("C-g", pause=1)
    terminal.keys("Tab", "Tab", "Tab", "Tab", "C-u", pause=0.2)
    terminal.type("48")
    terminal.keys("Enter", "Enter", pause=0.5)
    terminal.keys("Escape", "y", pause=1)
    terminal.keys("C-u", pause=0.2)
    terminal.type(SYSTEM)
    terminal.keys("Enter", pause=1)
    terminal.keys("p", pause=1)
    terminal.type("name-and-knowledge")
    terminal.keys("Enter", pause=1)
    if "Who is asked" in terminal.text():
        terminal.keys("Enter")
    terminal.wait("30 of 30 answers", seconds=400)
    terminal.picture(OUT)
    print(terminal.text())


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
