"""Any OpenAI-compatible server: many requests in flight on a private event loop, retried, each failure called by its name."""

import asyncio
import os
import random
import urllib.parse
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Any

from drp.backends import Answer, Ask, pull
from drp.errors import BackendError, ConfigError, MissingPackage
from drp.models import Completion, Model, Request
from drp.wire import Garbled, Manner, body, brief, read

if TYPE_CHECKING:
    import openai

PUBLIC = "https://api.openai.com/v1"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
PATIENCE = 20
"""So many failures in a row end the run: nobody wants ten thousand records dropped for one wrong setting."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds before the second attempt, and the most between two where the server names no time."""


def connect(model: Model) -> "Remote":
    """The server at the endpoint's `base_url` (OpenAI's own where there is none), with the key that it names.

    ConfigError for a malformed URL or a missing key variable, MissingPackage without the package openai. Nothing is sent.
    """
    try:
        import openai  # noqa: F401
    except ImportError as error:
        raise MissingPackage("backend openai needs the package openai; pip install 'drp[openai]'") from error
    url = model.endpoint.base_url or PUBLIC
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"run.{model.role}.base_url: {url!r} is not an http(s) URL such as http://127.0.0.1:8000/v1")
    return Remote(model, url, _key(model))


def _key(model: Model) -> str | None:
    """The secret in the variable that the endpoint names; None where it names none (a server of one's own)."""
    name = model.endpoint.key
    if name is None and model.endpoint.base_url is None:
        name = "OPENAI_API_KEY"
    if name is None:
        return None
    secret = os.environ.get(name)
    if not secret:
        raise ConfigError(f"run.{model.role}.key: the environment variable {name} is not set; export it with the server's key")
    return secret


class _Transient(Exception):
    """An attempt failed in a way that another may not; `wait` is what the server asks for, in seconds."""

    def __init__(self, text: str, wait: float | None = None, unreachable: bool = False) -> None:
        super().__init__(text)
        self.wait, self.unreachable = wait, unreachable


class _Refused(Exception):
    """The server will not answer this one request, however often it is asked."""


class _Otherwise(Exception):
    """The server wants the same request put otherwise, and it is now known how."""


class Remote:
    """A server. It learns a server's manner (structured output, name of the token limit) once, for all that follows."""

    def __init__(self, model: Model, url: str, key: str | None) -> None:
        self.model, self.url, self.key = model, url, key
        self.manner = Manner()
        self.place = _without_user(url)

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """Answer every ask, `concurrency` of them in flight; BackendError where the server as a whole cannot be used."""
        client, health = self._client(), _Health(self.place)

        async def answer(request: Request) -> Completion:
            return await self._answer(client, health, request)

        flight = _Flight(answer)
        ended = False
        try:
            while True:
                if not ended:
                    pulled, ended = pull(asks, self.model.endpoint.concurrency - flight.under_way)
                    for ask in pulled:
                        flight.launch(ask)
                if flight.under_way:
                    yield from flight.land()
                elif ended:
                    return
                else:
                    yield ()
        finally:
            flight.close(client.close)

    def _client(self) -> "openai.AsyncOpenAI":
        import openai

        endpoint = self.model.endpoint
        local = urllib.parse.urlsplit(self.url).hostname in LOOPBACK
        http = openai.DefaultAsyncHttpxClient(timeout=endpoint.timeout, trust_env=not local)
        return openai.AsyncOpenAI(
            api_key=self.key or "none", base_url=self.url, max_retries=0, timeout=endpoint.timeout, http_client=http
        )

    async def _answer(self, client: "openai.AsyncOpenAI", health: "_Health", request: Request) -> Completion:
        """The completion of one request, after as many attempts as the endpoint allows."""
        attempt = 1
        while True:
            try:
                completion = await self._attempt(client, request)
            except _Otherwise:
                continue
            except _Refused as refused:
                health.failure(str(refused), of_server=False)
                return Completion("", "error", error=str(refused))
            except _Transient as failure:
                if attempt >= self.model.endpoint.attempts:
                    error = f"{failure} (attempt {attempt} of {attempt})"
                    health.failure(error, of_server=True, unreachable=failure.unreachable)
                    return Completion("", "error", error=error)
                await asyncio.sleep(_pause(attempt, failure.wait, self.model.endpoint.timeout))
                attempt += 1
            else:
                health.success()
                return completion

    async def _attempt(self, client: "openai.AsyncOpenAI", request: Request) -> Completion:
        """One attempt; raises _Transient, _Refused, _Otherwise or BackendError."""
        import openai

        asked = body(request, self.manner)
        try:
            async with asyncio.timeout(self.model.endpoint.timeout):
                text = await client.post("/chat/completions", body=asked, cast_to=str)
            return read(text, request)
        except (openai.APITimeoutError, TimeoutError) as error:
            raise _Transient(f"no answer within {self.model.endpoint.timeout:g} s") from error
        except openai.APIConnectionError as error:
            raise self._lost(error) from error
        except openai.APIStatusError as error:
            raise self._status(error, asked) from error
        except Garbled as error:
            raise _Transient(self._clean(str(error))) from error

    def _lost(self, error: "openai.APIConnectionError") -> _Transient:
        """What became of a connection: never made, or closed before the answer was whole."""
        cause = error.__cause__ or error
        if type(cause).__name__.startswith("Connect"):
            return _Transient(f"cannot connect ({brief(str(cause))})", unreachable=True)
        return _Transient(f"the server closed the connection before its answer was whole ({brief(str(cause))})")

    def _status(self, error: "openai.APIStatusError", asked: dict[str, Any]) -> Exception:
        """What a status other than 2xx means."""
        status, words = error.status_code, self._clean(_words(error))
        said = f"{status}: {words}"
        if status in (401, 403):
            variable = self.model.endpoint.key or ("OPENAI_API_KEY" if self.model.endpoint.base_url is None else None)
            cure = f"check the key in {variable}" if variable else f"name the variable with its key in run.{self.model.role}.key"
            return BackendError(f"{self.place}: {said}; {cure}")
        if status == 429 and "insufficient_quota" in words:
            return BackendError(f"{self.place}: {said}; the account has no money left")
        if status in (408, 409, 429) or status >= 500:
            return _Transient(said, wait=_retry_after(error.response.headers))
        if status in (400, 422) and self.manner.learn(words, asked):
            return _Otherwise()
        return _Refused(said)

    def _clean(self, text: str) -> str:
        """A server's words on one line, without the secret should it repeat it."""
        return brief(text.replace(self.key, "***") if self.key else text, 300)


