"""The loopback server: real HTTP in front of real backends, asked by the openai backend and by hand."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drp.backends import Answer, Ask, connect
from drp.errors import BackendError
from drp.models import Completion, Endpoint, Message, Model, Request, Sampling
from drp.serving import Server, serve
from tests.fakes import Answers
from tests.tiny import model_at, tiny_student

MODEL = Model("teacher", "echo", Sampling(0.5, max_tokens=9), Endpoint("rules"))
CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}


def echo(request: Request) -> Completion:
    if request.messages[-1].content == "bad":
        return Completion("", "error", error="no rule for that")
    return Completion(request.messages[-1].content.upper(), "stop", prompt_tokens=2, completion_tokens=1)


def client(url: str, name: str = "echo", **sampling: Any) -> Model:
    return Model("teacher", name, Sampling(**sampling), Endpoint("openai", base_url=url, attempts=2, timeout=60, concurrency=16))


def through(model: Model, requests: list[Request]) -> list[Completion]:
    asks = (Ask(ticket, request) for ticket, request in enumerate(requests))
    found = {a.ticket: a.completion for burst in connect(model).complete(asks) for a in burst}
    return [found[ticket] for ticket in range(len(requests))]


def call(url: str, body: object = None, raw: bytes | None = None) -> tuple[int, dict[str, Any]]:
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_the_openai_backend_is_answered_each_request_by_its_own_reply() -> None:
    with Server(MODEL, Answers(echo)) as server:
        asked = client(server.url)
        found = through(asked, [asked.request((Message("user", f"p{i}"),)) for i in range(50)])
    assert [c.text for c in found] == [f"P{i}" for i in range(50)]
    assert {(c.finish, c.prompt_tokens, c.completion_tokens, c.served) for c in found} == {("stop", 2, 1, "echo")}


def test_what_a_client_asks_for_reaches_the_backend_whole() -> None:
    backend = Answers(echo)
    schema = {"title": "edits", "type": "object", "properties": {}}
    messages = (Message("system", "be brief"), Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    with Server(MODEL, backend) as server:
        asked = client(server.url, temperature=0.0, top_p=0.9, top_k=5, max_tokens=77)
        through(asked, [asked.request(messages, schema=schema, seed=12)])
    (seen,) = backend.requests
    assert (seen.messages, seen.schema, seen.seed) == (messages, schema, 12)
    assert seen.model.sampling == Sampling(0.0, 0.9, 5, 77)


def test_what_a_client_leaves_open_is_as_the_served_model_has_it() -> None:
    backend = Answers(echo)
    with Server(MODEL, backend) as server:
        form = {"type": "json_schema", "json_schema": {"name": "steps", "schema": {"type": "object"}}}
        assert call(f"{server.url}/chat/completions", CHAT)[0] == 200
        assert call(f"{server.url}/chat/completions", {**CHAT, "response_format": form, "max_completion_tokens": 3})[0] == 200
    assert backend.requests[0].model.sampling == MODEL.sampling
    assert backend.requests[1].model.sampling == Sampling(0.5, max_tokens=3)
    assert backend.requests[1].schema == {"title": "steps", "type": "object"}


def test_the_served_model_is_listed() -> None:
    with Server(MODEL, Answers(echo)) as server:
        status, reply = call(f"{server.url}/models")
    assert (status, [m["id"] for m in reply["data"]]) == (200, ["echo"])


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"model": "ecco"}, 404, "no model 'ecco' here (echo); did you mean 'echo'?"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "role"),
        ({"messages": [{"role": "user", "content": [1]}]}, 400, "content"),
        ({"stream": True}, 400, "stream is not supported"),
        ({"n": 2}, 400, "n is not supported"),
        ({"temperature": "hot"}, 400, "temperature: 'hot'"),
        ({"max_tokens": 1.5}, 400, "max_tokens: 1.5"),
        ({"seed": "x"}, 400, "seed"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format"),
        ({"messages": [{"role": "user", "content": "bad"}]}, 422, "no rule for that"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_with_a_reason(change: dict[str, Any], status: int, message: str) -> None:
    with Server(MODEL, Answers(echo)) as server:
        found, reply = call(f"{server.url}/chat/completions", {**CHAT, **change})
        assert call(f"{server.url}/chat/completions", CHAT)[0] == 200
    assert found == status
    assert message in reply["error"]["message"]


def test_a_body_that_is_not_json_and_a_path_that_is_not_there_are_refused() -> None:
    with Server(MODEL, Answers(echo)) as server:
        assert call(f"{server.url}/chat/completions", raw=b"{")[0] == 400
        assert call(f"{server.url}/chat/completions", raw=b"[]")[0] == 400
        assert call(f"{server.url}/completions", CHAT)[0] == 404
        assert call(f"{server.url}/engines")[0] == 404


class Batches:
    """A backend that pulls whatever it can get before it answers any of it, as a local model does."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[list[Answer]]:
        hand: list[Ask] = []
        for ask in asks:
            if ask is not None:
                hand.append(ask)
                continue
            if hand:
                self.sizes.append(len(hand))
            yield [Answer(a.ticket, echo(a.request)) for a in hand]
            hand = []


