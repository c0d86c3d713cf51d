"""What tokens cost, to the last one; and prices and budgets that are refused at the door."""

from pathlib import Path

import pytest

from drp.cli import main
from drp.models import Completion
from drp.money.prices import Price
from tests.projects import project

GPT = Price(2.5, 10.0, "2025-01-31", "https://openai.com/api/pricing", cached=1.25)

PARAMS = """\
models: {m: {name: x}, n: {name: y}, o: {name: z}, r: {name: rules}}
run:
  m: {backend: openai, base_url: 'http://127.0.0.1:9/v1'}
  n: {backend: openai, base_url: 'http://127.0.0.1:9/v1'}
  o: {backend: openai, base_url: 'http://127.0.0.1:9/v1'}
  r: {backend: rules}
prices:
  m: {prompt: 1, completion: 2, date: '2025-01-31', source: a test}
  n: {prompt: 1, completion: 2, date: '2025-01-31', source: a test, currency: EUR}
"""


@pytest.mark.parametrize(
    ("completion", "batch", "cost"),
    [
        (Completion("a", "stop", 1000, 100), False, 0.0035),
        (Completion("a", "stop", 1000, 100, cached_tokens=400), False, 0.003),
        (Completion("a", "stop", 1000, 100, cached_tokens=400), True, 0.0015),
        (Completion("", "error", 1000, 100, error="broken"), False, 0.0035),
        (Completion("", "error", error="no answer"), False, 0.0),
    ],
)
def test_an_answer_costs_its_tokens_cached_ones_and_batches_less(completion: Completion, batch: bool, cost: float) -> None:
    assert GPT.cost(completion, batch) == pytest.approx(cost, rel=1e-12)


def test_without_a_price_for_cached_tokens_they_cost_what_all_do() -> None:
    plain = Price(2.5, 10.0, "2025-01-31", "somebody")
    assert plain.cost(Completion("a", "stop", 1000, 100, cached_tokens=400)) == pytest.approx(0.0035)


def test_the_worst_case_is_never_less_than_the_cost() -> None:
    dear = Price(1.0, 1.0, "2025-01-31", "somebody", cached=3.0)
    assert dear.most(1000, 100) >= dear.cost(Completion("a", "stop", 1000, 100, cached_tokens=1000))
    assert GPT.most(1000, 100, batch=True) == pytest.approx(0.00175)


def _refused(root: Path, recipe: str, params: str, capsys: object, monkeypatch: object) -> list[str]:
    made = project(root, recipe, dvc=False)
    made.write("params.yaml", params)
    monkeypatch.chdir(made.root)  # type: ignore[attr-defined]
    assert main(["check"]) == 2
    return capsys.readouterr().err.splitlines()  # type: ignore[attr-defined,no-any-return]