def _words(error: "openai.APIStatusError") -> str:
    """What an error response says: the message in its JSON with its code, or its body."""
    if isinstance(error.body, dict) and error.body.get("message"):
        code = error.body.get("code")
        return f"{error.body['message']}" + (f" ({code})" if code else "")
    return error.response.text or "no words"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a response asks to wait: `Retry-After` as seconds or as a date, `retry-after-ms` first."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        said = headers.get("retry-after")
        if said is None:
            return None
        if said.replace(".", "", 1).isdigit():
            return float(said)
        return max(0.0, parsedate_to_datetime(said).timestamp() - time())
    except ValueError:
        return None


def _pause(attempt: int, asked: float | None, most: float) -> float:
    """Seconds before the next attempt: what the server asks for and a little more, or doubling from FIRST_WAIT with jitter."""
    if asked is not None:
        return min(asked, most) * random.uniform(1.0, 1.1)
    return min(FIRST_WAIT * 2.0 ** (attempt - 1), LONGEST_WAIT) * random.uniform(0.5, 1.0)


def _without_user(url: str) -> str:
    """The URL without a user name and password, which may be secret."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@dataclass(slots=True)
class _Health:
    """Whether a server is worth asking on: counts failures in a row."""

    place: str
    answered: bool = False
    row: int = 0

    def success(self) -> None:
        """A request was answered."""
        self.answered, self.row = True, 0

    def failure(self, text: str, *, of_server: bool, unreachable: bool = False) -> None:
        """A request failed for good. BackendError where it is the server that fails, or everything from the first on."""
        self.row += 1
        if unreachable and not self.answered:
            raise BackendError(f"{self.place}: {text}; start the server, or correct base_url")
        if self.row >= PATIENCE and (of_server or not self.answered):
            which = f"the last {self.row}" if self.answered else f"the first {self.row}"
            raise BackendError(f"{self.place}: {which} requests all failed, so no more are sent; the last: {text}")


class _Flight:
    """Requests under way on an event loop of their own, which runs only while an answer is awaited."""

    def __init__(self, answer: Callable[[Request], Awaitable[Completion]]) -> None:
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.Task[Answer]] = set()
        self._landed: list[asyncio.Task[Answer]] = []
        self._awaited = False

    @property
    def under_way(self) -> int:
        """How many requests are not yet landed."""
        return len(self._open) + len(self._landed)

    def launch(self, ask: Ask) -> None:
        """Begin a request; it moves whenever `land` runs."""
        task = self._loop.create_task(self._fly(ask))
        self._open.add(task)
        task.add_done_callback(self._down)

    async def _fly(self, ask: Ask) -> Answer:
        return Answer(ask.ticket, await self._answer(ask.request))

    def _down(self, task: "asyncio.Task[Answer]") -> None:
        self._open.discard(task)
        self._landed.append(task)
        if self._awaited:
            self._loop.stop()

    def land(self) -> Iterator[list[Answer]]:
        """Wait until something lands, and give all that has; an error is raised after the answers that came with it."""
        if not self._landed:
            self._awaited = True
            try:
                self._loop.run_forever()
            finally:
                self._awaited = False
        landed, self._landed = self._landed, []
        failed = [error for task in landed if (error := task.exception()) is not None]
        yield [task.result() for task in landed if task.exception() is None]
        if failed:
            raise failed[0]

    def close(self, last: Callable[[], Awaitable[None]]) -> None:
        """Cancel what is under way, run `last`, and close the loop."""
        landed = [*self._landed, *self._open]
        for task in landed:
            task.cancel()

        async def end() -> None:
            await asyncio.gather(*landed, return_exceptions=True)
            await last()

        try:
            self._loop.run_until_complete(end())
        finally:
            self._loop.close()
