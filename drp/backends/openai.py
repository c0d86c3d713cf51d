"""Any OpenAI-compatible server: many requests in flight, tried again where that helps, each failure called by its name."""

import asyncio
import base64
import errno
import json
import random
import urllib.parse
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from drp.backends import Answer, Ask, pull
from drp.errors import BackendError, ConfigError, MissingPackage
from drp.flight import Flight, Gate
from drp.models import Completion, Endpoint, Model, Request
from drp.remote.address import LOOPBACK, hide, is_http, secret_of, secrets_in, url_of, variable_of, without_user
from drp.remote.pacing import Guess, Pace, doubling
from drp.remote.wire import NO_MONEY, Garbled, Manner, body, brief, read, spent

if TYPE_CHECKING:
    import aiohttp

PATIENCE = 20
"""So many failures in a row end the run: nobody wants ten thousand records dropped for one wrong setting."""
RECENT = 50
"""And so does a server that failed more than half of so many requests finished last."""
REFUSED, MOST_REFUSED = 200, 0.9
"""And one that refused more than that share of so many requests finished last (its model withdrawn, its key revoked)."""
BUSY = (429, 503, 529)
"""Statuses that refuse a request for now. They slow the pace and cost no attempt, but patience."""
FIRST_WAIT = 0.5
"""Seconds before the second attempt where the server names no time; it doubles from there (see `pacing.LONGEST`)."""
LONGEST_BUSY, MANY_BUSY = 600.0, 10
"""Seconds that a busy server is waited for at the most; and how often one request must have been refused in as long, while
others were answered, for it to fail alone."""
CONNECT = 30.0
"""Seconds in which a connection must be made."""
LONGEST_LINE = 1 << 16
"""Bytes of the longest status line or header field that is read: gateways send large ones."""


def connect(model: Model) -> "Remote":
    """The server at the endpoint's `base_url` (OpenAI's own where there is none), with the key that it names.

    ConfigError for a malformed URL or a missing key variable, MissingPackage without the package aiohttp. Nothing is sent.
    """
    try:
        import aiohttp  # noqa: F401
    except ImportError as error:
        raise MissingPackage("backend openai needs the package aiohttp; pip install 'drp[openai]'") from error
    return Remote(model, url_of(model), secret_of(model))


class _Transient(Exception):
    """An attempt failed in a way that another may not; `wait` is what the server asks for, in seconds."""

    def __init__(self, text: str, wait: float | None = None, *, unreachable: bool = False, unheard: bool = False) -> None:
        super().__init__(text)
        self.wait, self.unreachable = wait, unreachable
        self.unheard = unheard
        """The connection closed before a byte came back, as an idle one does when the server has just given it up."""


class _Busy(_Transient):
    """The server has no room for this request at the moment."""


class _Refused(Exception):
    """The server will not answer this one request, however often it is asked."""


class _Otherwise(Exception):
    """The server wants the same request put otherwise, and it is now known how."""


