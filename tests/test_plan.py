"""The plan against what then happens: real DVC, a loopback server that counts, edits of every kind."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.projects import Project_, project, stop

RECIPE = """\
stages:
  a: {op: load, source: data.jsonl, question: q, answer: a}
  b: {op: generate, from: a, model: m, prompt: say, samples: 1}
  c: {op: echo, from: b, model: m, prompt: again}
  d: {op: shout, from: c, times: 1}
  n: {op: tally, from: [b, d]}
"""
ECHO = '''
    """Ask a model about what it said."""
    from collections.abc import Iterable, Iterator
    from typing import Annotated, TypedDict
    from drp.op import Kept, Model, Outcome, Prompt, Record, Supplies, Talk, Work

    VERSION = 1

    class Adds(TypedDict):
        text: str

    def echo(records: Iterable[Record], work: Work, *, model: Model, prompt: Annotated[Prompt, Supplies("said")]) -> Iterator[Outcome]:
        # a comment
        def talk(record: Record) -> Talk:
            [done] = yield [model.request(prompt.render(said=record["response"]))]
            return Kept({**record, "text": done.text})
        return work.ask(model, records, talk)
    '''


class Counting(ThreadingHTTPServer):
    """An OpenAI-compatible server that answers with the prompt turned round, and remembers every prompt.

    Who asks after the first `most` waits at the gate.
    """

    prompts: list[str]
    most: int
    gate: threading.Event


class _Handler(BaseHTTPRequestHandler):
    server: Counting

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        self.server.prompts.append(prompt)
        if len(self.server.prompts) > self.server.most:
            self.server.gate.wait()
        reply = {
            "id": "1", "object": "chat.completion", "created": 0, "model": "served-model",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": prompt[::-1]}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30},
        }  # fmt: skip
        data = json.dumps(reply).encode()
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except ConnectionError:  # who asked was killed
            return

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Counting]:
    made = Counting(("127.0.0.1", 0), _Handler)
    made.prompts, made.most, made.gate = [], 1_000_000, threading.Event()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.gate.set()
    made.shutdown()
    made.server_close()
    thread.join()


def _project(tmp_path: Path, server: Counting, rows: int = 4, recipe: str = RECIPE) -> Project_:
    made = project(tmp_path / "p", recipe)
    url = f"http://127.0.0.1:{server.server_port}/v1"
    made.write(
        "params.yaml",
        f"""
        models:
          m: {{name: some-model, sampling: {{temperature: 0.0, max_tokens: 100}}}}
        run:
          m: {{backend: openai, base_url: "{url}", concurrency: 2}}
        """,
    )
    made.write("ops/echo.py", ECHO)
    made.write("prompts/say.j2", "Say this.\n{{ question }}\n{% include '_how.j2' %}\n")
    made.write("prompts/_how.j2", "loudly\n")
    made.write("prompts/again.j2", "Again: {{ said }}\n")
    _rows(made, rows)
    return made


def _rows(made: Project_, count: int) -> None:
    made.write("data.jsonl", "".join(json.dumps({"q": f"question {k}?", "a": str(k)}) + "\n" for k in range(count)))


class Told:
    """The plan of a project, as `--json` says it."""

    def __init__(self, made: Project_, *names: str) -> None:
        self.plain: dict[str, Any] = json.loads(made.run("drp", "plan", *names, "--json"))
        self.stages = {f"{s['recipe']}:{s['stage']}": s for s in self.plain["stages"]}

    def states(self, *states: str) -> set[str]:
        return {name for name, s in self.stages.items() if s["state"] in states}

    def why(self, name: str) -> list[dict[str, Any]]:
        return [r for r in self.stages[name]["reasons"] if r["kind"] != "upstream"]

    def asked(self, name: str) -> tuple[int, int | None, int]:
        """New at least, new at most, stored."""
        found = self.stages[name]["completions"]
        return found["new"], found["most"], found["stored"]


def _carry_out(made: Project_, server: Counting) -> Told:
    """Plan, hold the plan against `dvc status`, run, and hold it against what ran and what was asked."""
    planned = Told(made)
    sent = len(server.prompts)
    made.run("drp", "compile")
    reported = made.run("dvc", "status", "--json", "-R", "recipes")
    status = json.loads(reported[reported.index("{") :])
    changed = {name.replace("recipes/", "").replace("/dvc.yaml", "") for name in status}
    if not planned.states("from cache"):  # what comes back from there is not in `dvc status`, which does not look ahead
        assert {name for name in planned.stages if planned.why(name)} <= changed <= planned.states("will run", "may run")
    ran = set(made.ran(made.run("dvc", "repro", "-R", "recipes")))
    assert planned.states("will run") <= ran <= planned.states("will run", "may run")
    totals = planned.plain["totals"]["completions"]
    assert totals["complete"]
    assert totals["new"] <= len(server.prompts) - sent <= totals["most"]
    after = Told(made)
    assert after.states("up to date") == set(after.stages), "after the run there is nothing to do"
    return planned


def test_a_plan_is_what_then_happens_edit_by_edit(tmp_path: Path, server: Counting) -> None:
    made = _project(tmp_path, server)
    first = _carry_out(made, server)
    assert first.states("will run") == set(first.stages)
    assert first.asked("one:b") == (4, 4, 0), "its input does not exist yet, and is known all the same"
    assert first.asked("one:c") == (0, 4, 0), "what it will ask hangs on what b is answered"
    assert len(server.prompts) == 8
    assert made.run("drp", "plan").startswith("nothing to do: 6 stages: 6 up to date")

    made.edit("recipes/one/recipe.yaml", "times: 1", "times: 2")
    told = _carry_out(made, server)
    changed = {"kind": "param", "file": "recipes/one/recipe.yaml", "key": "stages.d.times", "old": 1, "new": 2}
    assert told.why("one:d") == [changed]
    assert told.states("will run") == {"one:d"}
    assert told.states("may run") == {"one:n", "one:counts"}

    made.edit("recipes/one/recipe.yaml", "times: 2", "times: 1")
    back = _carry_out(made, server)
    assert back.states("from cache") == {"one:d", "one:counts"}, "DVC's run cache has them"
    assert back.states("will run", "may run") == {"one:n"}, "but no report, which it never keeps"

    made.edit("params.yaml", "temperature: 0.0", "temperature: 0.7")
    warm = _carry_out(made, server)
    leaf = {"kind": "param", "file": "params.yaml", "key": "models.m.sampling.temperature", "old": 0.0, "new": 0.7}
    assert warm.why("one:b") == warm.why("one:c") == [leaf]
    assert warm.asked("one:b") == (4, 4, 0)
    assert len(server.prompts) == 16

    made.edit("params.yaml", "concurrency: 2", "concurrency: 3, timeout: 9")
    assert made.run("drp", "plan").startswith("nothing to do"), "how a model is reached is no reason"

    made.edit("ops/echo.py", "# a comment", "# another comment")
    assert made.run("drp", "plan").startswith("nothing to do"), "nor is a comment"
    made.edit("ops/echo.py", '{**record, "text"', '{"seen": None, **record, "text"')
    made.edit("ops/echo.py", '{"seen": None, **record', "{**dict(record)")
    code = _carry_out(made, server)
    [reason] = code.why("one:c")
    assert (reason["kind"], reason["op"], reason["what"]) == ("code", "echo", "code")
    assert code.asked("one:c") == (0, 0, 4)
    made.edit("ops/shout.py", "VERSION = 1", "VERSION = 2")
    assert [(r["op"], r["what"]) for r in _carry_out(made, server).why("one:d")] == [("shout", "version")]

    (made.root / "data/one/d.parquet").unlink()
    lost = _carry_out(made, server)
    assert lost.why("one:d") == [{"kind": "output", "path": "data/one/d.parquet", "fate": "missing"}]
    assert lost.states("from cache") == {"one:d"}


def test_one_row_more_is_one_completion_more_at_each_stage(tmp_path: Path, server: Counting) -> None:
    made = _project(tmp_path, server)
    made.repro()
    _rows(made, 5)
    told = Told(made)
    [reason] = told.why("one:a")
    assert (reason["kind"], reason["path"]) == ("input", "data.jsonl")
    assert reason["new_size"] > reason["old_size"]
    assert told.states("will run") == {"one:a"}
    assert told.asked("one:b") == (1, 1, 4), "four questions are the same"
    assert told.asked("one:c") == (0, 1, 4), "and so are what was said to them; the fifth will be one more"
    made.run("dvc", "repro", "recipes/one/dvc.yaml:b")
    assert len(server.prompts) == 9
    assert Told(made).asked("one:c") == (1, 1, 4)
    made.repro()
    assert len(server.prompts) == 10


def test_a_prompt_that_was_never_committed_shows_its_lines(tmp_path: Path, server: Counting) -> None:
    made = _project(tmp_path, server)
    made.edit("prompts/say.j2", "Say this.", "Tell this.")
    made.repro()
    made.edit("prompts/say.j2", "Tell this.", "Sing this.")
    made.edit("prompts/_how.j2", "loudly", "softly")
    told = Told(made)
    lines = {r["path"]: (r["origin"], [x for x in r["lines"] if x[0] in "+-"]) for r in told.why("one:b")}
    assert lines == {
        "prompts/say.j2": ("store", ["-Tell this.", "+Sing this."]),
        "prompts/_how.j2": ("store", ["-loudly", "+softly"]),
    }
    text = made.run("drp", "plan", "one")
    assert "-Tell this." in text
    assert "one:c" not in told.states("up to date")
    _carry_out(made, server)


def test_a_prompts_old_lines_are_found_in_git_or_it_is_said_that_they_are_lost(tmp_path: Path, server: Counting) -> None:
    made = _project(tmp_path, server)
    made.repro()
    made.commit()
    made.edit("prompts/say.j2", "Say this.", "Sing this.")
    made.commit()
    (made.root / ".dvc/cache/drp/completions.sqlite").unlink()
    [reason] = Told(made).why("one:b")
    assert (reason["origin"], reason["lines"][1]) == ("git", "-Say this.")
    made.repro()
    made.edit("prompts/say.j2", "Sing this.", "Hum this.")
    made.repro()
    (made.root / ".dvc/cache/drp/completions.sqlite").unlink()
    made.edit("prompts/say.j2", "Hum this.", "Say it.")
    [reason] = Told(made).why("one:b")
    assert "lines" not in reason
    assert "neither in the store nor in git" in made.run("drp", "plan")


def test_what_was_paid_before_a_kill_is_not_planned_again(tmp_path: Path, server: Counting) -> None:
    made = _project(tmp_path, server, rows=40)
    made.run("drp", "compile")
    server.most = 15
    running = made.start("dvc", "repro", "recipes/one/dvc.yaml:b")
    while len(server.prompts) <= server.most:
        time.sleep(0.05)
    new, most, stored = Told(made).asked("one:b")
    assert new == most == 40 - stored, "a plan can be made while a stage runs"
    assert stored > 10
    stop(running, signal.SIGKILL)
    running.wait()
    server.most = 1_000_000
    server.gate.set()
    time.sleep(0.5)
    new, most, stored = Told(made).asked("one:b")
    assert new == most == 40 - stored
    assert 10 < stored <= 15
    sent = len(server.prompts)
    made.run("dvc", "repro", "recipes/one/dvc.yaml:b")
    assert len(server.prompts) - sent == new


def test_a_plan_leaves_no_trace(tmp_path: Path, server: Counting) -> None:
    def files() -> dict[Path, tuple[int, int]]:
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in made.root.rglob("*") if "__pycache__" not in p.parts}

    made = _project(tmp_path, server)
    made.run("drp", "compile")
    before = files()
    made.run("drp", "plan")
    assert files() == before
    made.repro()
    made.edit("params.yaml", "name: some-model", "name: other-model")
    before, sent = files(), len(server.prompts)
    assert Told(made).asked("one:b") == (4, 4, 0)
    assert files() == before
    assert len(server.prompts) == sent


def test_money_tokens_and_time_go_by_what_was_seen_and_a_budget_that_is_too_small_is_said(
    tmp_path: Path, server: Counting
) -> None:
    made = _project(tmp_path, server)
    assert "no price" in made.run("drp", "plan")
    price = "{prompt: 1000000, completion: 1000000, date: '2026-01-01', source: a list}"
    made.edit("params.yaml", "run:", f"prices:\n  m: {price}\nrun:")
    [first] = Told(made).stages["one:b"]["completions"]["models"]
    assert first["new"]["length"] == "limit", "nothing was answered yet: at most max_tokens"
    assert first["new"]["completion_tokens"] == 400
    assert first["new"]["seconds"] is None
    made.repro()
    made.edit("recipes/one/recipe.yaml", "stages:", "budget: 260\nstages:")
    made.edit("prompts/_how.j2", "loudly", "softly")
    told = Told(made)
    [model] = told.stages["one:b"]["completions"]["models"]
    assert 30 <= model["new"]["prompt_tokens"] <= 50, "ten each, more or less: by the characters of prompts that were counted"
    assert (model["new"]["completion_tokens"], model["new"]["length"]) == (80, "stage")
    assert (model["new"]["cost"], model["new"]["currency"]) == (80 + model["new"]["prompt_tokens"], "USD")
    assert model["new"]["seconds"] > 0
    [budget] = told.plain["budgets"]
    assert (budget["amount"], budget["spent"], budget["new"], budget["exceeded"]) == (260, 240, model["new"]["cost"], True)
    assert "would exceed the budget" in made.run("drp", "plan")


def test_a_recipe_is_planned_with_what_it_is_made_from_and_nothing_else(tmp_path: Path, server: Counting) -> None:
    made = _project(tmp_path, server)
    made.write("recipes/two/recipe.yaml", "extends: one\nstages:\n  d: {times: 3}\n")
    made.write("recipes/three/recipe.yaml", "stages:\n  z: {op: make}\n")
    made.run("drp", "compile")
    assert set(Told(made, "two").stages) >= {"one:a", "one:b", "one:c", "two:d"}
    assert not {name for name in Told(made, "two").stages if name.startswith("three")}
    assert "did you mean 'two'?" in made.run("drp", "plan", "twoo", code=2)


def test_a_recipe_that_is_not_compiled_is_planned_as_if_it_were(tmp_path: Path, server: Counting) -> None:
    made = _project(tmp_path, server)
    made.repro()
    made.edit(
        "recipes/one/recipe.yaml", "d: {op: shout, from: c, times: 1}", "d: {op: shout, from: c}\n  e: {op: shout, from: d}"
    )
    told = Told(made)
    assert told.plain["stale"] == ["recipes/one/resolved.yaml", "recipes/one/dvc.yaml"]
    gone = {"kind": "param", "file": "recipes/one/recipe.yaml", "key": "stages.d.times", "old": 1}
    assert told.why("one:d") == [gone]
    assert told.why("one:e") == [{"kind": "new"}]
    assert "drp compile" in made.run("drp", "plan")


JUDGED = """\
stages:
  a: {op: load, source: data.jsonl, question: q, answer: a}
  b: {op: generate, from: a, model: m, prompt: say}
  v: {op: verify, from: b, keep: all, verifier: exact}
  c: {op: echo, from: v, model: m, prompt: again}
  s: {op: evaluate, models: {m: m}, on: a, prompt: say, cutoff: 50, runs: 2, verifier: exact}
"""


def test_what_was_judged_is_known_and_what_would_be_judged_is_not_waited_for(tmp_path: Path, server: Counting) -> None:
    made = _project(tmp_path, server, recipe=JUDGED)
    told = Told(made)
    assert told.asked("one:s") == (8, 8, 0)
    assert told.stages["one:c"]["completions"]["basis"] == "none", "nothing was ever verified"
    assert "completions unknown until one/v has run" in made.run("drp", "plan")
    made.repro()
    _rows(made, 5)
    told = Told(made)
    assert told.asked("one:c") == (0, 1, 4), "four were verified before, and come to it as they were"
    assert told.asked("one:s") == (2, 2, 8)
    made.run("dvc", "repro", "recipes/one/dvc.yaml:b")
    assert Told(made).asked("one:c") == (0, 1, 4), "what they were verified from is in DVC's cache"
    made.edit("recipes/one/recipe.yaml", "runs: 2, verifier: exact", "runs: 2, verifier: math")
    assert Told(made).asked("one:s") == (2, 2, 8)
    _carry_out(made, server)
    made.edit("prompts/_how.j2", "loudly", "softly")
    assert Told(made).asked("one:c") == (0, 5, 0), "every one of them may be another"
    _carry_out(made, server)
