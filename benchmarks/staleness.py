"""Is the right thing asked again? Every cell changes one thing in a three-stage recipe (A → B → C) and counts requests.

    python -m benchmarks.staleness [--rows 100]

Each stage asks a model about the answer of the one before. The server answers with a hash of the prompt, so every row of the
result is checked against the chain of hashes that the project, as it then is, must give: a stale row cannot hide.
"""

import argparse
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

from benchmarks.kills import reset
from benchmarks.loopback import Served, answer, serving
from benchmarks.scratch import scratch
from benchmarks.table import Row, show
from drp.prompts import Prompt
from drp.records import read
from tests.projects import Project_

RECIPE = """\
stages:
  questions: {op: load, source: rows.jsonl, question: text, answer: answer}
  a: {op: turn, from: questions, model: m, prompt: first}
  b: {op: turn, from: a, model: m, prompt: second}
  c: {op: turn, from: b, model: m, prompt: third}
"""
TURN = '''
    """Ask a model about the text so far; its answer is the text from now on."""
    from collections.abc import Iterable, Iterator
    from typing import Annotated, TypedDict
    from drp.op import Dropped, Kept, Model, Outcome, Prompt, Record, Supplies, Talk, Work

    VERSION = 1

    class Adds(TypedDict):
        text: str

    def turn(records: Iterable[Record], work: Work, *, model: Model,
             prompt: Annotated[Prompt, Supplies("text")]) -> Iterator[Outcome]:
        def talk(record: Record) -> Talk:
            [done] = yield [model.request(prompt.render(text=record.get("text") or record["question"]))]
            if done.finish != "stop":
                return Dropped(record, "no-completion", done.error)
            return Kept({**record, "text": done.text})
        return work.ask(model, records, talk)
    '''
PROMPT = "{# NAME #}\n{% block user %}Name: {{ text }}{% endblock %}\n"
PROMPTS = ("first", "second", "third")
Change = Callable[["Bench"], None]


class Bench:
    """The project under change, and its server."""

    def __init__(self, made: Project_, server: Served, size: int) -> None:
        self.made, self.server, self.size, self.recipe, self.op = made, server, size, "one", "turn"
        made.write("ops/turn.py", TURN)
        for name in PROMPTS:
            made.write(f"prompts/{name}.j2", PROMPT.replace("NAME", name).replace("Name", name.capitalize()))
        self.rows([f"question {k}" for k in range(size)])

    def rows(self, questions: list[str]) -> None:
        """Write the input file."""
        lines = (json.dumps({"text": text, "answer": str(place)}) for place, text in enumerate(questions))
        self.made.write("rows.jsonl", "\n".join(lines) + "\n")

    def repro(self) -> int:
        """Compile, reproduce, and count the requests that this took."""
        reset(self.server.url)
        self.made.run("drp", "compile")
        self.made.run("dvc", "repro", "-q", f"recipes/{self.recipe}/dvc.yaml")
        return self.server.stats().requests

    def stale(self) -> int:
        """Rows of the result that are not what the prompts and the input, as they are now, give."""
        prompts = [Prompt(self.made.root / "prompts", name) for name in PROMPTS]
        wrong = 0
        found = list(read(self.made.root / f"data/{self.recipe}/c.parquet"))
        for record in found:
            text = record["question"]
            for prompt in prompts:
                text = answer("\n".join(message.content for message in prompt.render(text=text)))
            wrong += text != record["text"]
        lines = (self.made.root / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        return wrong + abs(len(found) - len(lines))


def cells(size: int) -> list[tuple[str, Change, int]]:
    """What is changed, how, and how many requests that is worth. Each cell starts from the one before."""
    edit = lambda path, old, new: lambda b: b.made.edit(path, old, new)
    a_again = edit("prompts/first.j2", "Start:", "Begin:")
    plain = [f"question {k}" for k in range(size)]
    brief = "{% block system %}Be brief.{% endblock %}"
    both = lambda *changes: lambda b: [change(b) for change in changes] and None
    return [
        ("nothing changed", lambda b: None, 0),
        ("prompt of step 1 (all that follows)", edit("prompts/first.j2", "First:", "Start:"), 3 * size),
        ("prompts of A and C of A→B→C", both(a_again, edit("prompts/third.j2", "Third:", "Last:")), 3 * size),
        ("prompt of the last stage only", edit("prompts/third.j2", "Last:", "Finally:"), size),
        ("a comment in a prompt", edit("prompts/first.j2", "{# first #}", "{# the first one #}"), 0),
        ("one row added: one request per call of the chain", lambda b: b.rows([*plain, "more"]), 3),
        ("one row of the input changed in place", edit("rows.jsonl", 'question 7"', 'quastion 7"'), 3),
        ("model name", edit("params.yaml", "name: m,", "name: m2,"), 3 * (size + 1)),
        ("sampling", edit("params.yaml", "max_tokens: 256", "max_tokens: 257"), 3 * (size + 1)),
        ("system prompt of the last stage", edit("prompts/third.j2", "{% block user", brief + "{% block user"), size + 1),
        ("base_url and concurrency (identity unchanged)", edit("params.yaml", "concurrency: 64", "concurrency: 32"), 0),
        ("the prompt back to what it was", edit("prompts/third.j2", brief, ""), 0),
        ("op's file and name changed, its meaning not", rename_op, 0),
        ("recipe renamed", rename_recipe, 0),
        ("killed half-way, prompt edited, resumed: no mixed file", killed_and_edited, size + 1),
    ]  # fmt: skip


def rename_op(bench: Bench) -> None:
    """`turn` becomes `ask_again`."""
    (bench.made.root / "ops/turn.py").rename(bench.made.root / "ops/ask_again.py")
    bench.made.edit("ops/ask_again.py", "def turn(", "def ask_again(")
    path = bench.made.root / "recipes/one/recipe.yaml"
    path.write_text(path.read_text().replace("op: turn", "op: ask_again"))


def rename_recipe(bench: Bench) -> None:
    """`one` becomes `two`; its data and locks are left behind."""
    (bench.made.root / "recipes/one").rename(bench.made.root / "recipes/two")
    for name in ("dvc.yaml", "dvc.lock", "resolved.yaml"):
        (bench.made.root / "recipes/two" / name).unlink()
    bench.recipe = "two"


def killed_and_edited(bench: Bench) -> None:
    """The last stage is killed while it asks under one prompt, then the prompt is edited."""
    bench.made.edit("prompts/third.j2", "Finally:", "Abandoned:")
    bench.made.run("drp", "compile")
    reset(bench.server.url)
    stage = ("drp", "stage", bench.recipe, "c")
    process = subprocess.Popen(stage, cwd=bench.made.root, env=bench.made.env(), start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    while bench.server.stats().requests < bench.size // 4 and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    bench.made.edit("prompts/third.j2", "Abandoned:", "In the end:")


def rows(size: int = 100) -> Iterator[Row]:
    """A row for each cell."""
    with serving(0.02) as server, scratch("stages: {}\n", server.url, dvc=True) as made:
        bench = Bench(made, server, size)
        made.write("recipes/one/recipe.yaml", RECIPE)
        assert bench.repro() == 3 * size
        for what, change, worth in cells(size):
            change(bench)
            asked, stale = bench.repro(), bench.stale()
            yield Row(what, f"{asked} requests, {stale} stale rows", "", f"{worth}, 0 stale", (asked, stale) == (worth, 0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100)
    given = parser.parse_args()
    show(rows(given.rows))
