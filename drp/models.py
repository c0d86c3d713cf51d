"""Models: what a model is (its identity, tracked) and its endpoint (how it is reached, never tracked)."""

import functools
import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from drp.fingerprint import canonical

BackendName = Literal["openai", "batch", "transformers", "vllm", "rules"]
Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. `None` leaves a setting to the server; temperature 0 is greedy; max_tokens counts generated ids."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int = 2048

    def plain(self) -> dict[str, float | int | None]:
        """Its settings by name. (`dataclasses.asdict` takes fifteen times as long, and every request's key needs them.)"""
        return {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k, "max_tokens": self.max_tokens}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How a model is reached and driven. Never part of identity: changing it reruns nothing.

    `key` is the *name* of the environment variable that holds the secret; `concurrency` is requests in flight;
    `batch` is rows decoded together; `timeout` is seconds for one request; `attempts` counts the first try; `rpm` and `tpm`
    are the most requests and tokens a minute; `poll` is seconds between two looks at a batch job; `engine` passes extra
    keyword arguments to vLLM.
    """

    backend: BackendName
    base_url: str | None = None
    key: str | None = None
    concurrency: int = 64
    batch: int = 256
    device: str = "auto"
    timeout: float = 600.0
    attempts: int = 5
    rpm: int | None = None
    tpm: int | None = None
    poll: float = 30.0
    engine: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """A model by its identity, with the endpoint that reaches it here.

    `name` is a hub id, a local folder or a served name; `file` a single weights file inside it (GGUF); `adapter` a LoRA
    folder on top, identified by `adapter_hash`; `content` the fingerprint of a local folder (or of the rules teacher's code).
    """

    role: str
    name: str
    sampling: Sampling
    endpoint: Endpoint = field(compare=False)
    revision: str | None = None
    file: str | None = None
    content: str | None = None
    adapter: str | None = None
    adapter_hash: str | None = None

    def identity(self) -> dict[str, Any]:
        """What distinguishes this model's completions from another's: never a path of an adapter, never the endpoint."""
        return {
            "name": self.name, "revision": self.revision, "file": self.file, "content": self.content,
            "adapter": self.adapter_hash, "sampling": self.sampling.plain(),
        }  # fmt: skip

    def request(
        self,
        messages: tuple[Message, ...],
        *,
        schema: dict[str, Any] | None = None,
        index: int = 0,
        seed: int | None = None,
        whole: bool = True,
    ) -> "Request":
        """A request to this model; `schema` asks for structured output (a JSON Schema with a `title`). With `whole=False`
        a completion that was cut off at max_tokens is an answer too (a trace that never ends is data)."""
        return Request(self, messages, schema, index, seed, whole)


@functools.lru_cache(maxsize=64)
def identity_text(model: Model) -> str:
    """A model's identity as canonical JSON: written once for all its requests."""
    return canonical(model.identity())


@dataclass(frozen=True)
class Request:
    """Everything that an answer depends on. `index` tells samples of one prompt apart; `seed` starts the row's random stream."""

    model: Model
    messages: tuple[Message, ...]
    schema: dict[str, Any] | None = None
    index: int = 0
    seed: int | None = None
    whole: bool = field(default=True, compare=False)

    def key(self) -> str:
        """The request's content address: equal keys may share an answer. No recipe, stage, URL or time is in it."""
        return self._key

    def asked(self) -> str:
        """The request without its model, as canonical JSON (`drp.fingerprint.canonical`)."""
        index, messages, schema, seed = self._parts
        return f'{{"index":{index},"messages":{messages},"schema":{schema},"seed":{seed}}}'

    @cached_property
    def _parts(self) -> tuple[str, str, str, str]:
        """Index, messages, schema and seed as canonical JSON: written once, for the key and for the store."""
        messages = canonical([[m.role, m.content] for m in self.messages])
        return canonical(self.index), messages, canonical(self.schema), canonical(self.seed)

    @cached_property
    def _key(self) -> str:
        index, messages, schema, seed = self._parts
        model = identity_text(self.model)
        text = f'{{"index":{index},"messages":{messages},"model":{model},"schema":{schema},"seed":{seed}}}'
        return hashlib.sha256(text.encode()).hexdigest()


Finish = Literal["stop", "length", "content_filter", "error"]


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back: generated text (without the prompt or a pre-filled `<think>`), token counts, and who served it.

    `finish` is `error` when there is no answer for this one request; `error` then says why. `cached_tokens` are prompt
    tokens that the server had in its own cache; `attempts` counts the tries that it took; `key` is set by the store.
    """

    text: str
    finish: Finish
    prompt_tokens: int = 0
    completion_tokens: int = 0
    served: str = ""
    error: str = ""
    key: str = ""
    cached_tokens: int = 0
    attempts: int = 1

    def answers(self, request: "Request") -> bool:
        """Whether this may be reused for the request: it is whole, or cut off where that is an answer too."""
        return self.finish == "stop" or (self.finish == "length" and not request.whole)
