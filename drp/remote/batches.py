"""The Batch API of a server: its files and batches, each failure called by its name."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from drp.errors import BackendError
from drp.models import Model
from drp.remote.address import hide, is_loopback, secrets_in, variable_of, without_user
from drp.remote.jobs import Job, durable
from drp.remote.wire import NO_MONEY, brief, spent

if TYPE_CHECKING:
    import openai
    import openai.types

ROUTE: Final = "/v1/chat/completions"
"""What every request of a batch is for."""
CLOCKS = 3600
"""Seconds by which the server's clock may differ from ours."""


class Passing(Exception):
    """The server did not do what it may do at the next look."""


class NotMade(Exception):
    """A batch was certainly not created; `passing`: because the server was busy."""

    def __init__(self, text: str, passing: bool) -> None:
        super().__init__(text)
        self.passing = passing


class _Refused(Exception):
    """The server will not do this one thing."""


class Gone(Exception):
    """A file is not there."""


class Api:
    """Files and batches of one server, each failure called by its name. Nothing is tried twice here: the next look does that."""

    def __init__(self, model: Model, url: str, secret: str | None) -> None:
        import openai

        self.secret, self.variable, self.role = secret, variable_of(model), model.role
        self.place = without_user(url)
        self._secrets = secrets_in(url) | ({secret} if secret else set())
        self._client = openai.OpenAI(
            api_key=secret or "none", base_url=url, max_retries=0, timeout=model.endpoint.timeout,
            http_client=openai.DefaultHttpxClient(timeout=model.endpoint.timeout, trust_env=not is_loopback(url)),
        )  # fmt: skip
        self._met = False

    def upload(self, job: Job) -> str:
        """Send a job's input file; its id. (Done twice, it is no more than a file too many.)"""
        try:
            with self._named():
                return self._client.files.create(file=(f"{job.id}.jsonl", job.input), purpose="batch").id
        except _Refused as error:
            raise BackendError(f"{self.place}: the input file {job.input} is refused: {error}") from error

    def create(self, job: Job) -> str:
        """Create the batch of an uploaded file; its id. NotMade where it certainly was not."""
        import openai

        try:
            with self._named():
                return self._client.batches.create(
                    input_file_id=str(job.file), endpoint=ROUTE, completion_window="24h", metadata={"drp": job.id}
                ).id
        except _Refused as error:
            raise NotMade(str(error), passing=False) from error
        except Passing as error:
            if isinstance(error.__cause__, openai.RateLimitError):
                raise NotMade(str(error), passing=True) from error
            raise

    def find(self, job: Job) -> str | None:
        """The id of the batch that carries a job's name or has its input (not every server keeps metadata), if it was created."""
        with self._named():
            for batch in self._client.batches.list(limit=100):
                if (batch.metadata or {}).get("drp") == job.id or batch.input_file_id == job.file:
                    return batch.id
                if batch.created_at < (job.sent or job.made) - CLOCKS:
                    return None
        return None

    def retrieve(self, job: Job) -> "openai.types.Batch":
        """How a batch is."""
        try:
            with self._named():
                return self._client.batches.retrieve(str(job.batch))
        except _Refused as error:
            cure = f"with the key that made it, it is waited for; once {job.folder} is removed, its requests are sent anew"
            raise BackendError(f"{self.place}: batch {job.batch} is not to be had: {error}; {cure}") from error

    def download(self, name: str, path: Path) -> None:
        """Bring a file home, whole or not at all. Gone where the server has it not."""
        try:
            with self._named(), self._client.files.with_streaming_response.content(name) as response:
                durable(path, response.iter_bytes())
        except _Refused as error:
            raise Gone(f"file {name} is not to be had: {error}") from error
        except _transport_error() as error:
            raise Passing(f"file {name} did not come whole: {error}") from error

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turn the package's errors into Passing, _Refused, or the BackendError that ends a run."""
        import openai

        try:
            yield
        except openai.APIConnectionError as error:
            said = f"cannot connect ({brief(str(error.__cause__ or error))})"
            if not self._met and type(error.__cause__).__name__.startswith("ConnectError"):
                raise BackendError(f"{self.place}: {said}; start the server, or correct base_url") from error
            raise Passing(said) from error
        except openai.APIStatusError as error:
            self._met = True
            raise self._status(error) from error
        self._met = True

    def _status(self, error: "openai.APIStatusError") -> Exception:
        status, whole = error.status_code, words_of({"error": error.body}) or error.response.text
        words = self.clean(whole)
        said = f"{status}: {words}"
        if spent(status, whole):
            return BackendError(f"{self.place}: {said}; {NO_MONEY}")
        if status in (401, 403):
            name = f"name the variable with its key in run.{self.role}.key"
            cure = f"check the key in {self.variable}" if self.variable else name
            return BackendError(f"{self.place}: {said}; {cure}")
        if status in (408, 409, 429) or status >= 500:
            return Passing(said)
        return _Refused(said)

    def clean(self, text: str) -> str:
        """A server's words on one line, without the secret should it repeat it."""
        return brief(hide(text, self._secrets), 300)


def _transport_error() -> type[Exception]:
    """What goes wrong below the package while a body is read: an error of httpx or, from some version on, of httpx2."""
    import openai

    library = openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]
    found: type[Exception] = importlib.import_module(library).HTTPError
    return found


def words_of(reply: Any) -> str:
    """What an error body says: its message, with its code."""
    error = reply.get("error") if isinstance(reply, dict) else None
    if isinstance(error, dict) and error.get("message"):
        return f"{error['message']}" + (f" ({error['code']})" if error.get("code") else "")
    return str(error or reply or "no words")
