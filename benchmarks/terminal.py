"""A program in a pseudo-terminal: what it writes, when, and what a key costs in bytes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Sequence

from rich.cells import get_character_cell_size

_TOKEN = re.compile(r"\x1b\[([\d;]*)([HG])|\x1b\[[?\d;$]*[a-zA-Z]|\x1b.|\n|[^\x00-\x1f]")


class Screen:
    """The characters on a terminal: the app sends no more of them than have changed."""

    def __init__(self, columns: int, rows: int) -> None:
        self._rows = [[" "] * columns for _row in range(rows)]
        self._x = self._y = 0
        self._raw = b""

    def take(self, written: bytes) -> None:
        """What a program wrote; a sequence that is cut off waits for its end."""
        raw = self._raw + written
        end = max(raw.rfind(b"m"), raw.rfind(b"H"), raw.rfind(b"h")) + 1
        self._raw = raw[end:]
        for token in _TOKEN.finditer(raw[:end].decode(errors="replace")):
            if token[2] == "H":
                place = [int(number or 1) for number in (token[1] or "1;1").split(";")]
                self._y, self._x = place[0] - 1, place[-1] - 1
            elif token[2] == "G":
                self._x = int(token[1] or 1) - 1
            elif token[0] == "\n":
                self._y += 1
            elif token[0][0] != "\x1b":
                self._put(token[0])

    def _put(self, character: str) -> None:
        width = get_character_cell_size(character)
        if self._y < len(self._rows) and self._x + width <= len(self._rows[0]):
            cells = [character, ""][:width]
            self._rows[self._y][self._x : self._x + width] = cells
        self._x += width

    @property
    def text(self) -> str:
        """Its lines."""
        return "\n".join("".join(row) for row in self._rows)


class Pty:
    """`command` on a terminal of `columns` × `rows`; every byte it writes is kept and timed."""

    def __init__(
        self, command: Sequence[str], columns: int = 80, rows: int = 24, **env: str
    ) -> None:
        self.started = time.perf_counter()
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            environment = {
                **os.environ,
                "TERM": "xterm-256color",
                "COLUMNS": "",
                "LINES": "",
                **env,
            }
            os.execvpe(command[0], list(command), environment)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.output = b""

    def read(self, seconds: float) -> bytes:
        """What comes within `seconds`; returns early at the program's end."""
        until = time.perf_counter() + seconds
        fresh = b""
        while (left := until - time.perf_counter()) > 0:
            if select.select([self.master], [], [], left)[0]:
                try:
                    data = os.read(self.master, 1 << 16)
                except OSError:  # the program has closed its end
                    break
                if not data:
                    break
                fresh += data
        self.output += fresh
        return fresh

    def until(self, wanted: bytes, seconds: float = 30) -> float:
        """Seconds from the start until `wanted` has been written."""
        deadline = time.perf_counter() + seconds
        while wanted not in self.output:
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{wanted!r} did not appear in {seconds} s")
            if select.select([self.master], [], [], 0.1)[0]:
                self.output += os.read(self.master, 1 << 16)
        return time.perf_counter() - self.started

    def when(self, wanted: re.Pattern[bytes], after: int, seconds: float = 30) -> float:
        """The moment (`time.perf_counter`) at which `wanted` came behind byte `after`."""
        deadline = time.perf_counter() + seconds
        while not wanted.search(self.output, after):
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{wanted.pattern!r} did not appear in {seconds} s")
            if select.select([self.master], [], [], 0.1)[0]:
                self.output += os.read(self.master, 1 << 16)
        return time.perf_counter()

    def write(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.master, keys)

    def close(self) -> None:
        """End the program."""
        os.close(self.master)  # as a dropped line does: the program gets SIGHUP
        os.waitpid(self.pid, 0)
