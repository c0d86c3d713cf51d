"""The reference: a bare asyncio loop, 64 requests in flight, each answer made durable by itself before the next is sent.

    python benchmarks/bare.py URL ROWS OUT [journal | sqlite]

`journal` appends a line to OUT and fsyncs it; `sqlite` inserts into a table in WAL mode with synchronous=full. No retries,
no keys, no order, no Parquet: the least that anyone would write.
"""

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

IN_FLIGHT = 64


def journal(out: Path) -> Callable[[int, str], None]:
    """Append a line, fsync."""
    file = out.open("a", encoding="utf-8")

    def keep(row: int, text: str) -> None:
        file.write(json.dumps({"row": row, "text": text}) + "\n")
        file.flush()
        os.fsync(file.fileno())

    return keep


def sqlite(out: Path) -> Callable[[int, str], None]:
    """Insert, commit."""
    db = sqlite3.connect(out, isolation_level=None)
    db.execute("pragma journal_mode=wal")
    db.execute("pragma synchronous=full")
    db.execute("create table if not exists answers (row integer primary key, text text)")
    return lambda row, text: (db.execute("insert into answers values (?, ?)", (row, text)), None)[1]


async def ask(url: str, rows: int, keep: Callable[[int, str], None]) -> None:
    """Ask for every row, IN_FLIGHT at a time."""
    import aiohttp

    numbers = iter(range(rows))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def worker() -> None:
            for row in numbers:
                body = {"model": "m", "max_tokens": 256, "messages": [{"role": "user", "content": question(row)}]}
                async with session.post(f"{url}/chat/completions", json=body) as response:
                    keep(row, (await response.json())["choices"][0]["message"]["content"])

        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


def question(row: int) -> str:
    """A prompt of half a kilobyte."""
    return f"Question {row}: " + "What is to be done with so many numbers? " * 12


if __name__ == "__main__":
    store = {"journal": journal, "sqlite": sqlite}[sys.argv[4] if len(sys.argv) > 4 else "journal"]
    asyncio.run(ask(sys.argv[1], int(sys.argv[2]), store(Path(sys.argv[3]))))
