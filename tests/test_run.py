"""`drp run`: refused when stale, the stage's own exit code, signals passed on, and stages side by side as if one by one."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from drp.pipeline.yamlfile import mapping
from drp.running.graph import Node, Schedule
from tests.projects import Project_, project

SLOW = """\
stages:
  a: {op: make, size: 20}
  b: {op: shout, from: a, nap: 0.1}
  c: {op: shout, from: b}
"""
WIDE = """\
stages:
  a: {op: make, size: 30}
  b: {op: shout, from: a, nap: 0.1}
  c: {op: shout, from: a, nap: 0.1, times: 2}
  d: {op: shout, from: b}
  n: {op: tally, from: [d, c]}
"""
FAIL = '''
    """Fail as told."""
    from collections.abc import Iterable, Iterator
    from drp import errors
    from drp.op import Outcome, Record, Work

    VERSION = 1

    def fail(records: Iterable[Record], work: Work, *, error: str) -> Iterator[Outcome]:
        raise getattr(errors, error)("as told")
        yield
    '''


def progress(made: Project_, stage: str, recipe: str = "one") -> dict[str, Any]:
    """What a stage said of itself; {} before it did."""
    path = made.root / f".dvc/tmp/drp/progress/{recipe}.{stage}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def started(made: Project_, process: "subprocess.Popen[str]", stage: str) -> dict[str, Any]:
    """The same once it works."""
    for _ in range(300):
        if (said := progress(made, stage)).get("state") == "running" and said["done"] > 2:
            return said
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        time.sleep(0.1)
    raise AssertionError(f"{stage} did not start")


def gone(pid: int) -> bool:
    """Whether a process has ended, within two seconds."""
    for _ in range(20):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.1)
    return False


def locked(made: Project_, recipe: str = "one") -> dict[str, Any]:
    """The stages of a recipe's lock."""
    found: dict[str, Any] = mapping(made.root / f"recipes/{recipe}/dvc.lock").get("stages", {})
    return found


# -- the door --------------------------------------------------------------------------------------------------------------