class Remote:
    """A server. It learns a server's manner (structured output, name of the token limit) once, for all that follows."""

    def __init__(self, model: Model, url: str, key: str | None) -> None:
        self.model, self.key = model, key
        self.manner = Manner()
        self.place = without_user(url)
        self._target = self.place.rstrip("/") + "/chat/completions"
        self._headers = {"Content-Type": "application/json", **_authorization(url, key)}
        self._proxy = _proxy(url)
        self._secrets = secrets_in(url) | secrets_in(self._proxy or "") | ({key} if key else set())
        self._met = False
        """Whether it has answered any request: its key is good then."""

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """Answer every ask, `concurrency` of them in flight; BackendError where the server as a whole cannot be used."""
        run = _Run(self, self.model)
        flight = Flight(run.answer)
        ended = False
        try:
            flight.loop.run_until_complete(run.open())
            while True:
                if not ended:
                    pulled, ended = pull(asks, self.model.endpoint.concurrency - flight.under_way)
                    for ask in pulled:
                        flight.launch(ask)
                if flight.under_way:
                    run.gate.open()  # time has passed since it was last asked
                    yield from flight.land()
                elif ended:
                    return
                else:
                    yield ()
        finally:
            flight.close(run.close)

    def session(self) -> "aiohttp.ClientSession":
        """A pool of connections: no limit of its own, no cookies, nothing from netrc."""
        import aiohttp

        timeout = self.model.endpoint.timeout
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=min(timeout, CONNECT)),
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
        )

    async def attempt(self, session: "aiohttp.ClientSession", request: Request) -> Completion:
        """One attempt; raises _Transient, _Busy, _Refused, _Otherwise or BackendError."""
        asked = body(request, self.manner)
        status, headers, sent = await self._post(session, json.dumps(asked).encode())
        if not 200 <= status < 300:
            raise self._status(status, headers, sent, asked)
        try:
            completion = read(sent, request)
        except Garbled as error:
            raise _Transient(self._clean(str(error))) from error
        self._met = True
        return completion

    async def _post(self, session: "aiohttp.ClientSession", sent: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the server's answer."""
        import aiohttp

        heard = False
        try:
            async with session.post(self._target, data=sent, proxy=self._proxy, allow_redirects=False) as response:
                heard = True
                return response.status, response.headers, await response.read()
        except aiohttp.ConnectionTimeoutError as error:
            raise _Transient(
                f"cannot connect (not within {min(self.model.endpoint.timeout, CONNECT):g} s)", unreachable=True
            ) from error
        except TimeoutError as error:
            raise _Transient(f"no answer within {self.model.endpoint.timeout:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._lost(error, heard) from error

    def _lost(self, error: Exception, heard: bool) -> Exception:
        """What became of an exchange: never begun, closed before the answer was whole, or not to be read."""
        import aiohttp

        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            cure = f"lower run.{self.model.role}.concurrency, or raise the limit (ulimit -n)"
            return BackendError(f"{self.place}: too many open files on this machine; {cure}")
        if isinstance(error, aiohttp.ClientConnectorError):
            return _Transient(f"cannot connect ({self._clean(str(error.os_error))})", unreachable=True)
        if isinstance(error, aiohttp.ClientResponseError):
            return _Transient(f"the server's answer is not HTTP that can be read ({self._clean(error.message)})")
        if isinstance(error.__cause__, aiohttp.http_exceptions.ContentEncodingError):
            return _Transient(f"the body of the server's answer cannot be read ({self._clean(str(error))})")
        said = self._clean(str(error) or type(error).__name__)
        return _Transient(f"the server closed the connection before its answer was whole ({said})", unheard=not heard)

    def _status(self, status: int, headers: Mapping[str, str], sent: bytes, asked: dict[str, Any]) -> Exception:
        """What a status other than 2xx means."""
        whole = _words(sent)
        words = self._clean(whole)
        said = f"{status}: {words}"
        if spent(status, whole):
            return BackendError(f"{self.place}: {said}; {NO_MONEY}")
        if status == 401 or (status == 403 and not self._met):  # a later 403 is about its request: moderation, a firewall
            variable = variable_of(self.model)
            cure = f"check the key in {variable}" if variable else f"name the variable with its key in run.{self.model.role}.key"
            return BackendError(f"{self.place}: {said}; {cure}")
        if 300 <= status < 400:
            there = self._clean(without_user(headers.get("Location", "nowhere")))
            cure = f"correct run.{self.model.role}.base_url"
            return BackendError(f"{self.place}: {status}: the server sends elsewhere ({there}); {cure}")
        if status in BUSY:
            return self._busy(status, said, _retry_after(headers))
        if status in (408, 409) or status >= 500:
            return _Transient(said, wait=_retry_after(headers))
        if status in (400, 422) and self.manner.learn(words, asked):
            return _Otherwise()
        return _Refused(said)

    def _busy(self, status: int, said: str, wait: float | None) -> Exception:
        """What a refusal for the moment means, which may be one for good."""
        if status == 429 and "request too large" in said.lower():
            return _Refused(said)
        if wait is not None and wait > LONGEST_BUSY:
            return BackendError(f"{self.place}: {said}; it asks to wait {wait:.0f} s: run again then")
        return _Busy(said, wait)

    def _clean(self, text: str) -> str:
        """A server's words on one line, without the key or a password should it repeat them."""
        return brief(hide(text, self._secrets), 300)


class _Run:
    """What one call of `complete` has: a pool of connections, a pace, and what is known of the server's health."""

    def __init__(self, remote: Remote, model: Model) -> None:
        endpoint = model.endpoint
        self.remote, self.endpoint = remote, endpoint
        self.health = _Health(remote.place)
        first = FIRST_WAIT if endpoint.attempts > 1 else 0.0  # nothing to wait for where nothing is tried again
        self.gate = Gate(Pace(endpoint.concurrency, endpoint.rpm, endpoint.tpm, first))
        self.guess = Guess(model.sampling.max_tokens) if endpoint.tpm else None
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool."""
        self._session = self.remote.session()

    async def close(self) -> None:
        """Close all connections."""
        if self._session:
            await self._session.close()
            await asyncio.sleep(0)  # transports close in the turn after

    async def answer(self, request: Request) -> Completion:
        """The completion of one request, after as many tries as the endpoint allows."""
        tries = _Tries(self.endpoint)
        while True:
            tries.sent += 1
            try:
                completion = await self._try(request)
            except _Otherwise:
                continue
            except _Refused as refused:
                self.health.failure(str(refused), of_server=False)
                return Completion("", "error", error=str(refused), attempts=tries.sent)
            except _Transient as failure:
                pause = tries.pause(failure, monotonic(), self.health.heard)
                if pause is None:
                    self.health.failure(str(failure), of_server=True, unreachable=failure.unreachable)
                    return Completion("", "error", error=f"{failure} ({tries})", attempts=tries.sent)
                if isinstance(failure, _Busy):
                    self.health.busy(str(failure), monotonic(), tries.patience)
                await asyncio.sleep(pause)
            else:
                self.health.success(monotonic())
                return completion if tries.sent == 1 else replace(completion, attempts=tries.sent)

    async def _try(self, request: Request) -> Completion:
        """One try at its time; the pace is told what came of it."""
        assert self._session
        tokens = self.guess.of(sum(len(m.content) for m in request.messages)) if self.guess else 0.0
        start = await self.gate.enter(tokens)
        try:
            completion = await self.remote.attempt(self._session, request)
        except _Busy as refusal:
            self.gate.refused(start, refusal.wait)
            raise
        except BaseException:
            self.gate.failed()
            raise
        if self.guess:
            self.guess.learn(completion.completion_tokens)
        self.gate.answered(start, completion.prompt_tokens + completion.completion_tokens)
        return completion


class _Tries:
    """The tries of one request. Failures are counted; refusals by a busy server cost no attempt, but patience.

    Patience is the time that the attempts could have taken, 10 minutes at the most. A server that refuses everybody for so
    long ends the run (see `_Health`); a request that it refuses for so long, again and again, while others are answered, fails.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.sent = self.failed = self.refused = 0
        self._most = endpoint.attempts
        self.patience = min((endpoint.attempts - 1) * endpoint.timeout, LONGEST_BUSY)
        self._since = 0.0
        self._sent_anew = False

    def pause(self, failure: _Transient, now: float, heard: float) -> float | None:
        """Seconds before another try, or None for no more; `heard` is when any request was last answered."""
        if isinstance(failure, _Busy):
            return self._busy(now, heard)
        if failure.unheard and not self._sent_anew:
            self._sent_anew = True
            return 0.0
        self.failed += 1
        if self.failed >= self._most:
            return None
        if failure.wait is not None:
            return min(failure.wait, LONGEST_BUSY) * random.uniform(1.0, 1.1)
        return doubling(self.failed, FIRST_WAIT, random.random())

    def _busy(self, now: float, heard: float) -> float | None:
        """At first the pace alone says when; a request that is refused again waits by itself too, so as not to slow the rest."""
        self.refused += 1
        if self.refused == 1:
            self._since = now
        singled_out = self.refused >= MANY_BUSY and now - self._since >= self.patience and heard > self._since
        if singled_out or not self.patience:
            return None
        return doubling(self.refused - 1, FIRST_WAIT, random.random()) if self.refused > 1 else 0.0

    def __str__(self) -> str:
        counts = ((self.failed, f"attempt {self.failed} of {self._most}"), (self.refused, f"refused {self.refused} times"))
        return ", ".join(text for count, text in counts if count)


def _authorization(url: str, key: str | None) -> dict[str, str]:
    """The header that proves who asks: the key, or the user and password of the URL."""
    user, _, _ = urllib.parse.urlsplit(url).netloc.rpartition("@")
    if key:
        return {"Authorization": f"Bearer {key}"}
    if not user:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(urllib.parse.unquote(user).encode()).decode()}"}


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for the URL; none for this machine."""
    import urllib.request

    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    if host in LOOPBACK or urllib.request.proxy_bypass(host):
        return None
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not is_http(proxy):
        cure = f"unset it, or add {host} to no_proxy"
        raise ConfigError(f"{parts.scheme}_proxy: {without_user(proxy)!r} is not an http(s) URL; {cure}")
    return proxy


def _words(sent: bytes) -> str:
    """What an error response says: the message in its JSON with its code, or its body."""
    text = sent.decode(errors="replace")
    try:
        said = json.loads(text)
    except ValueError:
        return text or "no words"
    said = said.get("error", said) if isinstance(said, dict) else said
    if isinstance(said, dict) and said.get("message"):
        code = said.get("code")
        return f"{said['message']}" + (f" ({code})" if code else "")
    return said if isinstance(said, str) else text


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


@dataclass(slots=True)
class _Health:
    """Whether a server is worth asking on: counts failures in a row, and among the requests finished last."""

    place: str
    heard: float = float("-inf")
    """When a request was last answered."""
    row: int = 0
    """How many requests failed in a row, for whatever reason."""
    server_row: int = 0
    """How many of those the server failed, rather than refused."""
    busy_since: float | None = None
    """When the first of the refusals came that no answer has followed."""
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT))
    """How the last requests ended: by which failure of the server, or by none ("")."""
    refused: deque[str] = field(default_factory=lambda: deque(maxlen=REFUSED))
    """And by which refusal, or by none ("")."""

    @property
    def answered(self) -> bool:
        """Whether any request was."""
        return self.heard > float("-inf")

    def success(self, now: float) -> None:
        """A request was answered."""
        self.heard, self.row, self.server_row, self.busy_since = now, 0, 0, None
        self.recent.append("")
        self.refused.append("")

    def busy(self, text: str, now: float, patience: float) -> None:
        """A try was refused for now. BackendError where nobody has been answered for `patience` seconds (0: for ever)."""
        if self.busy_since is None:
            self.busy_since = now
        passed = now - self.busy_since
        if passed >= patience > 0:
            refused = f"every request was refused for {passed:.0f} s"
            raise BackendError(f"{self.place}: {refused}, so no more are sent; the last: {text}")

    def failure(self, text: str, *, of_server: bool, unreachable: bool = False) -> None:
        """A request failed for good. BackendError where the server fails, or refuses everything at first or nearly all later."""
        self.row += 1
        self.server_row += of_server
        self.recent.append(text if of_server else "")
        self.refused.append("" if of_server else text)
        if unreachable and not self.answered:
            raise BackendError(f"{self.place}: {text}; start the server, or correct base_url")
        if self.row >= PATIENCE and not self.answered:
            raise BackendError(f"{self.place}: the first {self.row} requests all failed, so no more are sent; the last: {text}")
        if of_server and self.server_row >= PATIENCE:
            raise BackendError(f"{self.place}: the last {self.row} requests all failed, so no more are sent; the last: {text}")
        self._stop_at(self.recent, RECENT // 2, "failed")
        self._stop_at(self.refused, int(REFUSED * MOST_REFUSED), "were refused")

    def _stop_at(self, ends: deque[str], most: int, how: str) -> None:
        """BackendError where more than `most` requests ended so, with their most common reasons."""
        bad = Counter(filter(None, ends))
        if bad.total() > most:
            reasons = ", ".join(f"{count}× {reason}" for reason, count in bad.most_common(3))
            counts = f"{bad.total()} of the last {len(ends)} requests {how} ({reasons})"
            raise BackendError(f"{self.place}: {counts}, so no more are sent")
