"""The openai backend against real servers on loopback that behave and misbehave."""

import base64
import contextlib
import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drp.backends import Ask, connect
from drp.errors import BackendError, ConfigError
from drp.models import Completion, Endpoint, Message, Model, Request, Sampling
from drp.remote.wire import Garbled, Manner, read
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
    "cut-chunked": (Reply(said("hello").body, cut=True, chunked=True), "closed the connection"),
    "hang": (Reply(said("late").body, hang=1.2), "no answer within 0.4 s"),
    "hang-in-the-body": (Reply(said("late").body, stall=1.2), "no answer within 0.4 s"),
    "not-utf8": (Reply(b'{"choices": "\xff"}'), "not UTF-8"),
    "not-gzip": (Reply(b"plain" * 10, headers={"Content-Encoding": "gzip"}), "cannot be read"),
    "not-http": (Reply(b"SSH-2.0-OpenSSH_9.6\r\n", bare=True), "not HTTP"),
    "huge-header": (Reply(said("hello").body, headers={"X-Big": "x" * 60_000, "X-Bigger": "x" * 70_000}), "not HTTP"),
    "deep-json": (Reply(b"[" * 100_000), "broken JSON"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_passing_failure_is_tried_again_and_a_lasting_one_is_called_by_its_name(bad: str) -> None:
    reply, name = BAD[bad]
    with ChatServer(lambda n, body: reply if n == 0 else echo(n, body)) as server:
        assert ask(model(server.url, timeout=0.4), "a")[0].text == "A"
    with ChatServer(lambda n, body: reply) as server:
        (found,) = ask(model(server.url, timeout=0.4, attempts=2), "a")
        assert (found.finish, found.text, found.attempts, len(server.bodies)) == ("error", "", 2, 2)
    assert name in found.error


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}, {"X-Big": "x" * 30_000}])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_is_read_however_it_is_packed(headers: dict[str, str], chunked: bool) -> None:
    plain = json.dumps(said("hello").body).encode()
    sent = gzip.compress(plain) if "Content-Encoding" in headers else plain
    with ChatServer(lambda n, body: Reply(sent, headers=headers, chunked=chunked)) as server:
        assert ask(model(server.url, attempts=1), "a")[0].text == "hello"


def test_a_connection_that_closes_without_a_byte_is_a_failure_when_it_does_so_again() -> None:
    with ChatServer(lambda n, body: Reply(b"", bare=True)) as server:
        (found,) = ask(model(server.url, attempts=2), "a")
        assert (found.finish, found.attempts, len(server.bodies)) == ("error", 3, 3)
    assert "closed the connection" in found.error


@pytest.mark.parametrize("leave", ["fin", "rst"])
def test_an_idle_connection_that_the_server_gave_up_costs_no_attempt(leave: Any) -> None:
    with ChatServer(lambda n, body: Reply(echo(n, body).body, leave=leave)) as server:
        asked = model(server.url, attempts=1, concurrency=2)
        found = []
        for burst in connect(asked).complete(Ask(i, asked.request((Message("user", f"p{i}"),))) for i in range(12)):
            found += [answer.completion.text for answer in burst]
            time.sleep(0.02)
    assert sorted(found) == sorted(f"P{i}" for i in range(12))


def test_no_time_out_passes_while_the_caller_is_at_work() -> None:
    with ChatServer(lambda n, body: Reply(echo(n, body).body, hang=0.02 * n)) as server:
        asked = model(server.url, attempts=1, timeout=0.5)
        found = []
        for burst in connect(asked).complete(Ask(i, asked.request((Message("user", f"p{i}"),))) for i in range(8)):
            found += [answer.completion.finish for answer in burst]
            time.sleep(0.7 if len(found) < 3 else 0)
    assert found == ["stop"] * 8


def test_a_redirect_ends_the_run_with_where_it_leads() -> None:
    with ChatServer(lambda n, body: Reply(b"", 308, {"Location": "https://me:pw@other/v1"})) as server:
        with pytest.raises(
            BackendError, match=r"308: the server sends elsewhere \(https://other/v1\); correct run\.teacher\.base_url"
        ):
            ask(model(server.url), "a")
        assert len(server.bodies) == 1


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


@pytest.mark.parametrize("url", ["localhost:8000", "http://", "http://host:port/v1", "http://[::1/v1"])
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=rf"run\.teacher\.base_url: '{re.escape(url)}'"):
        connect(model(url))