def test_it_makes_what_is_out_of_date_and_nothing_else(tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    made.run("drp", "compile")
    assert made.ran(made.run("drp", "run", "one:b")) == ["one:a", "one:b"]
    assert made.run("drp", "run", "one", "--dry").split("\n")[:-1] == [
        f"would run: recipes/one/dvc.yaml:{s}" for s in ("c", "n", "counts")
    ]
    assert made.ran(made.run("drp", "run", "one")) == ["one:c", "one:n", "one:counts"]
    assert made.ran(made.run("drp", "run", "one")) == []
    made.edit("recipes/one/recipe.yaml", "times: 2", "times: 3")
    assert "run if its input changes: recipes/one/dvc.yaml:n" in made.run("drp", "run", "one", "--dry")
    assert made.ran(made.run("drp", "run", "one")) == ["one:c", "one:n", "one:counts"]
    assert made.ran(made.run("drp", "run", "one", "--force", "one:c")) == ["one:c"]
    assert made.run("dvc", "status", "-q") == ""


def test_without_a_name_the_roots_own_pipeline_is_run_and_what_it_waits_for(tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    assert "name what to run (one)" in made.run("drp", "run", code=2)
    cmd = "cat data/one/a.manifest.json > last.txt"
    made.write("dvc.yaml", f"stages: {{last: {{cmd: {cmd}, deps: [data/one/a.manifest.json], outs: [last.txt]}}}}")
    made.run("drp", "compile")
    out = made.run("drp", "run")
    assert "Running stage 'last'" in out
    assert made.ran(out) == ["one:a"]
    made.edit("recipes/one/recipe.yaml", "size: 3", "size: 4")
    assert "2 stages made" in made.run("drp", "run", "-j", "2")


def test_an_unknown_recipe_or_stage_is_refused(tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    made.run("drp", "compile")
    assert "did you mean 'one'" in made.run("drp", "run", "ones", code=2)
    assert made.run("drp", "run", "one:zz", code=None)
    made.run("drp", "run", "one:zz", "-j", "2", code=2)
    made.run("drp", "run", "one", "-j", "0", code=2)


EDITS = [
    ("recipes/one/recipe.yaml", "from: b, times: 2}", "from: a, times: 2}"),
    ("ops/shout.py", ".upper()", ".title()"),
    ("helper.py", "WORD = 1", "WORD = 2"),
    ("recipes/one/dvc.yaml", "cmd: drp stage one a", "cmd: drp stage one  a"),
    ("recipes/one/resolved.yaml", "counts:", "count:"),
    ("prompts/_part.j2", "please", "please {% include '_more.j2' %}"),
    ("recipes/two/recipe.yaml", "", "extends: one\nstages:\n  c: {times: 7}\n"),
]


def test_what_is_stale_is_refused_at_the_door_with_the_cure_though_the_last_check_is_remembered(tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    made.write("helper.py", "WORD = 1\n")
    made.edit("ops/shout.py", "import os, time", "import os, time\nimport helper")
    made.edit("ops/shout.py", "time.sleep(nap)", "time.sleep(nap * helper.WORD)")
    made.write("params.yaml", "models: {m: {name: rules}}\nrun: {m: {backend: rules}}\n")
    made.write("prompts/say.j2", "{% include '_part.j2' %} {{ text }}\n")
    made.write("prompts/_part.j2", "please\n")
    made.write("prompts/_more.j2", "now\n")
    made.edit("recipes/one/recipe.yaml", "  n:", "  q: {op: ask, from: a, model: m, prompt: say}\n  n:")
    made.run("drp", "compile")
    made.run("drp", "run", "one:c")
    for path, old, new in EDITS:
        made.run("drp", "run", "one:c", "--dry")
        if old:
            made.edit(path, old, new)
        else:
            made.write(path, new)
        before = (made.root / "data/one/c.parquet").stat().st_mtime_ns
        assert "run `drp compile`" in made.run("drp", "run", "one:c", code=64), path
        assert (made.root / "data/one/c.parquet").stat().st_mtime_ns == before, "nothing was touched"
        made.run("drp", "compile", "--check", code=64)
        made.run("drp", "compile")


def test_a_copy_of_a_project_does_not_trust_what_was_remembered_of_the_original(tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    made.run("drp", "compile")
    made.run("drp", "run", "one:b")
    shutil.copytree(made.root, tmp_path / "q")
    copy = Project_(tmp_path / "q")
    copy.edit("recipes/one/recipe.yaml", "  c: {op: shout, from: b,", "  c: {op: shout, from: a,")
    assert "run `drp compile`" in copy.run("drp", "run", "one:c", code=64)
    assert "run `drp compile`" in copy.run("drp", "stage", "one", "c", code=64)


# -- how it ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "jobs"), [("BackendError", 69, "1"), ("InputsChanged", 65, "2"), ("StageLocked", 75, "1")]
)
def test_the_exit_code_is_the_stages_own_where_it_says_more(tmp_path: Path, error: str, code: int, jobs: str) -> None:
    made = project(tmp_path / "p", f"stages:\n  a: {{op: make}}\n  b: {{op: fail, from: a, error: {error}}}\n")
    made.write("ops/fail.py", FAIL)
    made.run("drp", "compile")
    assert "as told" in made.run("drp", "run", "one", "-j", jobs, code=code)
    assert (progress(made, "b")["state"], progress(made, "b")["exit_code"]) == ("failed", code)


LATE = """\
    import os
    from drp.project import Project
    from drp.running import dvc

    def after_its_end(timeout):
        [child] = running._children.values()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        return []

    running = dvc.Running(Project.here())
    running.start("repro", "recipes/one/dvc.yaml")
    running._selector.select = after_its_end
    running._next = 0.0
    child = running.wait()
    print(child.code, child.codes)
    """


def test_what_dvc_says_just_before_its_end_is_heard(tmp_path: Path) -> None:
    """Its last lines name the failed stage and its exit code; it may end between a look at its output and one at it."""
    made = project(tmp_path / "p", "stages:\n  a: {op: make}\n  b: {op: fail, from: a, error: StageLocked}\n")
    made.write("ops/fail.py", FAIL)
    made.run("drp", "compile")
    said = made.run(sys.executable, made.write("late.py", LATE).name)
    assert "as told" in said
    assert said.endswith("255 [75]\n")


@pytest.mark.parametrize(
    ("number", "code", "jobs"), [(signal.SIGINT, 130, "1"), (signal.SIGINT, 130, "2"), (signal.SIGTERM, 143, "1")]
)
def test_a_signal_is_passed_on_waited_for_and_nothing_is_published(
    tmp_path: Path, number: signal.Signals, code: int, jobs: str
) -> None:
    made = project(tmp_path / "p", SLOW)
    made.run("drp", "compile")
    process = made.start("drp", "run", "one", "-j", jobs)
    stage = started(made, process, "b")["pid"]
    os.kill(process.pid, number)
    process.communicate(timeout=20)
    assert process.returncode == code
    assert progress(made, "b")["state"] == "interrupted"
    assert gone(stage)
    assert not (made.root / "data/one/b.parquet").exists()
    assert not list((made.root / "data/one").glob("**/*.part"))
    assert set(locked(made)) == {"a"}
    made.wake()
    made.run("drp", "run", "one")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_killed_run_takes_dvc_and_the_stage_with_it(tmp_path: Path, jobs: str) -> None:
    made = project(tmp_path / "p", SLOW)
    made.run("drp", "compile")
    process = made.start("drp", "run", "one", "-j", jobs)
    stage = started(made, process, "b")["pid"]
    dvc = int(Path(f"/proc/{stage}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    assert gone(dvc)
    assert gone(stage)
    assert not (made.root / "data/one/b.parquet").exists()
    made.wake()
    assert made.ran(made.run("drp", "run", "one:c", "-j", jobs)) == ["one:b", "one:c"]


# -- what is shown ---------------------------------------------------------------------------------------------------------


def in_a_terminal(made: Project_, *command: str, type_: bytes = b"", after: str = "") -> tuple[str, int]:
    """A command's output and exit code in a terminal of 100 columns, where `type_` is typed once `after` is shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(made.root)
        os.execvpe(command[0], command, {**made.env(), "COLUMNS": "100"})
    shown, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # the other side is closed
                break
        if type_ and after.encode() in shown:
            os.write(terminal, type_)
            type_ = b""
    return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_terminal_shows_a_running_stage_in_place_and_a_log_has_no_escapes(tmp_path: Path) -> None:
    made = project(tmp_path / "p", SLOW)
    made.run("drp", "compile")
    shown, code = in_a_terminal(made, "drp", "run", "one:b")
    assert code == 0
    assert "\033[1F" in shown
    assert shown.count("one/b: done: 20/20 records") == 1
    live = [text for text in shown.splitlines() if "/20 records" in text and "done" not in text]
    assert len(live) > 1
    assert all(len(text.rpartition("\033[J")[2]) < 100 for text in live)
    log = made.run("drp", "run", "one", "--force", "one:b")
    assert "\033" not in log
    assert log.count("one/b: ") == 1, "a short stage says one line"


def test_ctrl_c_in_a_terminal_reaches_the_stage_once(tmp_path: Path) -> None:
    made = project(tmp_path / "p", SLOW)
    made.run("drp", "compile")
    shown, code = in_a_terminal(made, "drp", "run", "one", type_=b"\x03", after="/20 records,")
    assert code == 130, shown
    assert progress(made, "b")["exit_code"] == 130
    assert "Traceback" not in shown


# -- side by side ----------------------------------------------------------------------------------------------------------


def test_independent_stages_overlap_and_leave_what_a_run_one_by_one_leaves(tmp_path: Path) -> None:
    alone, together = project(tmp_path / "p", WIDE), project(tmp_path / "q", WIDE)
    alone.wake()
    for made, jobs in ((alone, "1"), (together, "2")):
        made.run("drp", "compile")
        made.run("drp", "run", "one", "-j", jobs)
        assert made.run("dvc", "status", "-q") == ""
    b, c = progress(together, "b"), progress(together, "c")
    assert b["started"] < c["updated"]
    assert c["started"] < b["updated"]
    assert locked(alone) == locked(together)
    for path in sorted((alone.root / "data/one").glob("*.*")):
        assert path.read_bytes() == (together.root / "data/one" / path.name).read_bytes()
    assert made.ran(together.run("drp", "run", "one")) == []


def test_many_stages_of_one_recipe_at_once_lose_no_entry_of_its_lock(tmp_path: Path) -> None:
    names = [f"s{k}" for k in range(7)]
    wide = [f"  {name}: {{op: shout, from: a, times: {k}}}\n" for k, name in enumerate(names)]
    made = project(tmp_path / "p", "".join(["stages:\n  a: {op: make}\n", *wide]))
    made.run("drp", "compile")
    made.run("drp", "run", "one", "-j", "7")
    assert set(locked(made)) == {"a", "counts", *names}
    assert made.run("dvc", "status", "-q") == ""


def test_a_stage_that_fails_stops_what_waits_for_it_and_nothing_else(tmp_path: Path) -> None:
    recipe = """
        stages:
          a: {op: make}
          bad: {op: fail, from: a, error: DataError}
          after: {op: shout, from: bad}
          b: {op: shout, from: a, nap: 0.5}
          c: {op: shout, from: b}
        """
    made = project(tmp_path / "p")
    made.write("recipes/one/recipe.yaml", recipe)
    made.write("ops/fail.py", FAIL)
    made.run("drp", "compile")
    out = made.run("drp", "run", "one", "-j", "2", code=None)
    assert set(made.ran(out)) == {"one:a", "one:bad", "one:b", "one:c"}
    assert set(locked(made)) == {"a", "b", "c"}
    assert "not made: recipes/one/dvc.yaml:after (waits for recipes/one/dvc.yaml:bad)" in out
    assert made.run("drp", "run", "one", "-j", "2", code=1)


FORGE = '''
    """Make a model."""
    from collections.abc import Iterable, Iterator
    from drp.op import Kept, Outcome, Record, Work

    VERSION = 1
    MAKES_MODEL = True

    def forge(records: Iterable[Record], work: Work) -> Iterator[Outcome]:
        (work.out / "weights.txt").write_text("heavy")
        yield from map(Kept, records)
    '''


def test_a_published_model_is_made_anew_after_a_thaw_and_left_alone_after_the_next_compile(tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    made.write("ops/forge.py", FORGE)
    made.write("recipes/one/recipe.yaml", "stages:\n  a: {op: make}\n  t: {op: forge, from: a}\npublish: {t: models/one}\n")
    made.run("drp", "compile")
    made.run("drp", "compile", "--thaw", "one")
    assert made.ran(made.run("drp", "run", "one")) == ["one:a", "one:t", "one:counts"]
    made.edit("recipes/one/recipe.yaml", "op: make}", "op: make, size: 5}")
    made.run("drp", "compile")
    assert "one:t" not in made.ran(made.run("drp", "run", "one"))
    made.run("drp", "compile", "--thaw", "one")
    assert "one:t" in made.ran(made.run("drp", "run", "one"))


def test_a_forced_stage_needs_its_name_and_what_follows_is_made_with_it(tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    made.run("drp", "compile")
    made.run("drp", "run", "one")
    assert "name the stage too, as in one:edits" in made.run("drp", "run", "one", "--force", "one", code=2)
    assert "has no stage 'bb' (a, b, c, counts, n); did you mean 'b'?" in made.run("drp", "run", "--force", "one:bb", code=2)
    assert made.ran(made.run("drp", "run", "--force", "one:b")) == ["one:b"]


def test_a_compile_before_dvc_init_leaves_that_to_dvc(tmp_path: Path) -> None:
    made = project(tmp_path / "p", dvc=False)
    made.run("drp", "compile")
    assert not (made.root / ".dvc").exists()


MINE = """\
  kept:
    wdir: ../..
    cmd: cp data/two/d.manifest.json kept.txt
    frozen: true
    deps: [data/two/d.manifest.json]
    outs: [kept.txt]
  mine:
    wdir: ../..
    cmd: cat kept.txt data/two/d.parquet > mine.txt
    deps: [kept.txt, data/two/d.parquet]
    outs: [mine.txt]
"""
"""Two stages by hand, the first of them frozen."""


def test_side_by_side_other_recipes_and_stages_by_hand_are_brought_in_and_a_frozen_one_is_left_alone(tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    made.write("recipes/two/recipe.yaml", "extends: one\nstages:\n  d: {op: shout, from: c}\n")
    made.write("kept.txt", "as it was\n")
    made.run("drp", "compile")
    file = made.root / "recipes/two/dvc.yaml"
    file.write_text(file.read_text() + MINE)
    made.run("drp", "compile")
    assert set(made.ran(made.run("drp", "run", "two:d", "-j", "2"))) == {"one:a", "one:b", "one:c", "two:d"}
    made.run("dvc", "commit", "-f", "recipes/two/dvc.yaml:kept")
    made.edit("recipes/one/recipe.yaml", "from: a, times: 1", "from: a, times: 4")
    ran = made.ran(made.run("drp", "run", "two", "-j", "2"))
    assert set(ran) == {"one:b", "one:c", "two:d", "two:mine", "two:counts"}
    assert (made.root / "kept.txt").read_text() == "as it was\n"


def plan(**needs: str) -> list[Node]:
    """Stages by name, the names of those that each waits for, in one string; `!` where it changed."""
    return [Node(name, frozenset(text.replace("!", "").split()), "!" in text) for name, text in needs.items()]


def test_whose_turn_it_is() -> None:
    schedule = Schedule(plan(a="!", b="a", c="!a", d="b c", e="", f="e"))
    assert (schedule.next(), schedule.next()) == ("a", None)
    schedule.ended("a", "same")
    assert (schedule.next(), schedule.next()) == ("c", None), "b saw nothing new"
    schedule.ended("c", "made")
    assert schedule.next() == "d"
    schedule.ended("d", "failed")
    assert schedule.next() is None
    assert (schedule.made, schedule.same, schedule.lost, schedule.waiting) == ({"c"}, {"a", "b", "e", "f"}, {"d": "failed"}, {})


def test_a_failure_is_handed_down_and_a_forced_stage_runs() -> None:
    schedule = Schedule(plan(a="!", b="a", c="b", x=""), force=["x"])
    assert (schedule.next(), schedule.next()) == ("a", "x")
    schedule.ended("a", "failed")
    assert schedule.next() is None
    assert schedule.lost == {"a": "failed", "b": "waits for a", "c": "waits for b"}
