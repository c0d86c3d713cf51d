"""An OpenAI-compatible chat server on 127.0.0.1 that answers with a hash of the prompt, to measure clients by.

    python benchmarks/loopback.py [--port 0] [--delay 0.02]

It prints its port, and then serves until it is ended:

    POST /v1/chat/completions   answered after the delay with `answer(prompt)`, so that a stale answer can be told
    GET  /v1/models             one model, `loopback`
    GET  /stats                 what was asked since the last reset: see `Stats`
    POST /reset                 counts from zero again

It does no more than a client needs (one asyncio protocol, no HTTP library), so that it takes little of the CPU it shares
with the client that is measured. Nothing is streamed.
"""

import argparse
import asyncio
import hashlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

COMPLETIONS = "/chat/completions"
REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found"}
END_SECONDS = 5


@dataclass
class Stats:
    """What a server was asked since it started, or since the last reset."""

    requests: int = 0
    """Chat requests, the refused ones included."""
    refused: int = 0
    """Those that were no chat request (not JSON, no messages, streaming), answered with status 400."""
    distinct: int = 0
    """How many different bodies they had."""
    most_in_flight: int = 0
    """The most requests that were under way at one time."""


class Served(NamedTuple):
    """A server under way: its base URL, ending in `/v1`, and what it has been asked."""

    url: str
    stats: Callable[[], Stats]


def answer(prompt: str) -> str:
    """What the server says to a prompt: 64 hexadecimal digits. Several messages count as one prompt, joined by newlines."""
    return hashlib.sha256(prompt.encode()).hexdigest()


