"""A small OpenAI-compatible server on loopback over any backend: other programs ask the models that this one can."""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from drp.backends import Ask, Backend, connect
from drp.errors import BackendError, DrpError, choices
from drp.models import Completion, Message, Model, Request, Sampling

HOST = "127.0.0.1"
LARGEST = 16 * 1024 * 1024
"""Bytes of the largest request body that is read."""
LINGER = 0.01
"""Seconds that an idle backend waits after a first request for others that come with it, so that they share a batch."""
SETTINGS: dict[str, type[float] | type[int]] = {"temperature": float, "top_p": float, "top_k": int, "max_tokens": int}
"""The settings of a request that stand before the model's own."""


def serve(model: Model, port: int, ready: Callable[[int], None] = lambda port: None) -> None:
    """Serve `model` on 127.0.0.1:`port` (0: any free one) until interrupted; `ready` is called once with the port.

    BackendError where the port is taken, or where the model itself cannot be used.
    """
    with Server(model, connect(model), port) as server:
        ready(server.port)
        server.wait()


class Server:
    """A backend behind `/v1/chat/completions` and `/v1/models`. A context manager: it answers inside the `with`."""

    def __init__(self, model: Model, backend: Backend, port: int = 0) -> None:
        self.model, self.line = model, _Line(backend)
        self._failure = BackendError("the server has stopped")
        try:
            self._http = _Listener((HOST, port), _Handler)
        except OSError as error:
            raise BackendError(f"{HOST}:{port}: cannot listen ({error.strerror}); choose another port, or 0 for any") from error
        self._http.owner = self
        self.port = int(self._http.server_address[1])
        self._listener = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._worker = threading.Thread(target=self._work, daemon=True)

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"http://{HOST}:{self.port}/v1"

    def __enter__(self) -> "Server":
        self._listener.start()
        self._worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self.line.close(self._failure)
        self._worker.join(timeout=5)

    def wait(self) -> None:
        """Block for as long as the backend works; then raise what it failed with. An interrupt passes through."""
        while self._worker.is_alive():
            self._worker.join(0.2)
        raise self._failure

    def _work(self) -> None:
        try:
            self.line.work()
        except BackendError as error:
            self._failure = error
        finally:
            self.line.close(self._failure)
            self.line.dismiss(self._failure)


