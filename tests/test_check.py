"""`drp check` refuses a faulty recipe whole: every problem, each with its place, value, choices and cure."""

from pathlib import Path

from drp.cli import main
from tests.projects import project

FAULTY = """\
models: {teacher: gpt}
stages:
  a: {op: make, size: three, wrod: x}
  b: {op: shuot, from: a}
  c: {op: shout, from: aa}
  d: {op: shout}
  e: {op: ask, from: a, model: techer, prompt: sya}
  f: {op: ask, from: a, model: m, prompt: greedy}
  g: {op: shout, from: h}
  h: {op: shout, from: g}
  I: {op: make}
  j: {op: shout, from: [a, c]}
  k: {op: make, from: a}
  l: [a]
"""


def _problems(root: Path, capsys: object, monkeypatch: object) -> list[str]:
    monkeypatch.chdir(root)  # type: ignore[attr-defined]
    assert main(["check"]) == 2
    return capsys.readouterr().err.splitlines()  # type: ignore[attr-defined,no-any-return]


def test_every_fault_is_named_at_once_with_its_place(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    made = project(tmp_path / "p", FAULTY, dvc=False)
    made.write("params.yaml", "models: {m: {name: x}}\nrun: {m: {backend: rules}}\n")
    made.write("prompts/greedy.j2", "{{ text }} {{ question }}\n")
    found = _problems(made.root, capsys, monkeypatch)
    here = "recipes/one/recipe.yaml:"
    expected = [
        (f"{here}1:19: models.teacher: 'gpt' is not a model of params.yaml (m)", ""),
        (f"{here}3:23: stages.a.size: 'three' is not a whole number", ""),
        (f"{here}3:30: stages.a.wrod: 'wrod' is not a key of op 'make'", "did you mean 'word'?"),
        (f"{here}4:11: stages.b.op: 'shuot' is not an op", "did you mean 'shout'?"),
        (f"{here}5:24: stages.c.from: 'aa' is not a stage", ""),
        (f"{here}6:3: stages.d: op 'shout' needs `from`", ""),
        (f"{here}7:32: stages.e.model: 'techer' is neither a model", "did you mean 'teacher'?"),
        (f"{here}7:48: stages.e.prompt: 'sya' is not a prompt in prompts/", "did you mean 'say'?"),
        (f"{here}8:43: stages.f.prompt: prompts/greedy.j2 uses 'question', which this op does not supply (text)", ""),
        (f"{here}9:3: stages.g: g → h → g goes round in a circle", ""),
        (f"{here}11:3: stages.I: 'I' cannot name a stage", ""),
        (f"{here}12:24: stages.j.from: op 'shout' takes one input, not 2", "mix"),
        (f"{here}13:17: stages.k.from: op 'make' takes no input", ""),
        (f"{here}14:6: stages.l: ['a'] is not a mapping", ""),
    ]
    for start, end in expected:
        assert any(line.startswith(start) and end in line for line in found), (start, end, "\n".join(found))
    assert len(found) == len(expected), "\n".join(found)


def test_a_faulty_params_file_is_refused_with_places(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    made = project(tmp_path / "p", dvc=False)
    made.write(
        "params.yaml",
        "models:\n  m: {name: x, revison: y, sampling: {temprature: 1}}\nrun:\n  m: {backend: magic}\n  q: {backend: rules}\n",
    )
    found = "\n".join(_problems(made.root, capsys, monkeypatch))
    assert "params.yaml:2:16: models.m.revison: 'revison' is not a key here" in found
    assert "did you mean 'temperature'?" in found
    assert "params.yaml:4:16: run.m.backend: 'magic' is not one of its values (batch, openai, rules, transformers, vllm)" in found
    assert "params.yaml:5:3: run.q: no model of that name" in found


def test_a_missing_include_and_a_computed_include_are_refused(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    recipe = "stages:\n  a: {op: make}\n  e: {op: ask, from: a, model: m, prompt: one}\n  f: {op: ask, from: a, model: m, prompt: two}\n"
    made = project(tmp_path / "p", recipe, dvc=False)
    made.write("params.yaml", "models: {m: {name: x}}\nrun: {m: {backend: rules}}\n")
    made.write("prompts/one.j2", "{% include '_gone.j2' %}\n")
    made.write("prompts/two.j2", "{% include text %}\n")
    found = "\n".join(_problems(made.root, capsys, monkeypatch))
    assert "3:43: stages.e.prompt:" in found
    assert "_gone.j2" in found
    assert "an include whose name is computed cannot be tracked" in found


def test_a_hostile_extends_is_refused(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    made = project(tmp_path / "p", dvc=False)
    made.write("recipes/two/recipe.yaml", "extends: three\nstages: {}\n")
    made.write("recipes/three/recipe.yaml", "extends: two\nstages: {}\n")
    made.write("recipes/four/recipe.yaml", "extends: oen\n")
    found = "\n".join(_problems(made.root, capsys, monkeypatch))
    assert "goes round in a circle" in found
    assert "'oen' is not a recipe (four, one, three, two); did you mean 'one'?" in found


def test_an_input_without_the_columns_that_an_op_needs_is_refused(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    recipe = "stages:\n  a: {op: make}\n  s: {op: segment, from: a, by: sentence}\n"
    made = project(tmp_path / "p", recipe, dvc=False)
    found = _problems(made.root, capsys, monkeypatch)
    assert found == [
        "recipes/one/recipe.yaml:3:26: stages.s.from: 'a' has no column 'question', 'thought', which op 'segment' needs (it has id, text)"
    ]


def test_a_pasted_secret_is_refused_and_not_repeated(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    made = project(tmp_path / "p", dvc=False)
    made.write("params.yaml", "models: {m: {name: x}}\nrun: {m: {backend: openai, key: sk-proj-abc}}\n")
    found = "\n".join(_problems(made.root, capsys, monkeypatch))
    assert "params.yaml:2:33: run.m.key: is the *name* of an environment variable" in found
    assert "sk-proj-abc" not in found


def test_values_of_the_wrong_shape_are_refused_not_crashed_on(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    recipe = "extends: 5\nmodels: {x: [1]}\naxes: {q: {r: [1]}}\nstages:\n  a: {op: make, size: null}\n  b: {op: shout, from: 7}\n  c: {op: [x]}\n"
    made = project(tmp_path / "p", recipe, dvc=False)
    made.write("params.yaml", "models: {m: {name: x, sampling: {top_p: 9}}}\nrun: {m: {backend: rules, batch: 0}}\n")
    found = "\n".join(_problems(made.root, capsys, monkeypatch))
    for words in (
        "5 does not name a recipe",
        "[1] is not a model",
        "[1] is not a mapping",
        "None is not a whole number",
        "'7' is not a stage",
        "is not an op",
        "9 is not from",
        "0 is not from 1",
    ):
        assert words in found, (words, found)


def test_an_axis_that_changes_inputs_and_a_publish_elsewhere_are_refused(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    recipe = "stages:\n  a: {op: make}\n  b: {op: shout, from: a}\n  m: {op: narrate, from: a}\n  t: {op: pretrain, from: m, prompt: ask}\n"
    recipe += "axes: {q: {r: {stages.b.from: [a]}}}\npublish: {t: models/../recipes}\n"
    made = project(tmp_path / "p", recipe, dvc=False)
    made.write("prompts/ask.j2", "{{ question }}\n")
    found = "\n".join(_problems(made.root, capsys, monkeypatch))
    assert "6:16: axes.q.r.stages.b.from: an axis cannot change 'from'" in found
    assert "7:14: publish.t: 'models/../recipes' is not models/one" in found


def test_two_parents_with_a_stage_of_one_name_are_refused(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    made = project(tmp_path / "p", dvc=False)
    made.write("recipes/two/recipe.yaml", "stages:\n  a: {op: make}\n")
    made.write("recipes/three/recipe.yaml", "extends: [one, two]\n")
    assert "both have a stage 'a'; rename one" in "\n".join(_problems(made.root, capsys, monkeypatch))


def test_a_recipe_with_axes_is_not_to_be_extended(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    axes = "axes: {size: {few: {stages.a.size: 1}, many: {stages.a.size: 9}}}\n"
    made = project(tmp_path / "p", "stages:\n  a: {op: make}\n  b: {op: shout, from: a}\n" + axes, dvc=False)
    made.write("recipes/two/recipe.yaml", "extends: one\nstages:\n  c: {op: shout, from: b}\n")
    assert _problems(made.root, capsys, monkeypatch) == [
        "recipes/two/recipe.yaml:1:10: extends: 'one' has axes; extend a recipe without axes and put them here"
    ]


def test_a_source_that_need_not_be_given_may_be_null(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    made = project(tmp_path / "p", "stages:\n  a: {op: make}\n  b: {op: lookup, from: a, source: null}\n", dvc=False)
    made.write(
        "ops/lookup.py",
        '''"""Look something up."""
from collections.abc import Iterable, Iterator
from drp.op import Outcome, Record, Source, Work

VERSION = 1

def lookup(records: Iterable[Record], work: Work, *, source: Source | None = None) -> Iterator[Outcome]:
    yield from ()
''',
    )
    monkeypatch.chdir(made.root)
    assert main(["compile"]) == 0


def test_conflict_markers_in_a_generated_file_are_named_with_the_cure(tmp_path, capsys, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    made = project(tmp_path / "p", dvc=False)
    monkeypatch.chdir(made.root)
    for path in ("recipes/ops.lock.yaml", "recipes/one/dvc.yaml", "recipes/one/dvc.lock"):
        made.run("drp", "compile")
        made.write(path, "<<<<<<< ours\nstages:\n  a: {}\n=======\n>>>>>>> theirs\n")
        assert main(["compile"]) == 2
        assert f"{'/'.join(path.split('/')[-2:])}" in (said := capsys.readouterr().err)
        cure = "`git checkout " if path.endswith("dvc.lock") else "delete it if it is generated and run `drp compile`"
        assert cure in said
        (made.root / path).unlink()
