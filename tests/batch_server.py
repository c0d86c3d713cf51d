"""A loopback server that behaves like OpenAI's Batch API: files, batches that advance with time, limits, expiry, faults."""

import itertools
import json
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Line = dict[str, Any]
Answerer = Callable[[Line, int], Line]
"""The result line for an input line, which is seen for the n-th time (from 0)."""


@dataclass
class Fault:
    """What befalls one HTTP request: `status` instead of doing it; `late` seconds before it, `after` seconds once it is done,
    `stall` seconds in the middle of the answer; `cut` sends half and hangs up; `lost` does it and hangs up without an answer."""

    status: int = 0
    message: str = "oops"
    code: str | None = None
    late: float = 0.0
    stall: float = 0.0
    after: float = 0.0
    cut: bool = False
    lost: bool = False


@dataclass
class Rules:
    """How the server is. Times in seconds; `executes` is how many lines are done before a batch expires (all where None)."""

    validating: float = 0.02
    running: float = 0.05
    max_requests: int = 50_000
    max_bytes: int = 200_000_000
    enqueued: int | None = None
    """Requests that may be queued or running at once (the API counts tokens)."""
    expires: Callable[[int], int | None] = lambda number: None
    """How many lines of the n-th batch (from 0) are executed before it expires; None where it does not."""
    page: int = 100
    metadata: bool = True
    """Whether metadata are kept."""
    output_late: float = 0.0
    """Seconds for which a completed batch does not show its files yet."""
    retouch: Callable[[str, list[bytes]], list[bytes]] = lambda kind, lines: lines
    """A last hand on the lines of a result file (`output` or `error`)."""


def good(line: Line, text: str | None = None, **message: Any) -> Line:
    """A result line with an answer: the prompt in capitals where no text is given."""
    said = line["body"]["messages"][-1]["content"].upper() if text is None else text
    choice = {"index": 0, "message": {"role": "assistant", "content": said, **message}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "served", "choices": [choice], "usage": usage}
    return result(line, 200, body)


def bad(line: Line, status: int, message: str, code: str | None = None) -> Line:
    """A result line with a refusal."""
    return result(line, status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}})


def result(line: Line, status: int, body: Any) -> Line:
    """A result line with a response."""
    response = {"status_code": status, "request_id": "req", "body": body}
    return {"id": "batch_req_x", "custom_id": line["custom_id"], "response": response, "error": None}


def unexecuted(line: Line, code: str, message: str) -> Line:
    """A result line of a request that never ran."""
    return {"id": "batch_req_x", "custom_id": line["custom_id"], "response": None, "error": {"code": code, "message": message}}


@dataclass
class _Batch:
    """A batch and what becomes of it."""

    number: int
    id: str
    input: str
    metadata: dict[str, str]
    born: float
    lines: list[Line] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    checked: bool = False
    status: str = "validating"
    cancelled: float | None = None
    ended: float | None = None
    files: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


