"""The command ``tunedeck``: a verb runs without the screen, anything else opens the app."""

from __future__ import annotations

import os
import sys

from engine.cli.main import VERBS


def main() -> None:
    """Run the command line or the app; ends the process with its exit status."""
    arguments = sys.argv[1:]
    if arguments and (arguments[0] in VERBS or arguments[0].startswith("-")):
        from engine.cli.main import main as run_verb

        sys.exit(run_verb(arguments))
    # Read by Textual at import. No animation: it costs twice the bytes over a
    # slow line. No kitty keyboard protocol: we need none of its keys, and with
    # it some terminals lose Chinese input.
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    os.environ.setdefault("TEXTUAL_DISABLE_KITTY_KEY", "1")
    from tui.app import run

    sys.exit(run(arguments))


if __name__ == "__main__":
    main()
