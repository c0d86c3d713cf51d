"""The openai backend against real servers on loopback that behave and misbehave."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from drp.backends import Ask, connect
from drp.errors import BackendError, ConfigError
from drp.models import Completion, Endpoint, Message, Model, Request, Sampling
from tests.servers import ChatServer, Reply, refused, said

SCHEMA = {"title": "Edits of a trace", "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drp.backends.openai.FIRST_WAIT", 0.01)


def model(url: str | None, sampling: Sampling | None = None, **endpoint: Any) -> Model:
    settings = {"concurrency": 8, "attempts": 3, "timeout": 5.0, **endpoint}
    return Model("teacher", "gpt-x", sampling or Sampling(max_tokens=50), Endpoint("openai", base_url=url, **settings))


def ask(model: Model, *prompts: str, **options: Any) -> list[Completion]:
    requests = [model.request((Message("user", prompt),), **options) for prompt in prompts]
    return answers(model, requests)


def answers(model: Model, requests: list[Request]) -> list[Completion]:
    asks = (Ask(ticket, request) for ticket, request in enumerate(requests))
    found = {a.ticket: a.completion for burst in connect(model).complete(asks) for a in burst}
    return [found[ticket] for ticket in range(len(requests))]


def echo(number: int, body: dict[str, Any]) -> Reply:
    return said(body["messages"][-1]["content"].upper())


def test_each_answer_reaches_its_own_request_with_usage_and_the_model_that_served() -> None:
    with ChatServer(echo) as server:
        prompts = [f"p{i}" for i in range(40)]
        found = ask(model(server.url), *prompts)
    assert [c.text for c in found] == [p.upper() for p in prompts]
    assert {(c.finish, c.prompt_tokens, c.completion_tokens, c.served) for c in found} == {("stop", 7, 3, "served")}


def test_no_more_requests_are_in_flight_than_the_endpoint_allows() -> None:
    with ChatServer(lambda n, body: Reply(echo(n, body).body, hang=0.02)) as server:
        ask(model(server.url, concurrency=5), *map(str, range(30)))
        assert server.most == 5


def test_only_the_settings_that_are_given_are_sent() -> None:
    with ChatServer(echo) as server:
        ask(model(server.url), "a")
        ask(model(server.url, Sampling(0.6, 0.95, 20, 99)), "a", seed=11)
    assert set(server.bodies[0]) == {"model", "messages", "max_tokens"}
    rest = {k: v for k, v in server.bodies[1].items() if k not in ("model", "messages")}
    assert rest == {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_tokens": 99, "seed": 11}


def test_a_429_waits_for_as_long_as_retry_after_says() -> None:
    with ChatServer(lambda n, body: refused(429, "slow down", Retry_After="1") if n == 0 else echo(n, body)) as server:
        assert ask(model(server.url), "a")[0].text == "A"
        assert server.times[1] - server.times[0] >= 1.0


def test_a_429_whose_retry_after_is_no_time_is_tried_again_all_the_same() -> None:
    with ChatServer(lambda n, body: refused(429, "slow", Retry_After="soon") if n == 0 else echo(n, body)) as server:
        assert ask(model(server.url), "a")[0].text == "A"


BAD = {
    "500": (refused(500, "oops"), "500: oops"),
    "html": (Reply(b"<html><body>Bad gateway</body></html>", headers={"Content-Type": "text/html"}), "HTML"),
    "html-502": (Reply(b"<html>Bad gateway</html>", status=502), "502: <html>"),
    "broken-json": (Reply(b'{"choices": [', headers={"Content-Type": "application/json"}), "broken JSON"),
    "no-object": (Reply(b"[1]"), "not an object"),
    "no-choices": (Reply({"choices": [], "model": "m"}), "no choices"),
    "no-message": (Reply({"choices": [{"text": "x"}]}), "no message"),
    "error-as-a-reply": (Reply({"error": {"message": "upstream is down"}}), "upstream is down"),
    "cut": (Reply(said("hello").body, cut=True), "closed the connection"),
    "hang": (Reply(said("late").body, hang=1.2), "no answer within 0.4 s"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_passing_failure_is_tried_again_and_a_lasting_one_is_called_by_its_name(bad: str) -> None:
    reply, name = BAD[bad]
    with ChatServer(lambda n, body: reply if n == 0 else echo(n, body)) as server:
        assert ask(model(server.url, timeout=0.4), "a")[0].text == "A"
    with ChatServer(lambda n, body: reply) as server:
        (found,) = ask(model(server.url, timeout=0.4, attempts=2), "a")
        assert (found.finish, found.text, len(server.bodies)) == ("error", "", 2)
    assert name in found.error


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_refusal_of_one_request_fails_that_one_alone_and_is_not_repeated(status: int) -> None:
    def behave(number: int, body: dict[str, Any]) -> Reply:
        return refused(status, "too long") if body["messages"][0]["content"] == "b" else echo(number, body)

    with ChatServer(behave) as server:
        found = ask(model(server.url), "a", "b", "c")
        assert [c.finish for c in found] == ["stop", "error", "stop"]
        assert found[1].error == f"{status}: too long"
        assert len(server.bodies) == 3


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_ends_the_run_at_once_and_is_never_shown(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-very-secret")
    with ChatServer(lambda n, body: refused(status, "Incorrect API key: sk-very-secret")) as server:
        with pytest.raises(BackendError, match="check the key in TEACHER_KEY") as raised:
            ask(model(server.url, key="TEACHER_KEY", concurrency=1), *"abcdef")
        assert len(server.bodies) == 1
        assert server.headers[0]["authorization"] == "Bearer sk-very-secret"
    assert "secret" not in str(raised.value)


def test_a_key_variable_that_is_not_set_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"run\.teacher\.key: the environment variable TEACHER_KEY is not set"):
        connect(model("http://127.0.0.1:1/v1", key="TEACHER_KEY"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        connect(model(None))


def test_a_base_url_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"run\.teacher\.base_url: 'localhost:8000'"):
        connect(model("localhost:8000"))


def test_a_server_that_is_not_there_ends_the_run_with_its_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(BackendError, match=rf"//127\.0\.0\.1:{port}/v1: cannot connect.*start the server, or correct"):
        ask(model(f"http://me:pw@127.0.0.1:{port}/v1", attempts=2), "a", "b")


def test_a_run_whose_first_requests_all_fail_stops_early() -> None:
    with ChatServer(lambda n, body: refused(404, "no such model")) as server:
        with pytest.raises(BackendError, match=r"the first 20 requests all failed.*404: no such model"):
            ask(model(server.url, concurrency=4), *map(str, range(500)))
        assert len(server.bodies) < 30


def test_answers_that_came_before_a_server_died_are_kept() -> None:
    def behave(number: int, body: dict[str, Any]) -> Reply:
        return echo(number, body) if number < 30 else refused(503, "gone")

    with ChatServer(behave) as server:
        asked = model(server.url, concurrency=4, attempts=1)
        asks = (Ask(i, asked.request((Message("user", str(i)),))) for i in range(500))
        found: list[Completion] = []
        bursts = connect(asked).complete(asks)
        with pytest.raises(BackendError, match=r"the last 20 requests all failed.*503: gone"):
            found.extend(a.completion for burst in bursts for a in burst)
        assert len(server.bodies) < 60
    assert sum(c.finish == "stop" for c in found) == 30


def test_many_refusals_among_good_answers_do_not_stop_a_run() -> None:
    with ChatServer(lambda n, body: echo(n, body) if n == 0 else refused(400, "no")) as server:
        found = ask(model(server.url, concurrency=1), *map(str, range(60)))
    assert [c.finish for c in found].count("error") == 59


def test_a_schema_goes_as_response_format_under_its_title() -> None:
    with ChatServer(lambda n, body: said('{"n": 1}')) as server:
        ask(model(server.url), "a", schema=SCHEMA)
    sent = server.bodies[0]["response_format"]
    assert sent == {"type": "json_schema", "json_schema": {"name": "Edits_of_a_trace", "schema": SCHEMA, "strict": True}}


def test_a_server_that_refuses_response_format_is_asked_for_tagged_json_from_then_on() -> None:
    def behave(number: int, body: dict[str, Any]) -> Reply:
        return refused(400, "response_format is not supported") if "response_format" in body else said('<json>{"n": 1}</json>')

    with ChatServer(behave) as server:
        found = ask(model(server.url, concurrency=1), "first", "second", schema=SCHEMA)
        assert [c.text for c in found] == ['<json>{"n": 1}</json>'] * 2
        assert ["response_format" in body for body in server.bodies] == [True, False, False]
        last = server.bodies[1]["messages"][-1]["content"]
    assert last.startswith("first\n")
    assert "<json>" in last
    assert '"required": ["n"]' in last


def test_a_server_that_wants_max_completion_tokens_gets_it_from_then_on() -> None:
    def behave(number: int, body: dict[str, Any]) -> Reply:
        if "max_tokens" in body:
            return refused(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return said(str(body["max_completion_tokens"]))

    with ChatServer(behave) as server:
        assert [c.text for c in ask(model(server.url, concurrency=1), "a", "b")] == ["50", "50"]
        assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("reply", "finish", "text", "error"),
    [
        (said("cut of", "length"), "length", "cut of", ""),
        (said("", "content_filter"), "content_filter", "", ""),
        (said(None, "stop", refusal="I cannot"), "content_filter", "", "I cannot"),
        (said(None, "tool_calls"), "error", "", "tool_calls"),
        (said(None, "stop"), "error", "", "no content"),
        (said("fine", None), "stop", "fine", ""),
        (said("19", reasoning_content="12 + 7\n"), "stop", "<think>\n12 + 7\n</think>\n\n19", ""),
        (said("19", reasoning="12 + 7"), "stop", "<think>\n12 + 7\n</think>\n\n19", ""),
        (said(None, "length", reasoning_content="12 +"), "length", "<think>\n12 +", ""),
    ],
)
def test_what_a_server_says_of_an_answer_is_kept(reply: Reply, finish: str, text: str, error: str) -> None:
    with ChatServer(lambda n, body: reply) as server:
        (found,) = ask(model(server.url), "a")
    assert (found.finish, found.text) == (finish, text)
    assert error in found.error


def test_a_reply_without_a_reason_that_fills_its_limit_is_truncated() -> None:
    with ChatServer(lambda n, body: said("abc", None)) as server:
        (found,) = ask(model(server.url, Sampling(max_tokens=3)), "a")
    assert found.finish == "length"


def test_none_among_the_asks_lets_the_caller_go_on() -> None:
    with ChatServer(echo) as server:
        asked = model(server.url)
        given: list[int] = []

        def asks() -> Iterator[Ask | None]:
            """Three rounds, each begun only when the one before is answered."""
            for ticket in range(3):
                yield Ask(ticket, asked.request((Message("user", f"r{ticket}"),)))
                while len(given) <= ticket:
                    yield None

        for burst in connect(asked).complete(asks()):
            given.extend(answer.ticket for answer in burst)
    assert given == [0, 1, 2]


def test_a_caller_that_stops_in_the_middle_leaves_nothing_behind(recwarn: pytest.WarningsRecorder) -> None:
    with ChatServer(lambda n, body: Reply(echo(n, body).body, hang=0.01 if n == 0 else 0.5)) as server:
        asked = model(server.url)
        answers = connect(asked).complete(Ask(i, asked.request((Message("user", str(i)),))) for i in range(100))
        assert next(burst for burst in answers if burst)[0].completion.finish == "stop"
        answers.close()  # type: ignore[attr-defined]
        assert len(server.bodies) <= 9
    assert [str(w.message) for w in recwarn if w.category in (RuntimeWarning, ResourceWarning)] == []
