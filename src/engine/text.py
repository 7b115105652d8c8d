"""Text from outside, made safe to show.

Logs, dataset rows, model output and file names may hold terminal escape
sequences: shown raw they clear the screen, rename the window or fill the
clipboard. Everything that becomes a line on a screen passes through here.
"""

from __future__ import annotations

import re

# (Patterns as text: few lines need them, and compiling them takes a millisecond.)
# Whole sequences first (CSI, OSC and the other string sequences, two-byte
# escapes), so that their letters do not stay behind as litter.
_SEQUENCES = (
    "\x1b\\[[0-?]*[ -/]*[@-~]"
    "|\x1b[\\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\\\)?"
    "|\x1b[ -/]*[0-~]"
    "|\x9b[0-?]*[ -/]*[@-~]"
)
# C0 and C1 controls and the bidirectional overrides, which can make a line
# read as something that it is not.
_CONTROLS = "[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
# These make terminals disagree about a cell's width and shift the rest of a row.
_WIDTH_BREAKERS = "[\u200d\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]"

# Halves of characters, out of JSON escapes or undecodable file names: no terminal takes them.
_SURROGATES = "[\ud800-\udfff]"


def whole(text: str) -> str:
    """`text` with a replacement character for each lone surrogate, so that it can be encoded."""
    return re.sub(_SURROGATES, "\ufffd", text)


def clean(text: str, keep: str = "\n") -> str:
    """`text` without control characters or escape sequences.

    Args:
        text: anything, from anywhere.
        keep: control characters to leave in (by default the line break). A
            tab that is not kept becomes four spaces.
    """
    if text.isascii() and text.isprintable():  # most of all text
        return text
    text = re.sub(_SEQUENCES, "", text)
    if "\t" not in keep:
        text = text.replace("\t", "    ")
    text = re.sub(_CONTROLS, lambda found: found[0] if found[0] in keep else "", text)
    return whole(re.sub(_WIDTH_BREAKERS, "", text))


def one_line(text: str, marks: bool = True) -> str:
    """`text` on a single line; line breaks show as ⏎ (or as a space)."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return clean(text).replace("\n", "⏎" if marks else " ")


def size(count: float) -> str:
    """Bytes as people write them, in powers of ten as disks are sold: 1.4 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss, or as seconds with a tenth below one minute."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
