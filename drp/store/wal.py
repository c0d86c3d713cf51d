"""SQLite's write-ahead log, read before SQLite does: it would drop what was committed after a damaged page, and say nothing."""

import functools
import operator
import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HEADER, FRAME, INDEX = 32, 24, 100
"""Bytes of the log's header, of a frame's, and of the index (`-shm`) that matter here: https://sqlite.org/walformat.html"""
NATIVE = "<" if sys.byteorder == "little" else ">"
ORDERS = {0x377F0682: "<", 0x377F0683: ">"}
"""The byte order of checksums, by the log's first word."""
MASK = 0xFFFFFFFF


class Frame(NamedTuple):
    """One page in the log. `size` is the database's pages after a commit, 0 where the transaction goes on; `whole`: page and
    checksum agree, counted on from the frame before (so it was written right after that one)."""

    page: int
    size: int
    whole: bool


class Log:
    """The frames of the log's current round (those of earlier ones, which it overwrites, are None)."""

    def __init__(self, path: Path) -> None:
        self.path, self.page, self.salts = path, 0, b""
        self.blank, self.legible = True, False
        self.frames: list[Frame | None] = []
        if not path.exists():
            return
        with path.open("rb") as file:
            head = file.read(HEADER)
            self.blank = not head.strip(b"\x00")
            magic, _, self.page = struct.unpack(">3I", head[:12].ljust(12, b"\x00"))
            sums = struct.unpack(">2I", head[24:].ljust(8, b"\x00")[:8])
            order = ORDERS.get(magic, "")
            self.legible = bool(order) and len(head) == HEADER and checksum(head[:24], (0, 0), order) == sums
            if not self.legible:
                return
            self.salts = head[16:24]
            while len(frame := file.read(FRAME + self.page)) == FRAME + self.page:
                seed, sums = sums, struct.unpack(">2I", frame[16:24])
                if frame[8:16] == self.salts:
                    whole = checksum(frame[:8] + frame[FRAME:], seed, order) == sums
                    page, size = struct.unpack(">2I", frame[:8])
                    self.frames.append(Frame(page, size, whole))
                else:
                    self.frames.append(None)

    @property
    def sound(self) -> int:
        """How many frames SQLite will take: all up to the first that is not whole."""
        for place, frame in enumerate(self.frames):
            if frame is None or not frame.whole:
                return place
        return len(self.frames)

    def committed(self, frames: int) -> int:
        """How many of the first `frames` are of finished transactions."""
        return max((n for n, frame in enumerate(self.frames[:frames], 1) if frame and frame.size), default=0)

    def pages(self) -> Iterator[tuple[int, bytes]]:
        """Every page that is whole, in the order written, of transactions that were finished; damaged ones are left out."""
        end = self.committed(len(self.frames))
        if not end:
            return
        with self.path.open("rb") as file:
            for place, frame in enumerate(self.frames[:end]):
                if frame and frame.whole:
                    file.seek(HEADER + place * (FRAME + self.page) + FRAME)
                    yield frame.page, file.read(self.page)


class Index(NamedTuple):
    """What the log's index (`-shm`) says was committed and durable: `frames` of the round `salts`, of which the first `done`
    are in the database too. SQLite writes it after the log's fsync, and a kill leaves it there."""

    raw: bytes
    salts: bytes = b""
    frames: int = 0
    done: int = 0


def beside(database: Path, end: str) -> Path:
    """The log (`-wal`) or its index (`-shm`)."""
    return database.with_name(database.name + end)


def index(database: Path) -> Index:
    """The index as it stands; an empty one where there is none, or it is half-written."""
    path = beside(database, "-shm")
    raw = path.read_bytes()[:INDEX] if path.exists() else b""
    one, two = raw[:48], raw[48:96]
    if len(raw) < INDEX or one != two or not one[12] or checksum(one[:40], (0, 0), NATIVE) != struct.unpack("=2I", one[40:]):
        return Index(raw)
    (frames,), (done,) = struct.unpack("=I", one[16:20]), struct.unpack("=I", raw[96:100])
    return Index(raw, one[32:40], frames, done)


def lost(database: Path) -> str:
    """What SQLite would drop without a word, or miss, when it opens the database; "" where that is nothing.

    Of the log, proof is: a frame that follows a commit behind the damage (with synchronous=full nothing is written before the
    last commit's fsync), or the index, which counts only what is durable. The log's very last transaction, damaged where no
    index is left, cannot be told from one that a power cut tore, which nobody was given an answer from.
    """
    for _ in range(20):
        said = index(database)
        with database.open("rb") as file:
            head, size = file.read(100), os.fstat(file.fileno()).st_size
        log = Log(beside(database, "-wal"))
        verdict = _verdict(said, log) or _short(head, size, log)
        if not verdict or index(database).raw == said.raw:
            return verdict
        time.sleep(0.05)  # another process is at work on it: look again
    return ""


def _verdict(said: Index, log: Log) -> str:
    sound = log.sound
    if log.legible:
        if said.salts == log.salts and said.frames > sound:
            return f"its log is damaged at page {sound + 1} of {said.frames}"
        for before, after in zip(log.frames[sound:], log.frames[sound + 1 :], strict=False):
            if before and before.size and after and after.whole:
                return f"its log is damaged at page {sound + 1} of {len(log.frames)}"
        return ""
    if not log.blank:
        return "its log is damaged at its head"
    return "its log is gone" if said.frames > said.done else ""


def _short(head: bytes, size: int, log: Log) -> str:
    """Of the file itself: whether pages are missing at its end that are not in the log either."""
    if head[:16] != b"SQLite format 3\x00":
        return ""
    page = int.from_bytes(head[16:18], "big")
    page = 65536 if page == 1 else page
    end = log.committed(log.sound)
    last = log.frames[end - 1] if end else None
    said = last.size if last else int.from_bytes(head[28:32], "big")
    logged = {frame.page for frame in log.frames[:end] if frame}
    if page and any(n not in logged for n in range(size // page + 1, said + 1)):
        return f"{size} of {said * page} bytes"
    return ""


def checksum(data: bytes, seed: tuple[int, ...], order: str) -> tuple[int, int]:
    """SQLite's: for every two words s0 += x0 + s1, s1 += x1 + s0, modulo 2^32; here as the linear form that it is."""
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    first, second, (a, b, c) = _weights(len(words) // 2)
    s0, s1 = seed
    return (
        (sum(map(operator.mul, words, first)) + a * s0 + b * s1) & MASK,
        (sum(map(operator.mul, words, second)) + b * s0 + c * s1) & MASK,
    )


@functools.cache
def _weights(pairs: int) -> tuple[list[int], list[int], tuple[int, int, int]]:
    """By how much each word counts in s0 and in s1, and the (symmetric) matrix that the seed is multiplied by."""
    first: list[int] = []
    second: list[int] = []
    a, b, c = 1, 0, 1  # the step's matrix [[1, 1], [1, 2]], to the power of the pairs that follow
    for _ in range(pairs):
        first += [b, (a + b) & MASK]
        second += [c, (b + c) & MASK]
        a, b, c = (a + b) & MASK, (a + 2 * b) & MASK, (b + 2 * c) & MASK
    return first[::-1], second[::-1], (a, b, c)
