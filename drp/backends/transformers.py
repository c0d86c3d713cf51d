"""A local model by transformers: asks are gathered, sorted by length and decoded in large batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from drp.backends import Answer, Ask, pull
from drp.chat import prompt_ids, reply_text
from drp.decoding import sample
from drp.errors import BackendError
from drp.models import Completion, Model, Sampling
from drp.weights import end_ids, load_model, load_tokenizer

GATHER = 4
"""Asks pulled before decoding begins, in batches of the endpoint: enough to sort by length and to refill a batch."""


def connect(model: Model) -> "Local":
    """The model loaded on its endpoint's device; BackendError where its weights or tokenizer cannot be read."""
    return Local(model, load_tokenizer(model), load_model(model))


class _Row(NamedTuple):
    """An ask made ready: its prompt's token ids, its seed, and how it is to be sampled within the model's context."""

    ask: Ask
    prompt: list[int]
    seed: int
    how: "_How"


@dataclass(frozen=True, order=True, slots=True)
class _How:
    """Sampling with every setting resolved; rows of one kind are decoded together."""

    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int


class Local:
    """A causal language model in this process. A reply depends on its own request alone, never on its neighbours."""

    def __init__(self, model: Model, tokenizer: Any, weights: Any) -> None:
        self.model, self.tokenizer, self.weights = model, tokenizer, weights
        self.ends = end_ids(tokenizer, weights)
        if not self.ends:
            raise BackendError(f"{model.name}: neither its tokenizer nor its generation config names an end token")
        self.context = int(getattr(weights.config, "max_position_embeddings", None) or 1 << 30)

    def complete(self, asks: Iterator[Ask | None]) -> Iterator[Sequence[Answer]]:
        """Answer every ask, as rows finish; rounds of at most `GATHER` batches."""
        ended = False
        while not ended:
            gathered, ended = pull(asks, GATHER * self.model.endpoint.batch)
            rows: list[_Row] = []
            refused: list[Answer] = []
            for ask in gathered:
                row = self._row(ask)
                if isinstance(row, Completion):
                    refused.append(Answer(ask.ticket, row))
                else:
                    rows.append(row)
            if refused or not rows:
                yield refused
            for answer in self._decode(rows):
                yield [answer]

    def _row(self, ask: Ask) -> _Row | Completion:
        """The ask made ready, or the failed completion of one whose prompt leaves no room in the context."""
        prompt = prompt_ids(self.tokenizer, ask.request.messages)
        room = self.context - len(prompt)
        if room <= 0:
            error = f"the prompt has {len(prompt)} tokens, the model's context {self.context}"
            return Completion("", "error", prompt_tokens=len(prompt), served=self.model.name, error=error)
        seed = ask.request.seed if ask.request.seed is not None else int(ask.request.key()[:15], 16)
        return _Row(ask, prompt, seed, self._how(ask.request.model.sampling, room))

    def _how(self, sampling: Sampling, room: int) -> _How:
        """The settings of `sampling`; those left open are the model's own generation config's."""
        own = self.weights.generation_config
        drawn = own.temperature if own.do_sample else 0.0
        return _How(
            max_new_tokens=min(sampling.max_tokens, room),
            temperature=_first(sampling.temperature, drawn, 1.0),
            top_p=_first(sampling.top_p, own.top_p if own.do_sample else None, 1.0),
            top_k=int(_first(sampling.top_k, own.top_k if own.do_sample else None, 0)),
        )

    def _decode(self, rows: list[_Row]) -> Iterator[Answer]:
        """The answers of `rows`: one run of the sampler for each way of sampling."""
        for how in sorted({row.how for row in rows}, reverse=True):
            alike = sorted((row for row in rows if row.how == how), key=lambda row: len(row.prompt))
            finished = sample(
                self.weights,
                [row.prompt for row in alike],
                max_new_tokens=how.max_new_tokens,
                temperature=how.temperature,
                top_p=how.top_p,
                top_k=how.top_k or None,
                seeds=[row.seed for row in alike],
                eos_ids=self.ends,
                pad_id=_first(self.tokenizer.pad_token_id, min(self.ends)),
                batch_size=self.model.endpoint.batch,
            )
            for index, ids, finish in finished:
                row = alike[index]
                yield Answer(row.ask.ticket, self._completion(row, ids, finish == "stop"))

    def _completion(self, row: _Row, ids: list[int], whole: bool) -> Completion:
        """The reply; its token count includes the end token, as servers count."""
        return Completion(
            text=reply_text(self.tokenizer, ids, self.ends),
            finish="stop" if whole else "length",
            prompt_tokens=len(row.prompt),
            completion_tokens=len(ids) + whole,
            served=self.model.name,
        )


def _first(*values: Any) -> Any:
    """The first value that is not None."""
    return next(value for value in values if value is not None)