@contextmanager
def serving(delay: float = 0.02) -> Iterator[Served]:
    """A server in its own process, that answers after `delay` seconds; it ends with the `with`, or with this process."""
    command = [sys.executable, __file__, "--delay", str(delay), "--until-stdin-closes"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            root = f"http://127.0.0.1:{int(process.stdout.readline())}"
            yield Served(f"{root}/v1", lambda: _stats(root))
        finally:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes any free one")
    parser.add_argument("--delay", type=float, default=0.02, help="seconds from a request's last byte to its answer")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when the parent is gone")
    options = parser.parse_args()
    asyncio.run(_serve(options.port, options.delay, options.until_stdin_closes))


async def _serve(port: int, delay: float, until_stdin_closes: bool) -> None:
    """Listen until cancelled, or until stdin is at its end."""
    loop = asyncio.get_running_loop()
    counter = _Counter()
    server = await loop.create_server(lambda: _Connection(counter, delay), "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        ended = asyncio.Event()
        if until_stdin_closes:
            loop.add_reader(sys.stdin, ended.set)
        await ended.wait()


class _Counter:
    """Counts of all connections together."""

    def __init__(self) -> None:
        self.under_way = 0
        self.reset()

    def reset(self) -> None:
        """From zero; requests under way stay under way."""
        self.requests = self.refused = self.most = 0
        self.bodies: set[bytes] = set()

    def stats(self) -> Stats:
        """The counts as they are reported."""
        return Stats(self.requests, self.refused, len(self.bodies), self.most)

    def started(self, body: bytes) -> None:
        """A chat request has come in whole."""
        self.requests += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.bodies.add(hashlib.blake2b(body, digest_size=16).digest())


@dataclass(slots=True)
class _Head:
    """What a request's head says, as far as it matters here."""

    method: str
    path: str
    length: int
    chunked: bool
    waits: bool
    """The client sends the body only after `100 Continue`."""
    last: bool
    """The client wants the connection closed after the answer."""


class _Refused(Exception):
    """A body that is no chat request; the text says why."""


class _Connection(asyncio.Protocol):
    """One client connection: requests in, responses out, in order."""

    def __init__(self, counter: _Counter, delay: float) -> None:
        self.counter, self.delay = counter, delay
        self.buffer = b""
        self.head: _Head | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self._take():
            pass

    def _take(self) -> bool:
        """Act on one request, where the buffer holds it whole."""
        if self.head is None:
            raw, end, rest = self.buffer.partition(b"\r\n\r\n")
            if not end:
                return False
            self.head, self.buffer = _parse(raw), rest
            if self.head.waits and not rest:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = self.head
        if head.chunked:
            whole = _unchunk(self.buffer)
            if whole is None:
                return False
            body, self.buffer = whole
        elif len(self.buffer) < head.length:
            return False
        else:
            body, self.buffer = self.buffer[: head.length], self.buffer[head.length :]
        self.head = None
        self._respond(head, body)
        return True

    def _respond(self, head: _Head, body: bytes) -> None:
        """Answer: a chat request after the delay, all else at once."""
        if head.method == "POST" and head.path.endswith(COMPLETIONS):
            self.counter.started(body)
            asyncio.get_running_loop().call_later(self.delay, self._complete, body, head.last)
        elif head.path == "/stats":
            self._send(200, asdict(self.counter.stats()), head.last)
        elif head.method == "POST" and head.path == "/reset":
            self.counter.reset()
            self._send(200, asdict(self.counter.stats()), head.last)
        elif head.path.endswith("/models"):
            model = {"id": "loopback", "object": "model", "created": 0, "owned_by": "loopback"}
            self._send(200, {"object": "list", "data": [model]}, head.last)
        else:
            self._send(404, {"error": {"message": f"nothing is served at {head.method} {head.path}"}}, head.last)

    def _complete(self, body: bytes, last: bool) -> None:
        """Send the completion of a chat request."""
        self.counter.under_way -= 1
        try:
            reply = _completion(body)
        except _Refused as refused:
            self.counter.refused += 1
            self._send(400, {"error": {"message": str(refused), "type": "invalid_request_error"}}, last)
        else:
            self._send(200, reply, last)

    def _send(self, status: int, reply: dict[str, Any], last: bool) -> None:
        """Write one response, unless the client has gone."""
        if self.transport.is_closing():
            return
        body = json.dumps(reply).encode()
        closing = b"connection: close\r\n" if last else b""
        head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%b\r\n"
        self.transport.write(head % (status, REASONS[status], len(body), closing) + body)
        if last:
            self.transport.close()


def _parse(raw: bytes) -> _Head:
    """The head of a request, from its bytes without the empty line."""
    first, _, rest = raw.decode("latin-1").partition("\r\n")
    method, _, target = first.partition(" ")
    path = target.partition(" ")[0].partition("?")[0]
    lines = (line.partition(":") for line in rest.lower().split("\r\n"))
    fields = {name.strip(): value.strip() for name, _, value in lines}
    return _Head(
        method,
        path,
        length=int(fields.get("content-length", 0)),
        chunked="chunked" in fields.get("transfer-encoding", ""),
        waits=fields.get("expect") == "100-continue",
        last=fields.get("connection") == "close" or (first.endswith("HTTP/1.0") and fields.get("connection") != "keep-alive"),
    )


def _unchunk(data: bytes) -> tuple[bytes, bytes] | None:
    """A chunked body and what follows it, or None as long as it is not whole."""
    body = b""
    while True:
        size, end, data = data.partition(b"\r\n")
        if not end:
            return None
        length = int(size.partition(b";")[0], 16)
        if length == 0:
            break
        if len(data) < length + 2:
            return None
        body, data = body + data[:length], data[length + 2 :]
    while True:  # trailers, up to an empty line
        line, end, data = data.partition(b"\r\n")
        if not end:
            return None
        if not line:
            return body, data


def _completion(body: bytes) -> dict[str, Any]:
    """The chat completion that answers a request's body."""
    try:
        asked = json.loads(body)
    except ValueError as error:
        raise _Refused(f"the body is not JSON: {error}") from error
    if not isinstance(asked, dict) or not asked.get("messages"):
        raise _Refused("messages: at least one is needed")
    if asked.get("stream"):
        raise _Refused("stream: this server does not stream")
    text = answer("\n".join(_text(message.get("content")) for message in asked["messages"]))
    return {
        "id": "chatcmpl-loopback",
        "object": "chat.completion",
        "created": 0,
        "model": asked.get("model", "loopback"),
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21},
    }


def _text(content: object) -> str:
    """A message's text: a string, or a list of parts of which those that are text count."""
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return str(content or "")


def _stats(root: str) -> Stats:
    """Ask a server for its stats."""
    with urllib.request.urlopen(f"{root}/stats", timeout=END_SECONDS) as response:
        return Stats(**json.load(response))


if __name__ == "__main__":
    main()
