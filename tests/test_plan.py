"""The plan against what then happens: real DVC, a loopback server that counts, edits of every kind."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drp.backends import Answer, Ask
from drp.models import Completion, Endpoint, Message, Model, Sampling
from drp.pipeline import texts, yamlfile
from drp.pipeline.pace import Stopwatch
from drp.store.completions import Owner, Store
from drp.store.peek import peek
from tests.projects import Project_, project, stop
from tests.servers import Remembering

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


@pytest.fixture
def server() -> Iterator[Remembering]:
    """It answers with the prompt turned round."""
    with Remembering(lambda prompt: prompt[::-1], tokens=(10, 20)) as made:
        yield made


def _project(tmp_path: Path, server: Remembering, rows: int = 4, recipe: str = RECIPE) -> Project_:
    made = project(tmp_path / "p", recipe)
    made.write(
        "params.yaml",
        f"""
        models:
          m: {{name: some-model, sampling: {{temperature: 0.0, max_tokens: 100}}}}
        run:
          m: {{backend: openai, base_url: "{server.url}", concurrency: 2}}
        """,
    )
    made.write("ops/echo.py", ECHO)
    made.write("prompts/say.j2", "Say this.\n{{ question }}\n{% include '_how.j2' %}\n")
    made.write("prompts/_how.j2", "loudly\n")
    made.write("prompts/again.j2", "Again: {{ said }}\n")
    _rows(made, rows)
    return made


def _rows(made: Project_, count: int) -> None:
    made.write_rows("data.jsonl", [{"q": f"question {k}?", "a": str(k)} for k in range(count)])


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


def _carry_out(made: Project_, server: Remembering) -> Told:
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


def test_a_plan_is_what_then_happens_edit_by_edit(tmp_path: Path, server: Remembering) -> None:
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


def test_one_row_more_is_one_completion_more_at_each_stage(tmp_path: Path, server: Remembering) -> None:
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


def test_a_prompt_that_was_never_committed_shows_its_lines(tmp_path: Path, server: Remembering) -> None:
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


def test_a_prompts_old_lines_are_found_in_git_or_it_is_said_that_they_are_lost(tmp_path: Path, server: Remembering) -> None:
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


def test_what_was_paid_before_a_kill_is_not_planned_again(tmp_path: Path, server: Remembering) -> None:
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


def test_a_plan_leaves_no_trace(tmp_path: Path, server: Remembering) -> None:
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
    tmp_path: Path, server: Remembering
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
    assert budget["left"] == 20
    assert budget["worst"] > 100, "max_tokens, and the prompt's bytes"
    assert "what is left is less than a request may cost" in made.run("drp", "plan")


def test_a_recipe_is_planned_with_what_it_is_made_from_and_nothing_else(tmp_path: Path, server: Remembering) -> None:
    made = _project(tmp_path, server)
    made.write("recipes/two/recipe.yaml", "extends: one\nstages:\n  d: {times: 3}\n")
    made.write("recipes/three/recipe.yaml", "stages:\n  z: {op: make}\n")
    made.run("drp", "compile")
    assert set(Told(made, "two").stages) >= {"one:a", "one:b", "one:c", "two:d"}
    assert not {name for name in Told(made, "two").stages if name.startswith("three")}
    assert "did you mean 'two'?" in made.run("drp", "plan", "twoo", code=2)


def test_a_recipe_that_is_not_compiled_is_planned_as_if_it_were(tmp_path: Path, server: Remembering) -> None:
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


def test_what_was_judged_is_known_and_what_would_be_judged_is_not_waited_for(tmp_path: Path, server: Remembering) -> None:
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


PARSE = '''
    """Take the numbers out of a reply."""
    import json
    from collections.abc import Iterable, Iterator
    from typing import Annotated
    from drp.op import Kept, Model, Outcome, Prompt, Record, Supplies, Talk, Work

    VERSION = 1
    NEEDS = ("text",)

    def parse(records: Iterable[Record], work: Work, *, model: Model, prompt: Annotated[Prompt, Supplies("said")]) -> Iterator[Outcome]:
        def talk(record: Record) -> Talk:
            [done] = yield [model.request(prompt.render(said=record["text"]))]
            return Kept({**record, "text": json.loads(done.text)[0]["x"]})
        return work.ask(model, records, talk)
    '''


def test_an_op_that_fails_on_what_is_not_known_does_not_end_the_plan(tmp_path: Path, server: Remembering) -> None:
    made = _project(
        tmp_path, server, recipe=RECIPE.replace("op: shout, from: c, times: 1", "op: parse, from: c, model: m, prompt: again")
    )
    made.write("ops/parse.py", PARSE)
    told = Told(made)
    assert told.asked("one:b") == (4, 4, 0)
    made.edit("recipes/one/recipe.yaml", "op: echo, from: b", "op: parse, from: v")
    made.edit("recipes/one/recipe.yaml", "  c:", "  v: {op: reshape, from: b}\n  c:")
    made.write(
        "ops/reshape.py",
        """
        'Name a column.'
        from collections.abc import Iterable, Iterator
        from typing import TypedDict
        from drp.op import Kept, Outcome, Record, Work

        VERSION = 1

        class Adds(TypedDict):
            text: str

        def reshape(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
            for record in records:
                yield Kept({**record, "text": record["response"]})
        """,
    )
    made.run("drp", "compile")
    made.run("dvc", "repro", "recipes/one/dvc.yaml:b")
    (made.root / "data/one/v.parquet").write_bytes((made.root / "data/one/b.parquet").read_bytes())
    told = Told(made)
    assert "lacks 'text'" in told.stages["one:c"]["completions"]["note"]
    (made.root / "data/one/v.parquet").unlink()
    made.run("dvc", "repro", "recipes/one/dvc.yaml:v")
    told = Told(made)
    assert told.asked("one:c") == (4, 4, 0), "json.loads on no answer at all: four are asked, what comes after is unknown"


def test_a_store_that_is_used_while_it_is_looked_at_is_looked_at_again(tmp_path: Path) -> None:
    path = tmp_path / "drp" / "completions.sqlite"
    model = Model("m", "some-model", Sampling(), Endpoint("rules"))
    requests = [model.request((Message("user", f"{k}" * 5000),)) for k in range(40)]
    store = Store(path)
    store.keep([(requests[0], Completion("0", "stop"))])
    store.close()
    before = sorted(path.parent.iterdir())
    seen = peek(path)
    assert seen is not None
    found = seen.get(requests[0])
    assert found is not None
    assert found.text == "0"
    assert seen.get(requests[39]) is None
    assert sorted(path.parent.iterdir()) == before
    store = Store(path)
    store.keep([(request, Completion("1", "stop")) for request in requests[1:]])
    store.close()  # the log is written back, and gone
    assert all(seen.get(request) for request in requests), "a whole stage ran meanwhile"
    store = Store(path)
    more = model.request((Message("user", "more"),))
    store.keep([(more, Completion("2", "stop"))])
    assert seen.get(more), "one runs"
    seen.close()
    store.close()


def test_without_git_a_prompt_has_no_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert texts.find(None, tmp_path, "prompts/say.j2", "0" * 32) is None


def test_a_lock_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    whole = "schema: '2.0'\nstages:\n  a: {cmd: x}\n  b: {cmd: y}\n"
    lock.write_text(whole[:30])  # YAML too
    writer = threading.Timer(0.03, lock.write_text, [whole])
    writer.start()
    assert set(yamlfile.locked(lock)["stages"]) == {"a", "b"}
    writer.join()
    lock.write_text("<<<<<<< HEAD\na: [")
    with pytest.raises(yamlfile.ConfigError, match="git checkout"):
        yamlfile.mapping(lock)


def test_the_clock_runs_while_requests_are_out_and_not_while_the_store_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    model, owner = Model("m", "some-model", Sampling(), Endpoint("rules")), Owner("one", "b")
    store = Store(tmp_path / "drp" / "completions.sqlite")
    requests = [model.request((Message("user", str(k)),)) for k in range(4)]

    class Slow:
        def complete(self, asks: Iterator[Ask | None]) -> Iterator[list[Answer]]:
            for ask in asks:
                now[0] += 2.0
                yield [Answer(ask.ticket, Completion("x", "stop"))] if ask else []

    def asks() -> Iterator[Ask]:
        for k, request in enumerate(requests):
            now[0] += 1000.0  # stored answers, a model that loads
            yield Ask(k, request)

    watch = Stopwatch(store, owner, model)
    for [answer] in watch.through(Slow(), asks()):
        store.keep([(requests[answer.ticket], answer.completion)], owner)
    now[0] += 1000.0
    watch.stop()
    assert store.rows("select asked, seconds from runs") == [(4, 8.0)]
    store.close()


HAND = """\
  whole:
    wdir: ../..
    cmd: [du -s data/one > du.txt, "echo ${flag}"]
    vars: [flags.yaml]
    deps: [data/one, kept]
    outs: [du.txt]
  inline:
    cmd: echo ${x}
    vars: [{x: 1}]
  toml:
    wdir: ../..
    cmd: echo toml
    params: [{settings.toml: [a]}]
"""


def test_a_hand_written_stage_reads_a_folder_of_outputs_or_is_named_as_not_looked_at(tmp_path: Path) -> None:
    made = project(tmp_path / "p", "stages:\n  a: {op: make, size: 3}\n")
    made.write("flags.yaml", "flag: true\n")
    made.write("settings.toml", "a = 1\n")
    made.write("kept/file.txt", "kept")
    with (made.root / ".dvcignore").open("a") as file:
        file.write("/kept/*.tmp\n")
    made.run("drp", "compile")
    pipeline = made.root / "recipes/one/dvc.yaml"
    pipeline.write_text(pipeline.read_text() + HAND)
    told = Told(made)
    assert told.plain["unread"] == ["recipes/one/dvc.yaml:inline", "recipes/one/dvc.yaml:toml"]
    upstream = [r for r in told.stages["one:whole"]["reasons"] if r["kind"] == "upstream"]
    assert upstream == [{"kind": "upstream", "stages": ["one/a"]}]
    made.repro()
    (made.root / "kept/x.tmp").write_text("ignored")
    told = Told(made)
    assert told.states("up to date") == set(told.stages)
    os.unlink(made.root / "data/one/a.parquet")
    assert Told(made).states("may run") >= {"one:whole"}, "what the folder will be is not known before it is back"
