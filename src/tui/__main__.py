"""The command ``tunedeck``: a verb runs without the screen, anything else opens the app."""

from __future__ import annotations

import gc
import os
import sys

_LOOK = 50_000
"""New objects after which Python looks for rings of unused ones, instead of 700: starting
makes a hundred thousand that stay, and looking at them all the time is a tenth of it."""


def main() -> None:
    """Run the command line or the app; ends the process with its exit status."""
    gc.set_threshold(_LOOK)
    from engine.cli.main import VERBS, language_of, open_streams

    open_streams()
    language, arguments = language_of(sys.argv[1:])
    if arguments and (arguments[0] in VERBS or arguments[0].startswith("-")):
        from engine.cli.main import main as run_verb

        status = run_verb()
        gc.freeze()  # what is left ends with the process: nobody need look through it
        sys.exit(status)
    # Read by Textual at import. No animation: it costs twice the bytes over a
    # slow line. No kitty keyboard protocol: we need none of its keys, and with
    # it some terminals lose Chinese input.
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    os.environ.setdefault("TEXTUAL_DISABLE_KITTY_KEY", "1")
    from tui.opening import run

    sys.exit(run(arguments, language))


if __name__ == "__main__":
    main()
