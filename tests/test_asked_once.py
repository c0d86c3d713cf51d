"""What a model is asked again after an edit, with real DVC and a real loopback server that counts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.projects import Project_, project
from tests.servers import Remembering

RECIPE = """\
stages:
  a: {op: make, size: 5}
  b: {op: ask, from: a, model: m, prompt: say}
  c: {op: shout, from: b}
"""


@pytest.fixture
def server() -> Iterator[Remembering]:
    """It answers with the number of words."""
    with Remembering(lambda prompt: f"{len(prompt.split())} words") as made:
        yield made


def _project(tmp_path: Path, server: Remembering) -> Project_:
    made = project(tmp_path / "p", RECIPE)
    model = f"{{backend: openai, base_url: '{server.url}', concurrency: 2}}"
    made.write("params.yaml", f"models:\n  m: {{name: some-model}}\nrun:\n  m: {model}\n")
    return made


def test_edits_ask_only_for_what_does_not_exist_yet(tmp_path: Path, server: Remembering) -> None:
    made = _project(tmp_path, server)
    assert made.repro() == ["one:a", "one:b", "one:c", "one:counts"]
    assert len(server.prompts) == 5

    made.edit("prompts/say.j2", "Say", "{# politely #}Say")
    assert made.repro() == ["one:b", "one:counts"], "a comment in a prompt: its stage replays, what follows is skipped"
    assert len(server.prompts) == 5

    made.edit("params.yaml", "concurrency: 2", "concurrency: 3, timeout: 9")
    assert made.repro() == [], "how a model is reached reruns nothing"

    made.edit("prompts/say.j2", "Say", "Tell")
    assert set(made.repro()) == {"one:b", "one:counts"}, "another prompt, the same bytes: what follows is skipped"
    assert len(server.prompts) == 10

    made.edit("prompts/say.j2", "Tell", "Do tell")
    assert set(made.repro()) == {"one:b", "one:c", "one:counts"}
    assert len(server.prompts) == 15

    made.edit("recipes/one/recipe.yaml", "size: 5", "size: 6")
    made.repro()
    assert len(server.prompts) == 16, "one record more is one request more"

    made.edit("params.yaml", "name: some-model", "name: other-model")
    assert "one:b" in made.repro()
    assert len(server.prompts) == 22

    made.run("dvc", "repro", "-s", "-f", "recipes/one/dvc.yaml:b")
    assert len(server.prompts) == 22, "a forced rerun replays from the store"


def test_an_include_is_a_dependency_and_an_experiment_in_a_temporary_folder_shares_the_store(
    tmp_path: Path, server: Remembering
) -> None:
    made = _project(tmp_path, server)
    made.write("prompts/_how.j2", "loudly")
    made.write("prompts/say.j2", "Say {{ text }} {% include '_how.j2' %}\n")
    made.repro()
    made.commit()
    assert "prompts/_how.j2" in (made.root / "recipes/one/dvc.lock").read_text()
    made.run("dvc", "exp", "run", "--temp", "-S", "recipes/one/recipe.yaml:stages.a.size=7", "recipes/one/dvc.yaml:b")
    assert len(server.prompts) == 7, "five answers were there already"
    made.write("prompts/_how.j2", "softly")
    assert set(made.repro()) == {"one:b", "one:counts"}


def test_no_secret_reaches_a_file(tmp_path: Path, server: Remembering, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _project(tmp_path, server)
    made.edit("params.yaml", "concurrency: 2", "key: THE_KEY")
    monkeypatch.setenv("THE_KEY", "sk-very-secret-value")
    made.repro()
    assert len(server.prompts) == 5
    files = [p for p in made.root.rglob("*") if p.is_file()]
    assert len(files) > 20
    assert not [p for p in files if b"sk-very-secret-value" in p.read_bytes()]
    monkeypatch.delenv("THE_KEY")
    made.edit("recipes/one/recipe.yaml", "size: 5", "size: 6")
    made.run("drp", "compile")
    made.run("dvc", "repro", "recipes/one/dvc.yaml:a")
    out = made.run("drp", "stage", "one", "b", code=2)
    assert "THE_KEY" in out