def test_a_user_and_password_in_the_url_are_sent_as_such_unless_there_is_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-1")
    with ChatServer(echo) as server:
        url = server.url.replace("//", "//me:p%40w@")
        ask(model(url), "a")
        ask(model(url, key="TEACHER_KEY"), "a")
    sent = [headers["authorization"] for headers in server.headers]
    assert sent == ["Basic " + base64.b64encode(b"me:p@w").decode(), "Bearer sk-1"]


def test_a_proxy_of_the_environment_is_used_but_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with ChatServer(echo) as server, ChatServer(lambda n, body: said("by proxy")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        assert ask(model(server.url), "a")[0].text == "A"
        assert ask(model("http://teacher.invalid/v1"), "a")[0].text == "by proxy"
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"http_proxy: 'socks5://127\.0\.0\.1:1' is not an http"):
        connect(model("http://teacher.invalid/v1"))


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


def test_a_run_most_of_whose_last_requests_failed_stops_with_their_reasons() -> None:
    def behave(number: int, body: dict[str, Any]) -> Reply:
        bad = (echo(number, body), refused(500, "overloaded"), Reply(b"<html>"), refused(500, "overloaded"))
        return bad[number % 4]

    with ChatServer(behave) as server:
        words = r"26 of the last 35 requests failed \(17× 500: overloaded, 9× the server sent HTML, not JSON: <html>\), so no"
        with pytest.raises(BackendError, match=words):
            ask(model(server.url, concurrency=1, attempts=1), *map(str, range(500)))
        assert len(server.bodies) == 35


def test_a_run_some_of_whose_requests_fail_goes_on() -> None:
    with ChatServer(lambda n, body: refused(500, "oops") if n % 5 < 2 else echo(n, body)) as server:
        found = ask(model(server.url, concurrency=1, attempts=1), *map(str, range(200)))
    assert [c.finish for c in found].count("error") == 80


class Room:
    """A server that has room for `most` requests at once, or in every `span` seconds where that is given; it refuses the rest."""

    def __init__(self, most: int, span: float = 0.0, takes: float = 0.005, status: int = 429, **headers: str) -> None:
        self.most, self.span, self.takes = most, span, takes
        self.no = refused(status, "no room", **headers)
        self.lock, self.now, self.window = threading.Lock(), 0, 0.0
        self.refusals: list[float] = []
        self.answers: list[float] = []

    def __call__(self, number: int, body: dict[str, Any]) -> Reply:
        with self.lock:
            if self.span and time.monotonic() // self.span != self.window:
                self.window, self.now = time.monotonic() // self.span, 0
            if self.now >= self.most:
                self.refusals.append(time.monotonic())
                return self.no
            self.now += 1
        time.sleep(self.takes)
        with self.lock:
            self.answers.append(time.monotonic())
            self.now -= not self.span
        return echo(number, body)


ROOMS = {
    "in-flight": Room(3),
    "in-flight-503": Room(3, status=503),
    "in-flight-with-a-time": Room(3, Retry_After="0.05"),
    "a-second": Room(20, span=0.2),
    "a-second-with-a-time": Room(20, span=0.2, Retry_After="0.2"),
}


@pytest.mark.parametrize("room", ROOMS)
def test_a_busy_server_loses_no_record_and_is_soon_asked_at_its_own_pace(room: str) -> None:
    busy = ROOMS[room]
    with ChatServer(busy) as server:
        found = ask(model(server.url, concurrency=32, attempts=5), *(f"p{i}" for i in range(200)))
    assert [c.text for c in found] == [f"P{i}" for i in range(200)]
    assert sum(c.attempts for c in found) == 200 + len(busy.refusals)
    middle = sorted(busy.answers)[100]
    assert sum(t > middle for t in busy.refusals) <= 10


@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_server_that_has_no_room_for_a_while_is_waited_for(status: int) -> None:
    began = time.monotonic()
    with ChatServer(lambda n, body: refused(status, "loading") if time.monotonic() < began + 0.5 else echo(n, body)) as server:
        found = ask(model(server.url, attempts=2), *map(str, range(30)))
        assert [c.finish for c in found] == ["stop"] * 30
        assert len(server.bodies) < 100


def test_a_server_that_has_no_room_for_good_ends_the_run() -> None:
    with ChatServer(lambda n, body: refused(503, "loading")) as server:
        with pytest.raises(
            BackendError, match=r"every request was refused for [1-9] s, so no more are sent; the last: 503: loading"
        ):
            ask(model(server.url, attempts=2, timeout=1.0), *map(str, range(30)))
        assert len(server.bodies) < 50


