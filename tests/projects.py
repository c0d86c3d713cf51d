"""Temporary projects for tests: a real git repository, real DVC, small ops of the project's own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests import forked

BIN = Path(sys.executable).parent

OPS = {
    "make": '''
        """Make numbered records."""
        from collections.abc import Iterator
        from typing import TypedDict
        from drp.op import Kept, Outcome, Work

        VERSION = 1

        class Adds(TypedDict):
            id: str
            text: str

        def make(work: Work, *, size: int = 3, word: str = "w") -> Iterator[Outcome]:
            # a comment
            for k in range(size):
                yield Kept({"id": f"{k:03d}", "text": f"{word}{k}"})
        ''',
    "shout": '''
        """Write the text in capitals, or drop it."""
        import os, time
        from collections.abc import Iterable, Iterator
        from drp.op import Dropped, Kept, Outcome, Record, Work

        VERSION = 1

        def shout(records: Iterable[Record], work: Work, *, times: int = 1, drop: str = "", nap: float = 0.0) -> Iterator[Outcome]:
            for record in records:
                with open(os.environ.get("RUNS", os.devnull), "a") as log:
                    log.write(record["id"] + "\\n")
                if not os.path.exists(os.environ.get("RUNS", "") + ".awake"):
                    time.sleep(nap)
                if drop and drop in record["text"]:
                    yield Dropped(record, "unwanted", f"has {drop}")
                else:
                    yield Kept({**record, "text": record["text"].upper() * times})
        ''',
    "ask": '''
        """Ask a model about each text."""
        from collections.abc import Iterable, Iterator
        from typing import Annotated, TypedDict
        from drp.op import Kept, Model, Outcome, Prompt, Record, Supplies, Talk, Work

        VERSION = 1

        class Adds(TypedDict):
            reply: str

        def ask(records: Iterable[Record], work: Work, *, model: Model, prompt: Annotated[Prompt, Supplies("text")]) -> Iterator[Outcome]:
            def talk(record: Record) -> Talk:
                [done] = yield [model.request(prompt.render(text=record["text"]))]
                return Kept({**record, "reply": done.text})
            return work.ask(model, records, talk)
        ''',
    "tally": '''
        """Count records."""
        from drp.op import Inputs, Report, Work

        VERSION = 1

        def tally(inputs: Inputs, work: Work, *, title: str = "n") -> Report:
            counts = {name: sum(1 for _ in rows) for name, rows in inputs.items()}
            table = "\\n".join(["| set | n |", "|---|---|", *(f"| {k} | {v} |" for k, v in counts.items())])
            return Report({"count": counts}, table, [{"set": k, "n": v} for k, v in counts.items()])
        ''',
}

RECIPE = """\
description: a small recipe
stages:
  a: {op: make, size: 3}
  b: {op: shout, from: a, times: 1}  # a comment
  c: {op: shout, from: b, times: 2}
  n: {op: tally, from: [b, c]}
"""


class Project_:
    """A temporary project with helpers to run drp, dvc and git in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs = root.parent / f"{root.name}-runs.log"

    def env(self) -> dict[str, str]:
        """The environment of commands: this interpreter's scripts first; runs of `shout` are counted."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "GIT_"))}
        return {**clean, "PATH": f"{BIN}:{os.environ['PATH']}", "RUNS": str(self.runs), "DVC_NO_ANALYTICS": "1",
                "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_COMMITTER_NAME": "t",
                "GIT_COMMITTER_EMAIL": "t@example.org"}  # fmt: skip

    def wake(self) -> None:
        """From now on `shout` naps no more, neither where it runs nor where it is yet to run."""
        Path(f"{self.runs}.awake").touch()

    def start(self, *command: str) -> subprocess.Popen[str]:
        """A command in the background, in a process group of its own."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.env(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, *command: str, code: int | None = 0) -> str:
        """A command's output; its exit code must be `code` (None: any)."""
        if command[0] == "dvc":
            said, ended = forked.dvc(command[1:], self.root, self.env())
        else:
            done = subprocess.run(
                command,
                cwd=self.root,
                env=self.env(),
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=1800,
                check=False,
            )
            said, ended = done.stdout, done.returncode
        assert code is None or ended == code, f"{command} exited {ended}:\n{said}"
        return said

    def write(self, path: str, text: str) -> Path:
        """A file of the project."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
        return file

    def write_rows(self, path: str, rows: Iterable[Mapping[str, object]]) -> Path:
        """A JSONL file of the project."""
        return self.write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in a file; it must be there."""
        file = self.root / path
        text = file.read_text(encoding="utf-8")
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    def repro(self, *arguments: str, code: int | None = 0) -> list[str]:
        """Compile, reproduce everything, and name the stages that ran (`recipe:stage`)."""
        self.run("drp", "compile")
        return self.ran(self.run("dvc", "repro", "-R", "recipes", *arguments, code=code))

    @staticmethod
    def ran(output: str) -> list[str]:
        """The stages that dvc ran, from its output."""
        import re

        return [f"{m[1]}:{m[2]}" for m in re.finditer(r"Running stage 'recipes/([^/]+)/dvc\.yaml:([^']+)'", output)]

    def commit(self, words: str = "more") -> None:
        """Everything into git."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", words)


def stop(process: "subprocess.Popen[str]", number: int = signal.SIGKILL) -> None:
    """Send a signal to a process's whole group, if it is still there."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


def project(root: Path, recipe: str = RECIPE, name: str = "one", dvc: bool = True) -> Project_:
    """A project with one recipe, the small ops, a prompt and a params.yaml."""
    made = Project_(root)
    root.mkdir(parents=True, exist_ok=True)
    for op, text in OPS.items():
        made.write(f"ops/{op}.py", text)
    made.write("params.yaml", "models: {}\nrun: {}\n")
    made.write("prompts/say.j2", "Say {{ text }}.\n")
    made.write(f"recipes/{name}/recipe.yaml", recipe)
    made.write(".gitignore", "/data/\n/models/\n__pycache__/\n")
    made.write(".dvcignore", "__pycache__\n*.pyc\n")
    if dvc:
        begin(made)
        made.commit("begin")
    return made


def begin(made: Project_) -> None:
    """What `git init` and `dvc init` leave; they ran once, in an empty folder, and each project gets a copy."""
    shutil.copytree(_begun().name, made.root, dirs_exist_ok=True)


@cache
def _begun() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory(prefix="drp-begun-")
    made = Project_(Path(folder.name))
    made.run("git", "init", "-q", "-b", "main")
    made.run("dvc", "init", "-q")
    (made.root / ".dvcignore").unlink()  # each has its own
    return folder
