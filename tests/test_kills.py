"""A stage that is interrupted, killed, doubled, or robbed of its inputs publishes nothing and leaves no orphan."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.projects import Project_, project, stop

SLOW = """\
stages:
  a: {op: make, size: 40}
  b: {op: shout, from: a, nap: 0.1}
  c: {op: shout, from: b}
"""


def _slow(tmp_path: Path) -> Project_:
    made = project(tmp_path / "p", SLOW)
    made.run("drp", "compile")
    made.run("dvc", "repro", "-q", "recipes/one/dvc.yaml:a")
    return made


def _running(made: Project_, process: "subprocess.Popen[str]") -> int:
    """The pid of the stage's own process, once it works."""
    for _ in range(300):
        if made.runs.exists() and made.runs.read_text().count("\n") > 3:
            found = subprocess.run(["pgrep", "-f", "drp stage one b"], text=True, capture_output=True, check=False).stdout.split()
            for pid in map(int, found):
                if os.readlink(f"/proc/{pid}/cwd") == str(made.root) and "python" in Path(f"/proc/{pid}/exe").resolve().name:
                    return pid
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        time.sleep(0.1)
    raise AssertionError("the stage did not start")


def _alive(pid: int) -> bool:
    """Whether the process still runs. One that ended and that a lazy init has not reaped (state Z) does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def _unpublished(made: Project_) -> None:
    assert not (made.root / "data/one/b.parquet").exists()
    assert not list((made.root / "data/one").glob("**/*.part"))
    assert "b:" not in (made.root / "recipes/one/dvc.lock").read_text()


def test_ctrl_c_exits_130_and_publishes_nothing(tmp_path: Path) -> None:
    made = _slow(tmp_path)
    process = made.start("drp", "stage", "one", "b")
    _running(made, process)
    stop(process, signal.SIGINT)
    assert process.wait(20) == 130
    _unpublished(made)


def test_ctrl_c_at_dvc_commits_nothing_and_runs_nothing_that_follows(tmp_path: Path) -> None:
    made = _slow(tmp_path)
    process = made.start("dvc", "repro", "recipes/one/dvc.yaml:c")
    _running(made, process)
    stop(process, signal.SIGINT)
    assert process.wait(30) != 0
    _unpublished(made)


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_a_killed_dvc_leaves_no_orphan_and_a_second_start_ends_well(
    tmp_path: Path, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", shell)  # DVC takes it; dash stays between DVC and the stage, bash does not
    made = _slow(tmp_path)
    process = made.start("dvc", "repro", "recipes/one/dvc.yaml:c")
    child = _running(made, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    for _ in range(20):
        if not _alive(child):
            break
        time.sleep(0.1)
    assert not _alive(child), "an orphan after 2 s"
    _unpublished(made)
    made.wake()
    assert made.ran(made.run("dvc", "repro", "recipes/one/dvc.yaml:c")) == ["one:b", "one:c"]


def test_a_second_copy_is_refused_with_75_while_the_first_runs(tmp_path: Path) -> None:
    made = _slow(tmp_path)
    process = made.start("drp", "stage", "one", "b")
    _running(made, process)
    assert "another process is running this stage" in made.run("drp", "stage", "one", "b", code=75)
    made.wake()
    assert process.wait(30) == 0


def test_a_file_edited_while_a_stage_runs_exits_65_and_the_lock_does_not_lie(tmp_path: Path) -> None:
    made = _slow(tmp_path)
    process = made.start("dvc", "repro", "recipes/one/dvc.yaml:c")
    _running(made, process)
    made.edit("recipes/one/recipe.yaml", "nap: 0.1", "nap: 0.0")
    made.wake()
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "changed while the stage ran: b.nap" in output
    assert "65" in output
    _unpublished(made)
    assert made.ran(made.run("dvc", "repro", "recipes/one/dvc.yaml:c")) == ["one:b", "one:c"]
