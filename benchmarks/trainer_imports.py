"""CPU seconds until the trainer has imported all it needs, with our shims and without.

    python benchmarks/trainer_imports.py [--runs 3]

XTuner's own ``python -m xtuner.tools.train`` imports the same. Both run in turn;
prints medians, the range and the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

PLAIN = "import xtuner.tools.train"
OURS = """
from engine.train import imports
with imports.lightly():
    import xtuner.tools.train
"""


def cpu_seconds(code: str) -> float:
    """CPU seconds that a fresh interpreter spends on `code`."""
    code = f"import time\n{code}\nprint('cpu', time.process_time())"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(told.stdout.rsplit("cpu", 1)[1])


def main() -> None:
    """Measure both, print the table."""
    parser = argparse.ArgumentParser(description="The trainer's imports, in CPU seconds.")
    parser.add_argument("--runs", type=int, default=3)
    pairs = [
        (cpu_seconds(PLAIN), cpu_seconds(OURS)) for _run in range(parser.parse_args().runs + 1)
    ][1:]  # the first pair warms the file cache
    ratios = sorted(ours / plain for plain, ours in pairs)
    print(f"XTuner alone     {statistics.median(pair[0] for pair in pairs):.1f} s")
    print(f"under Tunedeck   {statistics.median(pair[1] for pair in pairs):.1f} s")
    print(f"ratio            {statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
