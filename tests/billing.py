"""A loopback server that bills what it answers, and projects whose models it is."""

import hashlib
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.projects import Project_, project
from tests.servers import ChatServer, Reply, said

PRICE = "{prompt: 1000, completion: 2000, date: '2025-01-31', source: a test}"
"""A token of a prompt is 0.001, one of a completion 0.002."""
MOST = 50
"""`max_tokens`."""


def usage(prompt: str) -> tuple[int, int]:
    """What a prompt costs in tokens: about a third of its letters, and up to MOST of a reply, by its hash."""
    return 8 + len(prompt) // 3, 1 + hashlib.md5(prompt.encode()).digest()[0] % MOST


def price(prompt: str) -> float:
    """What its answer costs by PRICE."""
    asked, answered = usage(prompt)
    return (asked * 1000 + answered * 2000) / 1e6


class Biller:
    """A behaviour that bills each request as it comes, whether or not its answer is ever read."""

    def __init__(self, hang: Callable[[int], float] = lambda number: 0.0) -> None:
        self.hang, self.bills = hang, list[float]()
        self._lock = threading.Lock()

    def __call__(self, number: int, body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        with self._lock:
            self.bills.append(price(prompt))
        reply = said(f"About {prompt}", tokens=usage(prompt))
        reply.hang = self.hang(number)
        return reply

    @property
    def bill(self) -> float:
        """All of it."""
        return sum(self.bills)


def priced(root: Path, server: ChatServer, recipe: str, concurrency: int = 4, price: str = PRICE) -> Project_:
    """A project whose model `m` is the server, at a price; compiled, its source stage made."""
    made = project(root, recipe)
    made.write(
        "params.yaml",
        f"models:\n  m: {{name: some-model, sampling: {{max_tokens: {MOST}}}}}\n"
        f"run:\n  m: {{backend: openai, base_url: '{server.url}', concurrency: {concurrency}}}\n"
        f"prices:\n  m: {price}\n",
    )
    made.write("prompts/tell.j2", "Tell me of {{ text }}, please.\n")
    made.run("drp", "compile")
    made.run("dvc", "repro", "-q", "recipes/one/dvc.yaml:a")
    return made


def query(made: Project_, statement: str) -> list[Any]:
    """Rows of the project's completion store."""
    with sqlite3.connect(made.root / ".dvc/cache/drp/completions.sqlite") as db:
        found = db.execute(statement).fetchall()
    db.close()
    return found


def paid(made: Project_) -> float:
    """What the project's stages paid, by its own books."""
    return float(query(made, "select coalesce(sum(cost), 0) from payments")[0][0])
