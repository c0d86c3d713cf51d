"""What a model is asked again after an edit, with real DVC and a real loopback server that counts."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.projects import Project_, project

RECIPE = """\
stages:
  a: {op: make, size: 5}
  b: {op: ask, from: a, model: m, prompt: say}
  c: {op: shout, from: b}
"""


class Counting(ThreadingHTTPServer):
    """An OpenAI-compatible server that answers with the number of words of the prompt, and remembers every prompt."""

    prompts: list[str]


class _Handler(BaseHTTPRequestHandler):
    server: Counting

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        self.server.prompts.append(prompt)
        reply = {
            "id": "1", "object": "chat.completion", "created": 0, "model": "served-model",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"{len(prompt.split())} words"}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }  # fmt: skip
        data = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Counting]:
    made = Counting(("127.0.0.1", 0), _Handler)
    made.prompts = []
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def _project(tmp_path: Path, server: Counting) -> Project_:
    made = project(tmp_path / "p", RECIPE)
    url = f"http://127.0.0.1:{server.server_port}/v1"
    made.write(
        "params.yaml", f'models:\n  m: {{name: some-model}}\nrun:\n  m: {{backend: openai, base_url: "{url}", concurrency: 2}}\n'
    )
    return made


def test_edits_ask_only_for_what_does_not_exist_yet(tmp_path: Path, server: Counting) -> None:
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
    tmp_path: Path, server: Counting
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


def test_no_secret_reaches_a_file(tmp_path: Path, server: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
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
