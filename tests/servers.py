"""Loopback servers that answer chat requests as a test says: well, badly, late or not at all."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal


@dataclass
class Reply:
    """What goes back: `body` as JSON where it is a dict; `hang` seconds before it, `stall` seconds in the middle of it.

    `cut` sends half of it and hangs up; `chunked` sends it in chunks; `bare` sends its bytes alone, without HTTP; `leave`
    closes the connection after it without saying so: "fin" in good order, "rst" with a reset.
    """

    body: dict[str, Any] | bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0
    cut: bool = False
    stall: float = 0.0
    chunked: bool = False
    bare: bool = False
    leave: Literal["", "fin", "rst"] = ""


Behaviour = Callable[[int, dict[str, Any]], Reply]
"""What to answer to the n-th request (from 0), given its body."""


def said(
    text: str | None, finish: str | None = "stop", model: str = "served", tokens: tuple[int, int] = (7, 3), **message: Any
) -> Reply:
    """A chat completion as a good server sends it; `tokens` of the prompt, and of the completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return Reply({"id": "x", "object": "chat.completion", "created": 0, "model": model, "choices": [choice], "usage": usage})


def refused(status: int, message: str, **headers: str) -> Reply:
    """An error as OpenAI words it."""
    return Reply({"error": {"message": message, "code": None}}, status, {k.replace("_", "-"): v for k, v in headers.items()})


class _Http(ThreadingHTTPServer):
    request_queue_size = 256  # of 5, the sixth client at once waits a second


class ChatServer:
    """A server of a given behaviour, inside its `with`. It keeps every request's body, headers and time."""

    def __init__(self, behave: Behaviour) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.under_way = self.most = 0
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(outer.bodies)
                    outer.bodies.append(body)
                    outer.headers.append({k.lower(): v for k, v in self.headers.items()})
                    outer.times.append(time.monotonic())
                    outer.under_way += 1
                    outer.most = max(outer.most, outer.under_way)
                reply = behave(number, body)
                time.sleep(reply.hang)
                with lock:
                    outer.under_way -= 1
                try:
                    self._send(reply)
                    self.close_connection = reply.cut or reply.bare or bool(reply.leave)
                except ConnectionError:
                    self.close_connection = True
                if reply.leave == "rst":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

            def _send(self, reply: Reply) -> None:
                text = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                if reply.bare:
                    self.wfile.write(text)
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header(*(("Transfer-Encoding", "chunked") if reply.chunked else ("Content-Length", str(len(text)))))
                self.end_headers()
                half = len(text) // 2
                self._part(text[:half], reply.chunked)
                time.sleep(reply.stall)
                if not reply.cut:
                    self._part(text[half:], reply.chunked)
                    self._part(b"", reply.chunked)

            def _part(self, text: bytes, chunked: bool) -> None:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text) if chunked else text)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = _Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> "ChatServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


class Remembering:
    """A server that says what `answer` makes of each prompt, and keeps them all; who asks after the first `most` waits at the gate."""

    def __init__(self, answer: Callable[[str], str], tokens: tuple[int, int] = (7, 3)) -> None:
        self.answer, self.tokens = answer, tokens
        self.prompts: list[str] = []
        self.most, self.gate = 1_000_000, threading.Event()
        self._server = ChatServer(self._behave)
        self.url = self._server.url

    def __enter__(self) -> "Remembering":
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self._server.__exit__()

    def _behave(self, number: int, body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        self.prompts.append(prompt)
        if len(self.prompts) > self.most:
            self.gate.wait()
        return said(self.answer(prompt), tokens=self.tokens)
