"""`drp status`: what runs and what ran, who holds a lock, while DVC itself says nothing."""

import json
import os
import signal
from pathlib import Path

from tests.projects import project
from tests.test_run import SLOW, gone, started


def test_it_tells_of_a_running_stage_while_dvc_holds_its_locks_and_of_what_came_after(tmp_path: Path) -> None:
    made = project(tmp_path / "p", SLOW.replace("nap: 0.1}", 'nap: 0.1, drop: "7"}'))
    made.run("drp", "compile")
    assert made.run("drp", "status") == "no stage has run here\n"
    process = made.start("dvc", "repro", "recipes/one/dvc.yaml")
    pid = started(made, process, "b")["pid"]
    told = json.loads(made.run("drp", "status", "one", "--json"))
    assert process.poll() is None
    [done, running] = told["stages"]
    assert (done["stage"], done["state"], done["exit_code"]) == ("a", "done", 0)
    assert (running["stage"], running["state"], running["total"], running["pid"]) == ("b", "running", 20, pid)
    assert told["locks"] == [{"stage": "one/b", "pid": pid, "command": "drp stage one b"}] or told["locks"][0]["pid"] == pid
    made.wake()
    assert process.wait(60) == 0
    after = {one["stage"]: one for one in json.loads(made.run("drp", "status", "--json"))["stages"]}
    assert [after[s]["state"] for s in "abc"] == ["done"] * 3
    assert (after["b"]["kept"], after["b"]["dropped"]) == (18, {"unwanted": 2})
    assert "2 dropped (unwanted 2)" in made.run("drp", "status")


def test_a_stage_that_was_killed_is_called_killed_and_one_that_left_its_recipe_is_not_told_of(tmp_path: Path) -> None:
    made = project(tmp_path / "p", SLOW)
    made.run("drp", "compile")
    process = made.start("dvc", "repro", "recipes/one/dvc.yaml")
    pid = started(made, process, "b")["pid"]
    os.kill(pid, signal.SIGKILL)
    process.wait(20)
    assert gone(pid)
    told = json.loads(made.run("drp", "status", "--json"))
    assert [(one["stage"], one["state"]) for one in told["stages"]] == [("a", "done"), ("b", "killed")]
    assert told["locks"] == []
    made.write("recipes/one/recipe.yaml", "stages:\n  a: {op: make, size: 20}\n")
    made.run("drp", "compile")
    assert [one["stage"] for one in json.loads(made.run("drp", "status", "--json"))["stages"]] == ["a"]
    assert made.run("drp", "status", "--watch").startswith("one/a  done"), "nothing runs: there is nothing to wait for"


def test_a_failure_is_told_with_its_message_and_its_exit_code(tmp_path: Path) -> None:
    made = project(tmp_path / "p")
    made.run("drp", "compile")
    made.run("dvc", "repro", "-q", "recipes/one/dvc.yaml:a")
    made.edit("ops/shout.py", ".upper()", ".title()")
    made.run("drp", "stage", "one", "b", code=64)
    assert "one/b  failed" in (told := made.run("drp", "status", "one"))
    assert "exit 64" in told
    assert "run `drp compile`" in told
