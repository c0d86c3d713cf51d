"""Throw-away projects for benchmarks: rows, a stage that asks once or twice a row, a loopback server as their model."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.projects import Project_, project

OPS = {
    "rows": '''
        """Make rows, each with a question of half a kilobyte."""
        from collections.abc import Iterator
        from typing import TypedDict
        from drp.op import Kept, Outcome, Work

        VERSION = 1

        class Adds(TypedDict):
            id: str
            text: str

        def rows(work: Work, *, size: int = 3, word: str = "") -> Iterator[Outcome]:
            for k in range(size):
                yield Kept({"id": f"{k:08d}", "text": f"{word}Question {k}: " + "What is to be done with so many numbers? " * 12})
        ''',
    "chain": '''
        """Two calls a row: the second sees the answer to the first."""
        from collections.abc import Iterable, Iterator
        from typing import Annotated, TypedDict
        from drp.op import Dropped, Kept, Model, Outcome, Prompt, Record, Supplies, Talk, Work

        VERSION = 1

        class Adds(TypedDict):
            reply: str

        def chain(records: Iterable[Record], work: Work, *, model: Model, first: Annotated[Prompt, Supplies("text")],
                  second: Annotated[Prompt, Supplies("text")]) -> Iterator[Outcome]:
            def talk(record: Record) -> Talk:
                [one] = yield [model.request(first.render(text=record["text"]))]
                [two] = yield [model.request(second.render(text=one.text))]
                if two.finish != "stop":
                    return Dropped(record, "no-completion", two.error)
                return Kept({**record, "reply": two.text})
            return work.ask(model, records, talk)
        ''',
}
ROOT = Path(__file__).parents[1]
PARAMS = """\
models:
  m: {{name: m, sampling: {{max_tokens: 256}}}}
run:
  m: {{backend: openai, base_url: "{url}", concurrency: 64}}
"""


class Timed(NamedTuple):
    """What a command took: seconds of wall clock for the whole process, and its largest resident set in MiB."""

    seconds: float
    peak: float


@contextmanager
def scratch(recipe: str, url: str = "http://127.0.0.1:9/v1", dvc: bool = False) -> Iterator[Project_]:
    """A compiled project with one recipe `one`, its completion store inside it; gone at the end."""
    with TemporaryDirectory(prefix="drp-bench-") as folder:
        made = project(Path(folder) / "p", recipe, dvc=dvc)
        for op, text in OPS.items():
            made.write(f"ops/{op}.py", text)
        made.write("params.yaml", PARAMS.format(url=url))
        made.write("prompts/ask.j2", "{{ text }}")
        made.write("prompts/first.j2", "Draft an answer. {{ text }}")
        made.write("prompts/second.j2", "Improve this draft: {{ text }}")
        made.run("drp", "compile")
        yield made


LAUNCH = """
import json, os, sys, time
began = time.perf_counter()
pid = os.fork()
if not pid:
    os.execvp(sys.argv[2], sys.argv[2:])
_, status, used = os.wait4(pid, 0)
took = [time.perf_counter() - began, used.ru_maxrss / 1024]
with open(sys.argv[1], "w") as file:
    json.dump(took, file)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""A small process between: a child's peak begins at what its parent held when it forked."""


def timed(made: Project_, *command: str, **environment: str) -> Timed:
    """Run a command in the project, and measure it; its output is shown where it fails."""
    out = made.root.parent / "took.json"
    launch = (sys.executable, "-S", "-c", LAUNCH, str(out), *command)
    done = subprocess.run(
        launch, cwd=made.root, env={**made.env(), **environment}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(command)} exited {done.returncode}:\n{done.stdout}")
    return Timed(*json.loads(out.read_text()))