class BatchServer:
    """The API inside its `with`. `seen` counts how often each custom_id was executed, which is what is paid for."""

    def __init__(self, answer: Answerer = lambda line, n: good(line), rules: Rules | None = None) -> None:
        self.answer, self.rules = answer, rules or Rules()
        self.seen: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.batches: list[_Batch] = []
        self.calls: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.reached = threading.Event()
        """Set when a request is where its fault (`late`, `stall`, `after`) lets it wait."""
        self.fault: Callable[[str, int], Fault | None] = lambda what, number: None
        """The fault for the n-th request (from 0) of a kind: upload, content, create, retrieve, list, cancel."""
        self._files: dict[str, tuple[str, bytes]] = {}
        self._ids = itertools.count(1)
        self._lock = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> "BatchServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    # -- HTTP --------------------------------------------------------------------------------------------------------------

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle(self) -> None:
                with suppress(ConnectionError):  # a client that was killed
                    super().handle()

            def do_POST(self) -> None:
                self._do(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            def do_GET(self) -> None:
                self._do(b"")

            def _do(self, body: bytes) -> None:
                parts = urllib.parse.urlsplit(self.path)
                what, name = _what(self.command, parts.path)
                with outer._lock:
                    number = outer.calls[what]
                    outer.calls[what] += 1
                    outer.headers.append({k.lower(): v for k, v in self.headers.items()})
                fault = outer.fault(what, number) or Fault()
                if fault.late:
                    outer.reached.set()
                    time.sleep(fault.late)
                    if _gone(self.connection):
                        self.close_connection = True
                        return
                if fault.status:
                    status, answer = fault.status, _error(fault.message, fault.code)
                else:
                    with outer._lock:
                        status, answer = outer._serve(what, name, self.headers, body, dict(urllib.parse.parse_qsl(parts.query)))
                if fault.after:
                    outer.reached.set()
                    time.sleep(fault.after)
                self._send(status, answer, fault)

            def _send(self, status: int, answer: bytes, fault: Fault) -> None:
                self.close_connection = fault.cut or fault.lost
                if fault.lost:
                    return
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    half = len(answer) // 2
                    self.wfile.write(answer[:half])
                    if fault.stall:
                        outer.reached.set()
                        time.sleep(fault.stall)
                    if not fault.cut:
                        self.wfile.write(answer[half:])
                except ConnectionError:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def _serve(self, what: str, name: str, headers: Any, body: bytes, query: dict[str, str]) -> tuple[int, bytes]:
        for batch in self.batches:
            self._advance(batch)
        if what == "upload":
            return self._upload(headers["Content-Type"], body)
        if what == "create":
            return self._create(json.loads(body))
        if what == "list":
            return self._list(query)
        if what == "content":
            found = self._files.get(name)
            return (200, found[1]) if found else (404, _error(f"No such File object: {name}", None))
        named = next((batch for batch in self.batches if batch.id == name), None)
        if named is None:
            return 404, _error(f"No batch found with id '{name}'.", None)
        if what == "cancel":
            self.cancel(named.id)
        return 200, self._plain(named)

    # -- files -------------------------------------------------------------------------------------------------------------

    def _upload(self, kind: str, body: bytes) -> tuple[int, bytes]:
        form = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        parts = {part.get_param("name", header="content-disposition"): part for part in form.get_payload()}  # type: ignore[union-attr]
        data = parts["file"].get_payload(decode=True)  # type: ignore[union-attr]
        assert isinstance(data, bytes)
        if len(data) > self.rules.max_bytes:
            return 413, _error(f"The file is larger than {self.rules.max_bytes} bytes", "file_too_large")
        purpose = str(parts["purpose"].get_payload())  # type: ignore[union-attr]
        name = self._keep(str(parts["file"].get_filename()), data)  # type: ignore[union-attr]
        plain = {
            "id": name,
            "object": "file",
            "bytes": len(data),
            "created_at": int(time.time()),
            "filename": "f",
            "purpose": purpose,
        }
        return 200, json.dumps({**plain, "status": "processed"}).encode()

    def _keep(self, filename: str, data: bytes) -> str:
        name = f"file-{next(self._ids)}"
        self._files[name] = (filename, data)
        return name

    def forget(self, kind: str) -> None:
        """Remove a kind of result file (`output` or `error`) of every batch."""
        with self._lock:
            for batch in self.batches:
                self._files.pop(batch.files.get(kind, ""), None)

    # -- batches -----------------------------------------------------------------------------------------------------------

    def _create(self, asked: dict[str, Any]) -> tuple[int, bytes]:
        if asked.get("completion_window") != "24h" or asked.get("endpoint") != "/v1/chat/completions":
            return 400, _error("Invalid value for completion_window or endpoint", "invalid_value")
        if asked["input_file_id"] not in self._files:
            return 400, _error(f"No such File object: {asked['input_file_id']}", None)
        metadata = (asked.get("metadata") or {}) if self.rules.metadata else {}
        if len(metadata) > 16 or any(len(k) > 64 or len(v) > 512 for k, v in metadata.items()):
            return 400, _error("metadata is too large", None)
        number = len(self.batches)
        self.batches.append(_Batch(number, f"batch_{next(self._ids)}", asked["input_file_id"], metadata, time.time()))
        return 200, self._plain(self.batches[-1])

    def create(self, said: str) -> None:
        """A batch of somebody else's."""
        line = {"custom_id": said, "method": "POST", "url": "/v1/chat/completions"}
        body = {"model": "another", "messages": [{"role": "user", "content": said}]}
        with self._lock:
            name = self._keep("theirs.jsonl", json.dumps({**line, "body": body}).encode() + b"\n")
            self._create({"input_file_id": name, "endpoint": "/v1/chat/completions", "completion_window": "24h"})

    def cancel(self, name: str) -> None:
        """What someone does in the dashboard."""
        with self._lock:
            batch = next(batch for batch in self.batches if batch.id == name)
            self._advance(batch)
            if batch.ended is None:
                batch.cancelled = time.time()

    def _list(self, query: dict[str, str]) -> tuple[int, bytes]:
        newest = self.batches[::-1]
        names = [batch.id for batch in newest]
        begin = names.index(query["after"]) + 1 if "after" in query else 0
        end = begin + min(int(query.get("limit", 20)), self.rules.page)
        data = [json.loads(self._plain(batch)) for batch in newest[begin:end]]
        last = data[-1]["id"] if data else None
        plain = {"object": "list", "data": data, "first_id": data[0]["id"] if data else None, "last_id": last}
        return 200, json.dumps({**plain, "has_more": end < len(newest)}).encode()

    def _plain(self, batch: _Batch) -> bytes:
        hidden = batch.ended is not None and time.time() < batch.ended + self.rules.output_late
        files = {} if hidden else batch.files
        return json.dumps(
            {
                "id": batch.id, "object": "batch", "endpoint": "/v1/chat/completions", "completion_window": "24h",
                "input_file_id": batch.input, "status": batch.status, "created_at": int(batch.born), "metadata": batch.metadata,
                "errors": {"object": "list", "data": batch.errors} if batch.errors else None,
                "output_file_id": files.get("output"), "error_file_id": files.get("error", ""),
                "request_counts": {"total": len(batch.lines), "completed": 0, "failed": 0, **batch.counts},
            }
        ).encode()  # fmt: skip

    def _advance(self, batch: _Batch) -> None:
        """Bring a batch to where it is by now."""
        age = time.time() - batch.born
        if batch.ended is not None or age < self.rules.validating:
            return
        if not batch.checked:
            self._validate(batch)
            if batch.ended is not None:
                return
        if batch.cancelled is not None:
            if time.time() - batch.cancelled >= self.rules.running / 2:
                self._end(batch, "cancelled", len(batch.lines) // 2)
            else:
                batch.status = "cancelling"
            return
        if age < self.rules.validating + self.rules.running * 0.8:
            batch.status = "in_progress"
        elif age < self.rules.validating + self.rules.running:
            batch.status = "finalizing"
        else:
            most = self.rules.expires(batch.number)
            self._end(batch, "completed" if most is None else "expired", most)

    def _validate(self, batch: _Batch) -> None:
        batch.checked, batch.status = True, "in_progress"
        faults: list[tuple[str, str, int | None]] = []
        known: set[str] = set()
        for number, raw in enumerate(self._files[batch.input][1].splitlines(), 1):
            line = json.loads(raw)
            if set(line) != {"custom_id", "method", "url", "body"} or line["url"] != "/v1/chat/completions":
                faults.append(("invalid_request", "This line is not a request.", number))
            if line["custom_id"] in known:
                faults.append(
                    ("duplicate_custom_id", "The custom_id for this request is a duplicate of another request.", number)
                )
            if batch.lines and line["body"]["model"] != batch.lines[0]["body"]["model"]:
                faults.append(("mismatched_model", "The model of this request is not that of the first.", number))
            if line["body"]["model"] == "nobody":
                faults.append(("model_not_found", "The provided model 'nobody' is not supported by the Batch API.", number))
            known.add(line["custom_id"])
            batch.lines.append(line)
        if len(batch.lines) > self.rules.max_requests:
            faults.append(("too_many_requests", f"The file has more than {self.rules.max_requests} requests.", None))
        queued = sum(len(other.lines) for other in self.batches if other.ended is None)
        if self.rules.enqueued is not None and queued > self.rules.enqueued:
            words = (
                f"Enqueued token limit reached. Limit: {self.rules.enqueued}. Please try again once some batches are completed."
            )
            faults.append(("token_limit_exceeded", words, None))
        if faults:
            batch.errors = [{"code": code, "message": words, "line": number, "param": None} for code, words, number in faults]
            batch.status, batch.ended = "failed", time.time()

    def _end(self, batch: _Batch, status: str, most: int | None) -> None:
        """Execute lines, the first `most` of them, and put the results into files: not in the order of the input."""
        out: list[bytes] = []
        wrong: list[bytes] = []
        for place, line in enumerate(batch.lines):
            if most is not None and place >= most:
                words = "This request could not be executed before the completion window expired."
                found = unexecuted(line, "batch_expired" if status == "expired" else "batch_cancelled", words)
            else:
                found = self.answer(line, self.seen[line["custom_id"]])
                self.bodies.append(line["body"])
                self.seen[line["custom_id"]] += 1
            fine = found["response"] and found["response"]["status_code"] == 200
            (out if fine else wrong).append(json.dumps(found).encode() + b"\n")
        batch.counts = {"completed": len(out), "failed": len(wrong)}
        for kind, lines in (("output", out[::-1]), ("error", wrong)):
            if lines:
                batch.files[kind] = self._keep(f"{batch.id}_{kind}.jsonl", b"".join(self.rules.retouch(kind, lines)))
        batch.status, batch.ended = status, time.time()

    def statuses(self) -> list[str]:
        """How every batch is now."""
        with self._lock:
            for batch in self.batches:
                self._advance(batch)
            return [batch.status for batch in self.batches]

    def sizes(self) -> list[int]:
        """The number of requests of every batch that was not refused."""
        return [len(batch.lines) for batch in self.batches if batch.status != "failed"]


def _what(method: str, path: str) -> tuple[str, str]:
    """The kind of a request, and the id in its path."""
    parts = path.removeprefix("/v1/").split("/")
    match method, parts:
        case "POST", ["files"]:
            return "upload", ""
        case "GET", ["files", name, "content"]:
            return "content", name
        case "POST", ["batches"]:
            return "create", ""
        case "GET", ["batches"]:
            return "list", ""
        case "GET", ["batches", name]:
            return "retrieve", name
        case "POST", ["batches", name, "cancel"]:
            return "cancel", name
    raise AssertionError(f"the Batch API has no {method} {path}")


def _gone(connection: Any) -> bool:
    """Whether the client has hung up."""
    import socket

    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"")
    except BlockingIOError:
        return False
    except OSError:
        return True


def _error(message: str, code: str | None) -> bytes:
    return json.dumps({"error": {"message": message, "type": "error", "param": None, "code": code}}).encode()