def test_a_faulty_price_is_refused_with_its_place(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    params = """\
models: {m: {name: x}, n: {name: y}}
run: {m: {backend: rules}, n: {backend: rules}}
prices:
  mm: {prompt: 1, completion: 2, date: '2025-01-31', source: s}
  m: {prompt: -1, completoin: 2, date: last week}
  n: {prompt: dear, completion: 2, date: 2025-01-31, source: '', batch: 2}
"""
    found = _refused(tmp_path / "p", "stages: {}\n", params, capsys, monkeypatch)
    assert found == ["params.yaml:6:42: prices.n.date: 2025-01-31 is read as a date, which DVC cannot carry; quote it"]
    found = _refused(
        tmp_path / "q", "stages: {}\n", params.replace("date: 2025-01-31,", "date: '2025-01-31',"), capsys, monkeypatch
    )
    assert found == [
        "params.yaml:4:3: prices.mm: no model of that name (m, n); did you mean 'm'?",
        "params.yaml:5:3: prices.m: a price needs `completion`, `source`",
        "params.yaml:5:15: prices.m.prompt: -1 is not from 0 to 1e+06",
        "params.yaml:5:19: prices.m.completoin: 'completoin' is not a key here "
        "(batch, cached, completion, currency, date, prompt, source); did you mean 'completion'?",
        "params.yaml:5:40: prices.m.date: 'last week' is not a date such as '2025-01-31'",
        "params.yaml:6:3: prices.n: a price needs `source`",
        "params.yaml:6:15: prices.n.prompt: 'dear' is not a number",
        "params.yaml:6:75: prices.n.batch: 2 is not from 0 to 1",
    ]


def test_a_budget_that_cannot_be_kept_is_refused_with_its_place(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    recipe = """\
budget: a lot
stages:
  a: {op: make, budget: 1}
  b: {op: ask, from: a, model: m, prompt: say, budget: yes please}
  c: {op: ask, from: a, model: o, prompt: say, budget: 1}
  d: {op: ask, from: a, model: m, prompt: say, budget: -1}
  e: {op: ask, from: a, model: r, prompt: say, budget: 1}
  f: {op: pretrain, from: a, prompt: say, start: m, budget: 1}
axes: {x: {one: {stages.b.budget: 3}}}
"""
    found = _refused(tmp_path / "p", recipe, PARAMS, capsys, monkeypatch)
    here = "recipes/one/recipe.yaml:"
    for start, end in [
        (f"{here}1:9: budget: 'a lot' is not an amount of money", "a number from 0 on, in the prices' currency"),
        (f"{here}3:17: stages.a.budget: this stage asks no model", "it has no budget"),
        (f"{here}4:56: stages.b.budget: 'yes please' is not an amount of money", ""),
        (
            f"{here}5:56: stages.c.budget: no price is known of 'o' (m, n)",
            "add prices.o to params.yaml: {prompt: …, completion: …, date: …, source: …}",
        ),
        (f"{here}6:56: stages.d.budget: -1 is not an amount of money", ""),
        (f"{here}7:56: stages.e.budget: no price is known of 'r' (m, n)", ""),
        (f"{here}8:53: stages.f.budget: this stage asks no model", ""),
        (f"{here}9:18: axes.x.one.stages.b.budget: a budget is for all variants together: write it at stages.b", ""),
    ]:
        assert any(line.startswith(start) and end in line for line in found), (start, end, "\n".join(found))


def test_a_recipes_budget_needs_prices_of_one_currency_for_whatever_may_send_a_bill(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    recipe = """\
budget: 5
stages:
  a: {op: make}
  b: {op: ask, from: a, model: m, prompt: say}
  c: {op: ask, from: a, model: n, prompt: say}
  d: {op: ask, from: a, model: r, prompt: say}
"""
    found = _refused(tmp_path / "p", recipe, PARAMS, capsys, monkeypatch)
    assert found == ["recipes/one/recipe.yaml:1:9: budget: its stages pay in EUR, USD: a budget is in one currency"]
    found = _refused(tmp_path / "q", recipe.replace("model: n", "model: o"), PARAMS, capsys, monkeypatch)
    assert [line.partition(";")[0] for line in found] == ["recipes/one/recipe.yaml:1:9: budget: no price is known of 'o' (m, n)"]


def test_a_stage_that_is_taken_over_has_its_budget_where_it_is_from(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    recipe = "stages:\n  a: {op: make}\n  b: {op: ask, from: a, model: m, prompt: say, budget: 1}\n"
    made = project(tmp_path / "p", recipe, dvc=False)
    made.write("params.yaml", PARAMS)
    made.write("recipes/two/recipe.yaml", "extends: one\nbudget: 3\nstages:\n  b: {budget: 2}\n")
    monkeypatch.chdir(made.root)
    assert main(["check"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "recipes/two/recipe.yaml:4:7: stages.b.budget: stage 'b' is recipe 'one''s; write its budget there"
    ]
    made.write("recipes/two/recipe.yaml", "extends: one\nbudget: 3\nstages:\n  b: {budget: 2, prompt: tell}\n")
    made.write("prompts/tell.j2", "Tell {{ text }}.\n")
    assert main(["check"]) == 0


def test_an_op_cannot_have_an_option_called_budget(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    made = project(tmp_path / "p", "stages:\n  a: {op: spender, budget: 3}\n", dvc=False)
    text = (made.root / "ops/make.py").read_text()
    made.write("ops/spender.py", text.replace("def make", "def spender").replace("size: int", "budget: int = 1, size: int"))
    monkeypatch.chdir(made.root)
    assert main(["check"]) == 2
    assert "an option cannot be called 'budget': in a recipe that is a key of every stage" in capsys.readouterr().err
