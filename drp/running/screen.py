"""The screen: lines that stay, and below them lines that are written anew."""

import shutil
import sys
from collections.abc import Sequence


class Screen:
    """Standard output: lines that stay, and in a terminal below them lines that are written anew each time."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty()
        self._below: list[str] = []

    def say(self, lines: Sequence[str]) -> None:
        """Lines that stay."""
        if lines:
            self._put([*lines], self._below)

    def draw(self, lines: Sequence[str]) -> None:
        """The lines at the bottom."""
        if self.live and (lines or self._below):
            width = shutil.get_terminal_size().columns - 1
            self._put([], [text[:width] for text in lines])

    def _put(self, above: list[str], below: list[str]) -> None:
        up = f"\033[{len(self._below)}F\033[J" if self._below else ""
        sys.stdout.write(up + "".join(f"{text}\n" for text in [*above, *below]))
        sys.stdout.flush()
        self._below = below