def test_a_retry_after_holds_for_all_requests_of_the_endpoint() -> None:
    with ChatServer(lambda n, body: refused(429, "slow down", Retry_After="0.5") if n == 3 else echo(n, body)) as server:
        found = ask(model(server.url, concurrency=1), *map(str, range(10)))
        pauses = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert [c.finish for c in found] == ["stop"] * 10
    assert [pause >= 0.5 for pause in pauses] == [i == 3 for i in range(10)]


def test_a_server_that_asks_to_come_back_tomorrow_ends_the_run() -> None:
    with ChatServer(lambda n, body: refused(429, "daily limit", Retry_After="80000")) as server:
        with pytest.raises(BackendError, match="429: daily limit; it asks to wait 80000 s: run again then"):
            ask(model(server.url, concurrency=1), "a", "b")
        assert len(server.bodies) == 1


def test_a_request_that_is_too_large_for_its_limit_is_not_repeated() -> None:
    def behave(number: int, body: dict[str, Any]) -> Reply:
        big = body["messages"][0]["content"] == "b"
        return (
            refused(429, "Request too large for gpt-x on tokens per min (TPM): Limit 9, Requested 12")
            if big
            else echo(number, body)
        )

    with ChatServer(behave) as server:
        found = ask(model(server.url), "a", "b", "c")
        assert ([c.finish for c in found], len(server.bodies)) == (["stop", "error", "stop"], 3)


def test_a_request_that_is_singled_out_fails_and_the_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drp.backends.openai.FIRST_WAIT", 0.001)

    def behave(number: int, body: dict[str, Any]) -> Reply:
        return refused(429, "no") if body["messages"][0]["content"] == "1" else Reply(echo(number, body).body, hang=0.01)

    with ChatServer(behave) as server:
        found = ask(model(server.url, attempts=2, timeout=0.8, concurrency=2), *map(str, range(60)))
    assert [i for i, c in enumerate(found) if c.finish == "error"] == [1]
    assert "429: no (refused " in found[1].error


def test_no_more_is_asked_in_a_minute_than_the_endpoint_allows() -> None:
    with ChatServer(echo) as server:
        ask(model(server.url, rpm=1200), *map(str, range(40)))  # 20 at once, 20 a second from then on
        assert server.times[-1] - server.times[0] >= 0.9
    with ChatServer(echo) as server:
        ask(model(server.url, tpm=6000), *map(str, range(20)))  # 10 tokens each, as the answers say: 100 at once
        assert server.times[-1] - server.times[0] >= 0.9


def test_an_answer_says_how_many_tries_it_took_and_what_the_server_had_in_its_cache() -> None:
    def behave(number: int, body: dict[str, Any]) -> Reply:
        reply = said("a").body
        assert isinstance(reply, dict)
        of = ({"prompt_tokens_details": {"cached_tokens": 5}}, {"prompt_cache_hit_tokens": 6}, {"prompt_tokens_details": None})
        return refused(500, "oops") if number == 0 else Reply({**reply, "usage": {"prompt_tokens": 7, **of[number % 3]}})

    with ChatServer(behave) as server:
        found = ask(model(server.url, concurrency=1), *"abc")
    assert [(c.attempts, c.cached_tokens, c.prompt_tokens, c.completion_tokens) for c in found] == [
        (2, 6, 7, 0),
        (1, 0, 7, 0),
        (1, 5, 7, 0),
    ]


def test_answers_that_came_together_are_given_together() -> None:
    with ChatServer(lambda n, body: Reply(echo(n, body).body, hang=0.1)) as server:
        asked = model(server.url)
        requests = (Ask(i, asked.request((Message("user", str(i)),))) for i in range(8))
        sizes = [(len(burst), time.sleep(0.2))[0] for burst in connect(asked).complete(requests)]
    assert sum(sizes) == 8
    assert len([size for size in sizes if size]) <= 3


def test_many_refusals_among_good_answers_do_not_stop_a_run() -> None:
    with ChatServer(lambda n, body: echo(n, body) if n == 0 else refused(400, "no")) as server:
        found = ask(model(server.url, concurrency=1), *map(str, range(60)))
    assert [c.finish for c in found].count("error") == 59


def test_too_long_prompts_before_one_failure_of_the_server_do_not_stop_a_run() -> None:
    def behave(number: int, body: dict[str, Any]) -> Reply:
        return echo(number, body) if number == 0 else refused(500 if number == 26 else 400, "no")

    with ChatServer(behave) as server:
        found = ask(model(server.url, concurrency=1, attempts=1), *map(str, range(40)))
    assert [c.finish for c in found].count("error") == 39