def test_requests_that_come_together_share_a_batch() -> None:
    backend = Batches()
    with Server(MODEL, backend) as server:
        asked = client(server.url)
        through(asked, [asked.request((Message("user", f"p{i}"),)) for i in range(64)])
    assert sum(backend.sizes) == 64
    assert len(backend.sizes) < 32


class Failing:
    """A backend that gives up at its first request."""

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[list[Answer]]:
        while next(asks) is None:
            yield []
        raise BackendError("the model has gone")


def test_a_backend_that_fails_is_reported_to_clients_and_to_who_serves() -> None:
    with Server(MODEL, Failing()) as server:
        for _ in range(2):
            status, reply = call(f"{server.url}/chat/completions", CHAT)
            assert (status, reply["error"]["message"]) == (503, "the model has gone")
        with pytest.raises(BackendError, match="the model has gone"):
            server.wait()


def test_a_port_that_is_taken_is_named() -> None:
    with Server(MODEL, Answers(echo)) as server, pytest.raises(BackendError, match=f"127.0.0.1:{server.port}: cannot listen"):
        Server(MODEL, Answers(echo), server.port)


def test_the_rules_teacher_says_the_same_over_http() -> None:
    local = Model("rules", "rules", Sampling(0.0), Endpoint("rules"))
    shown = "<sentences>\n[1] Tom has 3 apples.\n[2] He buys 5 more.\n[3] So 3 + 5 = 8.\n[4] Wait, let me check.\n</sentences>\n"
    schema = {"title": "segment", "type": "object"}
    with Server(local, connect(local)) as server:
        served = client(server.url, "rules")
        good, bad = through(served, [served.request((Message("user", text),), schema=schema) for text in (shown, "nothing")])
    here, refused = through(local, [local.request((Message("user", text),), schema=schema) for text in (shown, "nothing")])
    assert json.loads(good.text)["steps"][-1]["last"] == 4
    assert (good.text, good.served, good.completion_tokens) == (here.text, here.served, here.completion_tokens)
    assert refused.error in bad.error
    assert bad.finish == "error"


def in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


def test_a_local_model_says_the_same_through_the_server(tmp_path: Path) -> None:
    local = model_at(tiny_student(tmp_path), max_tokens=12)
    ports: list[int] = []
    bound = threading.Event()
    in_background(lambda: serve(local, 0, lambda port: (ports.append(port), bound.set())[0]))
    assert bound.wait(60)
    served = client(f"http://127.0.0.1:{ports[0]}/v1", local.name, temperature=0.6, top_p=0.95, max_tokens=12)
    prompts = [(Message("user", f"{i} + 7 ="),) for i in range(6)]
    over_http = through(served, [served.request(p, seed=i) for i, p in enumerate(prompts)])
    here = through(local, [local.request(p, seed=i) for i, p in enumerate(prompts)])
    assert [(c.text, c.finish, c.completion_tokens) for c in over_http] == [(c.text, c.finish, c.completion_tokens) for c in here]