class _Line:
    """Requests from many threads, standing in line for one backend."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._queue: queue.SimpleQueue[tuple[Request, Future[Completion]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._asked: dict[int, Future[Completion]] = {}
        self._tickets = 0
        self._closed: DrpError | None = None

    def ask(self, request: Request) -> Completion:
        """The completion, once it is there; raises what the line was closed with."""
        future: Future[Completion] = Future()
        with self._lock:
            if self._closed is not None:
                raise self._closed
            self._queue.put((request, future))
        self._arrived.set()
        return future.result()

    def work(self) -> None:
        """Feed the backend until the line is closed and what it has in hand is done."""
        for burst in self.backend.complete(self._asks()):
            for answer in burst:
                self._asked.pop(answer.ticket).set_result(answer.completion)
            if not burst and not self._asked and self._queue.empty():
                self._arrived.wait()
                self._arrived.clear()
                time.sleep(LINGER)

    def _asks(self) -> Iterator[Ask | None]:
        while True:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                yield None
                continue
            if item is None:
                return
            self._tickets += 1
            self._asked[self._tickets] = item[1]
            yield Ask(self._tickets, item[0])

    def close(self, why: DrpError) -> None:
        """Let nobody in any more; who stands in line already is still served."""
        with self._lock:
            if self._closed is None:
                self._closed = why
                self._queue.put(None)
        self._arrived.set()

    def dismiss(self, why: DrpError) -> None:
        """Send everybody away who still waits; for when nobody works any more."""
        left = list(self._asked.values())
        while not self._queue.empty():
            item = self._queue.get_nowait()
            left += [item[1]] if item is not None else []
        for future in left:
            future.set_exception(why)


class _Listener(ThreadingHTTPServer):
    """Takes many connections at once, a thread each."""

    daemon_threads = True
    request_queue_size = 256
    owner: Server


class _Bad(Exception):
    """A request that cannot be answered, with the HTTP status that says so."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def do_GET(self) -> None:
        """`/v1/models`: the one model that is served."""
        if self.path.rstrip("/") != "/v1/models":
            return self._refuse(404, f"no {self.path} here; there are GET /v1/models and POST /v1/chat/completions")
        model = {"id": self.server.owner.model.name, "object": "model", "created": 0, "owned_by": "drp"}
        return self._send(200, {"object": "list", "data": [model]})

    def do_POST(self) -> None:
        """`/v1/chat/completions`: one chat, answered whole."""
        owner = self.server.owner
        try:
            payload = self._payload()
            if self.path.rstrip("/") != "/v1/chat/completions":
                raise _Bad(404, f"no {self.path} here; there are GET /v1/models and POST /v1/chat/completions")
            completion = owner.line.ask(_request(payload, owner.model))
            if completion.finish == "error":
                raise _Bad(422, completion.error)
        except _Bad as bad:
            return self._refuse(bad.status, str(bad))
        except DrpError as error:
            return self._refuse(503, str(error))
        return self._send(200, _reply(completion, owner.model))

    def _payload(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LARGEST:
            self.close_connection = True
            raise _Bad(413 if length.isdigit() else 411, f"a body needs a Content-Length of at most {LARGEST}")
        try:
            payload = json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise _Bad(400, f"the body is not JSON: {error}") from error
        if not isinstance(payload, dict):
            raise _Bad(400, "the body is not a JSON object")
        return payload

    def _refuse(self, status: int, text: str) -> None:
        self._send(status, {"error": {"message": text, "type": "invalid_request_error" if status < 500 else "server_error"}})

    def _send(self, status: int, reply: dict[str, Any]) -> None:
        text = json.dumps(reply, ensure_ascii=False).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        except ConnectionError:  # the client has gone; its answer has nowhere to go
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a run's progress is its caller's to tell."""


def _request(payload: dict[str, Any], model: Model) -> Request:
    """The request that a body asks for, with the model's own sampling where the body is silent."""
    if payload.get("model") not in (model.name, model.role):
        raise _Bad(404, f"no model {payload.get('model')!r} here{choices(payload.get('model'), [model.name])}")
    for key, value in (("stream", False), ("n", 1), ("tools", None)):
        if payload.get(key) not in (None, value):
            raise _Bad(400, f"{key} is not supported here: leave it out")
    seed = payload.get("seed")
    if seed is not None and not isinstance(seed, int):
        raise _Bad(400, f"seed: {seed!r} is not an integer")
    asked = replace(model, sampling=_sampling(payload, model.sampling))
    return asked.request(_messages(payload.get("messages")), schema=_schema(payload.get("response_format")), seed=seed)


def _sampling(payload: dict[str, Any], own: Sampling) -> Sampling:
    limit = payload.get("max_completion_tokens")
    given = payload if limit is None else {**payload, "max_tokens": limit}
    asked: dict[str, Any] = {}
    for key, kind in SETTINGS.items():
        value = given.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, kind)) or value < 0:
            raise _Bad(400, f"{key}: {value!r} is not a number that it can be")
        asked[key] = kind(value)
    return replace(own, **asked)


def _messages(turns: Any) -> tuple[Message, ...]:
    if not isinstance(turns, list) or not turns:
        raise _Bad(400, "messages: a list of at least one message is needed")
    for turn in turns:
        if not isinstance(turn, dict) or turn.get("role") not in ("system", "user", "assistant"):
            raise _Bad(400, "messages: each needs a role: system, user or assistant")
        if not isinstance(turn.get("content"), str):
            raise _Bad(400, "messages: each needs a content that is a string")
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)


def _schema(form: Any) -> dict[str, Any] | None:
    """The JSON Schema that a `response_format` asks for; its name becomes the title of a schema that has none."""
    if form is None or form == {"type": "text"}:
        return None
    inner = form.get("json_schema") if isinstance(form, dict) and form.get("type") == "json_schema" else None
    if not isinstance(inner, dict) or not isinstance(inner.get("schema"), dict):
        raise _Bad(400, "response_format: only {type: json_schema, json_schema: {name, schema}} is supported")
    return {"title": inner.get("name"), **inner["schema"]}


def _reply(completion: Completion, model: Model) -> dict[str, Any]:
    spent = {"prompt_tokens": completion.prompt_tokens, "completion_tokens": completion.completion_tokens}
    message = {"role": "assistant", "content": completion.text}
    return {
        "id": f"chatcmpl-{time.time_ns():x}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": completion.served or model.name,
        "choices": [{"index": 0, "message": message, "finish_reason": completion.finish, "logprobs": None}],
        "usage": {**spent, "total_tokens": sum(spent.values())},
    }
