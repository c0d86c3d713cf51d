"""drp at the task: one stage of two calls a row, as a process of its own, from its input's Parquet to its output's."""

import json
import time

from benchmarks.peers.task import REVIEW, given, report
from benchmarks.scratch import scratch, timed
from drp.records import read

RECIPE = """\
stages:
  questions: {op: load, source: rows.jsonl, question: question, answer: answer}
  texts: {op: text, from: questions}
  answers: {op: chain, from: texts, model: m, first: first, second: second}
"""
TEXT = '''
    """Give each record its question as text."""
    from collections.abc import Iterable, Iterator
    from typing import TypedDict
    from drp.op import Kept, Outcome, Record, Work

    VERSION = 1

    class Adds(TypedDict):
        text: str

    def text(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
        for record in records:
            yield Kept({**record, "text": record["question"]})
    '''


def main() -> None:
    """Run the task."""
    task = given()
    questions = task.questions(calls=2)
    with scratch("stages: {}\n", task.url) as made:
        made.write("ops/text.py", TEXT)
        made.write("prompts/first.j2", "{{ text }}")
        made.write("prompts/second.j2", REVIEW + "{{ text }}")
        made.write("rows.jsonl", "\n".join(json.dumps({"question": q, "answer": str(n)}) for n, q in enumerate(questions)))
        made.write("recipes/one/recipe.yaml", RECIPE)
        made.run("drp", "compile")
        for stage in ("questions", "texts"):
            timed(made, "drp", "stage", "one", stage)
        started = time.perf_counter()
        timed(made, "drp", "stage", "one", "answers")
        seconds = time.perf_counter() - started
        answers = [(record["question"], record["reply"]) for record in read(made.root / "data/one/answers.parquet")]
    report("drp", "drp", seconds, 2, answers)


if __name__ == "__main__":
    main()
