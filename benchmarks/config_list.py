"""Listing the configs: ``tunedeck config list`` against ``xtuner list-cfg``.

    python benchmarks/config_list.py [--runs 7]

Both run as whole processes, in turn (A B A B …), with this interpreter's folder
first on the path: the `xtuner` command starts whatever `python` it finds there.
In an empty workspace, whose own configs would be read each time.
Ours is measured without its cache too (the first time with a release of XTuner).
Prints medians and the ratio. Exit status 1 when a name is listed by theirs only.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
OURS = (str(BIN / "tunedeck"), "config", "list")
THEIRS = (str(BIN / "xtuner"), "list-cfg")


def run(command: tuple[str, ...], cache: str) -> tuple[float, float, str]:
    """Wall seconds, CPU seconds and output of a command."""
    variables = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "XDG_CACHE_HOME": cache}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | variables, cwd=cache
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.stdout


def names(listing: str) -> set[str]:
    """The first word of each line that begins with a config's name."""
    words = (line.split() for line in listing.splitlines())
    return {one[0] for one in words if one and "_" in one[0] and one[0].isidentifier()}


def main() -> int:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as cache:
        cold = run(OURS, cache)
        run(THEIRS, cache)  # both have their files in the page cache now
        pairs = [(run(OURS, cache), run(THEIRS, cache)) for _number in range(runs)]
    for label, which in (("tunedeck config list", 0), ("xtuner list-cfg", 1)):
        walls = [pair[which][0] for pair in pairs]
        cpus = [pair[which][1] for pair in pairs]
        print(
            f"{label:22} {statistics.median(walls):6.3f} s "
            f"({min(walls):.3f}-{max(walls):.3f}), CPU {statistics.median(cpus):.3f} s"
        )
    print(f"{'without its cache':22} {cold[0]:6.3f} s, CPU {cold[1]:.3f} s")
    ratio = statistics.median(theirs[0] / ours[0] for ours, theirs in pairs)
    print(f"ratio {ratio:.1f} (median over {runs} pairs)")
    missing = names(pairs[0][1][2]) - names(pairs[0][0][2])
    programs = {name for name in missing if name.startswith("convert_")}
    settings = {name for name in missing if name.startswith("deepspeed_")}
    print(f"listed: {len(names(pairs[0][0][2]))} by ours, {len(names(pairs[0][1][2]))} by theirs")
    for kind, found in (("no configs but programs", programs), ("DeepSpeed settings", settings)):
        print(f"  theirs only, {kind}: {', '.join(sorted(found)) or 'none'}")
    return 1 if missing - programs - settings else 0


if __name__ == "__main__":
    sys.exit(main())
