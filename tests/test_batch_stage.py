"""A stage through the Batch API: jobs, one kill, a budget, and half the price in the books."""

import signal
import time
from pathlib import Path

import pytest

from tests.batch_server import BatchServer, Rules
from tests.billing import paid
from tests.projects import Project_, project, stop

RECIPE = """\
stages:
  a: {op: make, size: 5}
  b: {op: ask, from: a, model: m, prompt: say}
"""
PRICE = "{prompt: 1000, completion: 2000, date: '2025-01-31', source: a test}"
ONE = (7 * 1000 + 3 * 2000) / 1e6 / 2
"""What an answer of the server costs, at the batch factor's default."""


def batched(root: Path, url: str) -> Project_:
    made = project(root, RECIPE)
    made.write(
        "params.yaml",
        f"models:\n  m: {{name: some-model, sampling: {{max_tokens: 10}}}}\n"
        f"run:\n  m: {{backend: batch, base_url: '{url}', poll: 0.05}}\nprices:\n  m: {PRICE}\n",
    )
    made.run("drp", "compile")
    made.run("dvc", "repro", "-q", "recipes/one/dvc.yaml:a")
    return made


def test_a_stage_is_one_job_at_half_the_price_and_its_replay_none(tmp_path: Path) -> None:
    with BatchServer() as server:
        made = batched(tmp_path / "p", server.url)
        made.run("dvc", "repro", "-q", "recipes/one/dvc.yaml:b")
        assert (len(server.batches), len(server.seen)) == (1, 5)
        assert paid(made) == pytest.approx(5 * ONE)
        assert '"reply": "SAY W0."' in made.run("drp", "head", "data/one/b.parquet")
        made.run("dvc", "repro", "-q", "-s", "-f", "recipes/one/dvc.yaml:b")
        assert (len(server.batches), paid(made)) == (1, pytest.approx(5 * ONE))


def test_a_stage_killed_while_it_waits_finds_its_job_again_and_pays_once(tmp_path: Path) -> None:
    with BatchServer(rules=Rules(running=2.0)) as server:
        made = batched(tmp_path / "p", server.url)
        process = made.start("drp", "stage", "one", "b")
        deadline = time.monotonic() + 30
        while not server.batches and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        stop(process, signal.SIGKILL)
        process.wait(10)
        made.run("dvc", "repro", "-q", "recipes/one/dvc.yaml:b")
        assert len(server.batches) == 1
        assert set(server.seen.values()) == {1}
        assert paid(made) == pytest.approx(5 * ONE)


def test_a_budget_counts_half_prices_and_keeps_what_it_could_pay_for(tmp_path: Path) -> None:
    with BatchServer() as server:
        made = batched(tmp_path / "p", server.url)
        made.edit("recipes/one/recipe.yaml", "prompt: say}", f"prompt: say, budget: {4.5 * ONE}}}")
        made.run("drp", "compile")
        assert "budget" in made.run("drp", "stage", "one", "b", code=77)
        assert paid(made) <= 4.5 * ONE
        made.edit("recipes/one/recipe.yaml", f"budget: {4.5 * ONE}", "budget: 1")
        made.run("drp", "stage", "one", "b")
        assert set(server.seen.values()) == {1}
        assert paid(made) == pytest.approx(5 * ONE)
