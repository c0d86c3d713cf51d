"""A budget is never exceeded, whatever happens to the process; what was paid is kept, and paid once."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from drp.records import read
from tests.billing import PRICE, Biller, paid, price, priced, query
from tests.projects import Project_, stop
from tests.servers import ChatServer, refused

SIZE = 60
RECIPE = f"""\
stages:
  a: {{op: make, size: {SIZE}}}
  b: {{op: ask, from: a, model: m, prompt: say, budget: 1.5}}
  c: {{op: shout, from: b}}
"""
TOGETHER = f"""\
budget: 2.0
stages:
  a: {{op: make, size: {SIZE}}}
  b: {{op: ask, from: a, model: m, prompt: say}}
  c: {{op: ask, from: a, model: m, prompt: tell}}
"""
ALL = sum(price(f"Say w{n}.") for n in range(SIZE))
DEAREST = 0.2
"""More than any request costs at the worst."""


def test_a_stage_stops_at_its_budget_in_flight_and_goes_on_after_it_is_raised(tmp_path: Path) -> None:
    with ChatServer(biller := Biller()) as server:
        made = priced(tmp_path / "p", server, RECIPE)
        out = made.run("drp", "stage", "one", "b", code=77)
        assert 1.5 - DEAREST < biller.bill <= 1.5
        assert paid(made) == pytest.approx(biller.bill, abs=1e-9)
        assert query(made, "select count(*) from leases") == [(0,)]
        asked = len(biller.bills)
        assert f"one/b: the budget of stage 'b' is reached: {biller.bill:.4g} of 1.5 USD is paid" in out
        assert f"; {asked} records are done. Raise stages.b.budget in recipes/one/recipe.yaml; what is paid is kept" in out
        assert not (made.root / "data/one/b.parquet").exists()

        made.run("drp", "stage", "one", "b", code=77)
        assert len(biller.bills) == asked, "nothing is asked where nothing can be paid"

        made.edit("recipes/one/recipe.yaml", "budget: 1.5", "budget: 100")
        assert made.run("drp", "compile", "--check") == ""
        assert made.repro() == ["one:b", "one:c", "one:counts"]
        assert len(biller.bills) == SIZE
        assert paid(made) == pytest.approx(ALL)
    with ChatServer(Biller()) as server:
        free = priced(tmp_path / "q", server, RECIPE.replace(", budget: 1.5", ""))
        free.repro()
    for file in ("b.parquet", "b.trail.parquet", "b.manifest.json", "c.parquet"):
        assert (made.root / "data/one" / file).read_bytes() == (free.root / "data/one" / file).read_bytes()


def test_a_budget_is_no_part_of_what_a_stage_is(tmp_path: Path) -> None:
    with ChatServer(biller := Biller()) as server:
        made = priced(tmp_path / "p", server, TOGETHER.replace("budget: 2.0", "budget: 100"))
        made.repro()
        generated = [made.root / "recipes/one" / name for name in ("dvc.yaml", "dvc.lock", "resolved.yaml")]
        before = [file.read_bytes() for file in generated]
        assert not any(b"budget" in text or b"prices" in text for text in before)
        made.edit("recipes/one/recipe.yaml", "budget: 100", "budget: 101")
        made.edit("recipes/one/recipe.yaml", "prompt: say}", "prompt: say, budget: 7}")
        made.edit("params.yaml", "prompt: 1000", "prompt: 1001")
        assert made.repro() == []
        assert [file.read_bytes() for file in generated] == before
        made.edit("recipes/one/recipe.yaml", "budget: 101\n", "")
        made.edit("recipes/one/recipe.yaml", ", budget: 7", "")
        assert made.repro() == []
        assert len(biller.bills) == 2 * SIZE


def test_stored_answers_are_served_though_the_budget_is_used_up(tmp_path: Path) -> None:
    with ChatServer(biller := Biller()) as server:
        made = priced(tmp_path / "p", server, RECIPE.replace("1.5", "100"))
        made.repro()
        made.edit("recipes/one/recipe.yaml", "budget: 100", "budget: 0")
        made.edit("prompts/say.j2", "Say", "{# politely #}Say")
        assert "one:b" in made.repro()
        assert len(biller.bills) == SIZE

        made.edit("recipes/one/recipe.yaml", "budget: 0", "budget: 100")
        made.edit("prompts/say.j2", "Say", "Tell")
        made.repro()
        assert len(biller.bills) == 2 * SIZE
        assert query(made, "select count(*) from completions") == [(2 * SIZE,)]
        assert query(made, "select count(*) from uses") == [(SIZE,)], "what the last run was not answered with is unused"


def _until(biller: Biller, number: int, process: "subprocess.Popen[str]") -> None:
    for _ in range(600):
        if len(biller.bills) >= number:
            return
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        time.sleep(0.05)
    raise AssertionError("the stage asked nothing")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_bill_stays_within_the_budget_over_a_kill_and_a_resume(tmp_path: Path, number: signal.Signals) -> None:
    with ChatServer(biller := Biller(lambda number: 0.02 if number < 17 else 600)) as server:
        made = priced(tmp_path / "p", server, RECIPE.replace("1.5", "2.5"))
        process = made.start("drp", "stage", "one", "b")
        _until(biller, 20, process)
        time.sleep(0.5)  # some answers never come
        stop(process, number)
        process.wait(20)
        biller.hang = lambda number: 0.0
        lost = biller.bill - paid(made)
        assert lost > 0
        unused = "select count(*) from completions where id not in (select completion from uses)"
        assert query(made, unused) == [(0,)], "a paid answer is in use, though its run was killed"
        out = made.run("drp", "stage", "one", "b", code=77)
        assert "was in flight when runs were ended and counts as paid" in out
        assert biller.bill <= 2.5
        _books_are_right(made)
        made.edit("recipes/one/recipe.yaml", "budget: 2.5", "budget: 100")
        made.run("drp", "stage", "one", "b")
        assert biller.bill == pytest.approx(ALL + lost), "what was paid and kept is not paid again"
        _books_are_right(made)
        assert len(list(read(made.root / "data/one/b.parquet"))) == SIZE


def _books_are_right(made: Project_) -> None:
    stored = [row[0] for row in query(made, "select request from completions")]
    total = sum(price(f"Say w{text.partition('Say w')[2].partition('.')[0]}.") for text in stored)
    assert paid(made) == pytest.approx(total, abs=1e-9)


def test_two_stages_side_by_side_keep_to_one_recipes_budget(tmp_path: Path) -> None:
    with ChatServer(biller := Biller(lambda number: 0.01)) as server:
        made = priced(tmp_path / "p", server, TOGETHER)
        both = [made.start("drp", "stage", "one", stage) for stage in "bc"]
        outs = [process.communicate(timeout=120)[0] for process in both]
        assert [process.returncode for process in both] == [77, 77], outs
        assert 2.0 - DEAREST < biller.bill <= 2.0
        assert "the budget of the recipe is reached" in outs[0]
        assert "Raise budget in recipes/one/recipe.yaml" in outs[0]
        by_stage = dict(
            query(made, "select stages.stage, sum(cost) from payments join stages on stages.id = payments.stage group by 1")
        )
        assert set(by_stage) == {"b", "c"}
        assert sum(by_stage.values()) == pytest.approx(biller.bill, abs=1e-9)


def test_a_budget_below_the_first_request_asks_nothing(tmp_path: Path) -> None:
    with ChatServer(biller := Biller()) as server:
        made = priced(tmp_path / "p", server, RECIPE.replace("1.5", "0.05"))
        out = made.run("drp", "stage", "one", "b", code=77)
        assert "0 of 0.05 USD is paid, and the next request could cost" in out.replace("0.00 of", "0 of")
        assert biller.bills == []


def test_dvc_shows_why_a_stage_stopped_and_runs_nothing_that_follows(tmp_path: Path) -> None:
    with ChatServer(Biller()) as server:
        made = priced(tmp_path / "p", server, RECIPE)
        out = made.run("dvc", "repro", "recipes/one/dvc.yaml:c", code=None)
        assert "Raise stages.b.budget in recipes/one/recipe.yaml" in out
        assert "77" in out
        assert made.ran(out) == ["one:b"]


def test_variants_of_a_stage_share_its_budget(tmp_path: Path) -> None:
    recipe = RECIPE + "axes:\n  how:\n    say: {stages.b.prompt: say}\n    tell: {stages.b.prompt: tell}\n"
    with ChatServer(biller := Biller()) as server:
        made = priced(tmp_path / "p", server, recipe)
        made.run("drp", "stage", "one", "b--say", code=77)
        asked = len(biller.bills)
        made.run("drp", "stage", "one", "b--tell", code=77)
        assert biller.bill <= 1.5
        assert len(biller.bills) - asked <= 2, "the other variant has all but used it up"


def test_a_model_without_a_price_costs_nothing_and_is_counted(tmp_path: Path) -> None:
    with ChatServer(biller := Biller()) as server:
        made = priced(tmp_path / "p", server, RECIPE.replace(", budget: 1.5", ""))
        params = (made.root / "params.yaml").read_text()
        (made.root / "params.yaml").write_text(params[: params.index("prices:")])
        made.run("drp", "stage", "one", "b")
        assert len(biller.bills) == SIZE
    [row] = [r for r in json.loads(made.run("drp", "cache", "stats", "--json"))["stages"] if r["payments"]]
    assert (row["recipe"], row["stage"], row["payments"], row["cost"], row["unpriced"]) == ("one", "b", SIZE, 0.0, SIZE)


def test_a_request_that_fails_costs_nothing_and_one_that_reports_usage_costs_that(tmp_path: Path) -> None:
    biller = Biller()

    def behave(number: int, body: dict[str, object]):  # type: ignore[no-untyped-def]
        if number % 3 == 0:
            return refused(400, "not this one")
        reply = biller(number, body)
        if number % 3 == 1:
            reply.body["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "no"}
        return reply

    with ChatServer(behave) as server:
        made = priced(tmp_path / "p", server, RECIPE.replace("1.5", "100"))
        made.run("drp", "stage", "one", "b")
        assert paid(made) == pytest.approx(biller.bill, abs=1e-9)
        assert len(server.bodies) == SIZE
        assert 0 < biller.bill < ALL


def test_a_killed_run_keeps_no_more_money_from_the_next_than_it_had_in_flight_and_ahead(tmp_path: Path) -> None:
    with ChatServer(biller := Biller(lambda number: 0.0 if number < 12 else 600)) as server:
        made = priced(tmp_path / "p", server, RECIPE.replace("1.5", "3"), concurrency=1)
        process = made.start("drp", "stage", "one", "b")
        _until(biller, 13, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        biller.hang = lambda number: 0.0
        made.run("drp", "stage", "one", "b", code=77)
        [(lost,)] = query(made, "select sum(amount) from leases where process = 'lost'")
        assert lost <= DEAREST + 3 / 8
        assert biller.bill > 3 - lost - DEAREST


def test_tokens_that_the_server_had_cached_cost_less(tmp_path: Path) -> None:
    biller = Biller()

    def behave(number: int, body: dict[str, object]):  # type: ignore[no-untyped-def]
        reply = biller(number, body)
        reply.body["usage"]["prompt_tokens_details"] = {"cached_tokens": 4}
        return reply

    with ChatServer(behave) as server:
        made = priced(tmp_path / "p", server, RECIPE.replace("1.5", "100"), price=PRICE.replace("}", ", cached: 250}"))
        made.run("drp", "stage", "one", "b")
        assert paid(made) == pytest.approx(biller.bill - SIZE * 4 * 750e-6, abs=1e-9)