def test_a_run_nearly_all_of_whose_last_requests_were_refused_stops_with_their_reasons() -> None:
    with ChatServer(lambda n, body: echo(n, body) if n < 30 else refused(404, "model withdrawn")) as server:
        words = r"181 of the last 200 requests were refused \(181× 404: model withdrawn\), so no more"
        with pytest.raises(BackendError, match=words):
            ask(model(server.url, concurrency=1), *map(str, range(500)))
        assert len(server.bodies) == 211


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (402, "Insufficient Balance"),
        (400, "x" * 400 + " billing_hard_limit_reached"),
        (429, "insufficient_quota"),
        (400, "Your credit balance is too low"),
    ],
)
def test_an_account_without_money_ends_the_run_at_once(status: int, words: str) -> None:
    with ChatServer(lambda n, body: echo(n, body) if n < 3 else refused(status, words)) as server:
        with pytest.raises(BackendError, match=rf"{status}: .*the account has no money left: add credit"):
            ask(model(server.url, concurrency=1), *"abcdef")
        assert len(server.bodies) == 4


def test_a_403_after_an_answer_is_one_records_refusal() -> None:
    with ChatServer(lambda n, body: refused(403, "flagged") if n == 1 else echo(n, body)) as server:
        found = ask(model(server.url, concurrency=1), "a", "b", "c")
    assert [c.finish for c in found] == ["stop", "error", "stop"]
    assert found[1].error == "403: flagged"


@pytest.mark.parametrize(
    ("words", "learned"),
    [
        ("Unknown parameter: response_format", True),
        ("Structured outputs are not supported by this model", True),
        ("guided decoding is not available", True),
        ("the prompt about English grammar and structured data is too long", False),
    ],
)
def test_only_a_refusal_of_schemas_switches_to_tagged_json(words: str, learned: bool) -> None:
    manner = Manner()
    assert manner.learn(words, {"response_format": {}}) is learned
    assert manner.tagged is learned


@pytest.mark.parametrize(
    "url", ["htps://user:hunter2@host", "user:hunter2@host", "http://user:hunter2/x@host:1", "http://user:hunter2@[x"]
)
def test_a_wrong_base_url_is_named_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match="is not an http") as raised:
        connect(model(url))
    assert "hunter2" not in str(raised.value)


def test_no_password_of_the_url_is_shown_in_a_servers_words_and_no_redirect_is_too_odd() -> None:
    packed = base64.b64encode(b"me:hunt@r2").decode()
    with (
        ChatServer(lambda n, body: refused(401, f"who is hunt@r2, hunt%40r2, {packed}?")) as server,
        pytest.raises(BackendError, match=r"who is \*\*\*, \*\*\*, \*\*\*\?"),
    ):
        ask(model(server.url.replace("//", "//me:hunt%40r2@")), "a")
    with (
        ChatServer(lambda n, body: Reply(b"", 308, {"Location": "http://me:pw@[x"})) as server,
        pytest.raises(BackendError, match=r"sends elsewhere \(http://\[x\)"),
    ):
        ask(model(server.url), "a")


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
        (said("half a smile \ud83d", "length"), "length", "half a smile \ufffd", ""),
        (said([{"type": "text"}], "stop"), "error", "", "no content"),  # type: ignore[arg-type]
        (said("x", ["stop"]), "error", "x", "['stop'] is not an answer"),  # type: ignore[arg-type]
    ],
)
def test_what_a_server_says_of_an_answer_is_kept(reply: Reply, finish: str, text: str, error: str) -> None:
    with ChatServer(lambda n, body: reply) as server:
        (found,) = ask(model(server.url), "a")
    assert (found.finish, found.text) == (finish, text)
    assert error in found.error


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["message", "content", "model"]), inner, max_size=3)
    ),
    max_leaves=5,
)
REPLIES = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"message": JSON, "finish_reason": JSON}), max_size=2) | JSON},
    optional={"usage": JSON | st.fixed_dictionaries({"completion_tokens": JSON, "prompt_tokens_details": JSON}), "model": JSON},
)


@given(REPLIES | JSON | st.binary(max_size=20))
def test_whatever_a_server_sends_is_an_answer_or_is_called_garbled(sent: Any) -> None:
    text = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    with contextlib.suppress(Garbled):
        found = read(text, model(None).request((Message("user", "a"),)))
        assert (found.text + found.error + found.served).encode()[:0] == b""  # a file can hold it
        assert min(found.prompt_tokens, found.completion_tokens, found.cached_tokens) >= 0


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
