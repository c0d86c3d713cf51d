"""Sample from a causal language model in large batches that finished rows leave.

`model.generate` keeps a batch until its last row is done, and copies the whole key-value cache at every token. Here a
row that is done makes room for one that waits, the cache grows in place, and every row has a random stream of its own:
which numbers it draws depends on its seed alone, never on who shares its batch or in which order rows come.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

Finish = Literal["stop", "length"]

NUCLEUS = 64
"""How many of the likeliest tokens are sorted first; only rows whose nucleus is larger pay for sorting the vocabulary."""

ROOM = 128
"""How many tokens of room a cache gains whenever it has to grow."""

LEAVING = 8
"""Rows are moved once this share of a batch (one part in eight) has finished: moving copies the cache."""


@dataclass
class _Row:
    """One prompt on its way: its place in the request, its random numbers, what it has said so far, why it stopped."""

    index: int
    draws: Any
    ids: list[int] = field(default_factory=list)
    finish: Finish | None = None


def sample(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float = 1.0,
    top_k: int | None = None,
    seeds: Sequence[int],
    eos_ids: set[int],
    pad_id: int,
    batch_size: int,
) -> Iterator[tuple[int, list[int], Finish]]:
    """Continue each of `prompts` (token ids), and yield (index, new token ids without EOS, finish) as rows finish.

    `model` is any causal model of transformers with full attention, or PEFT's wrapping of one. `seeds` has one seed a
    prompt; at temperature 0 the likeliest token is taken and seeds do not matter. `finish` is "stop" after one of
    `eos_ids`, else "length". No more than `batch_size` rows are ever in the model at once.
    """
    import torch

    if len(seeds) != len(prompts):
        raise ValueError(f"seeds: {len(seeds)} of them for {len(prompts)} prompts")
    if not all(prompts):
        raise ValueError("prompts: an empty one cannot be continued")
    if max_new_tokens < 1 or batch_size < 1:
        raise ValueError(f"max_new_tokens: {max_new_tokens}, batch_size: {batch_size}; both are at least 1")
    waiting = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index))
    batch = _Batch(model, pad_id)
    while waiting or batch.rows:
        with torch.inference_mode():
            free = batch_size - len(batch.rows)
            if waiting and free * LEAVING >= batch_size:
                taken = [waiting.pop() for _ in range(min(free, len(waiting)))]  # the longest prompts first
                rows = [_Row(index, _draws(seeds[index], max_new_tokens, temperature)) for index in taken]
                batch.join(rows, [prompts[index] for index in taken])
            tokens = _choose(batch.logits, batch.rows, temperature, top_p, top_k)
            finished = _append(batch.rows, tokens.tolist(), eos_ids, max_new_tokens)
            if len(finished) < len(batch.rows):
                batch.advance(tokens)
            _make_room(batch)
        for row in finished:
            assert row.finish is not None
            yield row.index, row.ids, row.finish


def _make_room(batch: "_Batch") -> None:
    """Let finished rows leave, once there are enough of them to be worth moving the others."""
    staying = [place for place, row in enumerate(batch.rows) if row.finish is None]
    if (len(batch.rows) - len(staying)) * LEAVING >= len(batch.rows) > 0:
        batch.keep(staying)


def _append(rows: list[_Row], tokens: list[int], eos_ids: set[int], max_new_tokens: int) -> list[_Row]:
    """Give each row that is under way its next token; the rows that finish with it."""
    finished = []
    for row, token in zip(rows, tokens, strict=True):
        if row.finish is not None:
            continue
        if token in eos_ids:
            row.finish = "stop"
        else:
            row.ids.append(token)
            if len(row.ids) == max_new_tokens:
                row.finish = "length"
        if row.finish is not None:
            finished.append(row)
    return finished


class _Batch:
    """Rows in the model together: prompts padded on the left, one cache, and the logits of what comes next."""

    def __init__(self, model: Any, pad_id: int) -> None:
        self.model = model
        self.pad_id = pad_id
        self.rows: list[_Row] = []
        self.logits: torch.Tensor
        self.pads: torch.Tensor
        self.cache: Any

    def join(self, rows: list[_Row], prompts: Sequence[Sequence[int]]) -> None:
        """Read the prompts of new rows, and put them beside the rows that are already here."""
        import torch

        longest = max(len(prompt) for prompt in prompts)
        padded = [[self.pad_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        pads = torch.tensor([longest - len(prompt) for prompt in prompts], device=self.model.device)
        cache = _cache()
        logits = self._forward(torch.tensor(padded, device=self.model.device), pads, cache)
        if not self.rows:
            self.rows, self.pads, self.cache, self.logits = rows, pads, cache, logits
            return
        here, there = _length(self.cache), _length(cache)
        width = max(here, there)
        for layer, other in zip(self.cache.layers, cache.layers, strict=True):
            layer.join(other)
        self.pads = torch.cat([self.pads + (width - here), pads + (width - there)])
        self.logits = torch.cat([self.logits, logits])
        self.rows = self.rows + rows

    def advance(self, tokens: "torch.Tensor") -> None:
        """Read one more token a row."""
        self.logits = self._forward(tokens[:, None], self.pads, self.cache)

    def keep(self, places: list[int]) -> None:
        """Keep only the rows at `places`, and no column that is padding in all of them."""
        import torch

        self.rows = [self.rows[place] for place in places]
        if not places:
            return
        chosen = torch.tensor(places, device=self.model.device)
        self.logits = self.logits[chosen]
        pads = self.pads[chosen]
        trim = int(pads.min())
        self.pads = pads - trim
        for layer in self.cache.layers:
            layer.keep(chosen, trim)

    def _forward(self, ids: "torch.Tensor", pads: "torch.Tensor", cache: Any) -> "torch.Tensor":
        """Logits (rows, vocabulary) after the last column of `ids`, which follow what `cache` holds."""
        import torch

        past = _length(cache)
        columns = torch.arange(past + ids.shape[1], device=ids.device)
        seen = columns[None, :] >= pads[:, None]
        positions = (columns[None, past:] - pads[:, None]).clamp(min=0)
        output = self.model(
            input_ids=ids,
            attention_mask=seen.long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1, :]
        return logits


class GrowingLayer:
    """One layer of a key-value cache, as transformers asks for it, that grows in place instead of being copied anew."""

    is_compileable = False
    is_sliding = False

    def __init__(self) -> None:
        self.is_initialized = False
        self.length = 0
        self.buffers: tuple[torch.Tensor, torch.Tensor]

    @property
    def keys(self) -> "torch.Tensor":
        """(rows, heads, length, head width)"""
        return self.buffers[0][:, :, : self.length]

    @property
    def values(self) -> "torch.Tensor":
        """(rows, heads, length, head width)"""
        return self.buffers[1][:, :, : self.length]

    def update(
        self, key_states: "torch.Tensor", value_states: "torch.Tensor", *args: object, **kwargs: object
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Append the states of new tokens, and return those of all tokens."""
        new = key_states.shape[2]
        if not self.is_initialized:
            self.buffers = (_widened(key_states, 0, new + ROOM), _widened(value_states, 0, new + ROOM))
            self.is_initialized = True
        else:
            if self.length + new > self.buffers[0].shape[2]:
                room = self.length + new + ROOM
                self.buffers = (_widened(self.keys, 0, room), _widened(self.values, 0, room))
            self.buffers[0][:, :, self.length : self.length + new] = key_states
            self.buffers[1][:, :, self.length : self.length + new] = value_states
        self.length += new
        return self.keys, self.values

    def join(self, other: "GrowingLayer") -> None:
        """Put the rows of `other` below these, all ending at the same column."""
        import torch

        width = max(self.length, other.length)
        joined = [
            torch.cat([_widened(ours, width - self.length, width + ROOM), _widened(theirs, width - other.length, width + ROOM)])
            for ours, theirs in ((self.keys, other.keys), (self.values, other.values))
        ]
        self.buffers = (joined[0], joined[1])
        self.length = width

    def keep(self, places: "torch.Tensor", trim: int) -> None:
        """Keep the rows at `places`, without their first `trim` columns."""
        width = self.length - trim + ROOM
        self.buffers = (
            _widened(self.keys[:, :, trim:], 0, width, places),
            _widened(self.values[:, :, trim:], 0, width, places),
        )
        self.length -= trim

    def get_seq_length(self) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_max_length(self) -> int:
        return -1


def _widened(states: "torch.Tensor", left: int, width: int, places: "torch.Tensor | None" = None) -> "torch.Tensor":
    """A copy of `states` (or of its rows at `places`) in a buffer of `width` columns, from column `left` on."""
    chosen = states if places is None else states[places]
    rows, heads, length, size = chosen.shape
    buffer = chosen.new_zeros((rows, heads, width, size))
    buffer[:, :, left : left + length] = chosen
    return buffer


def _cache() -> Any:
    from transformers.cache_utils import Cache, CacheLayerMixin

    CacheLayerMixin.register(GrowingLayer)  # a subclass in name only, so that importing this file does not import torch
    return Cache(layer_class_to_replicate=GrowingLayer)


def _length(cache: Any) -> int:
    return int(cache.layers[0].length) if cache.layers else 0


def _draws(seed: int, count: int, temperature: float) -> Any:
    """A row's own random numbers in [0, 1): one for each token that it may need."""
    import numpy

    if temperature == 0:
        return numpy.zeros(count)
    return numpy.random.Generator(numpy.random.Philox(seed)).random(count)


def _choose(logits: "torch.Tensor", rows: list[_Row], temperature: float, top_p: float, top_k: int | None) -> "torch.Tensor":
    """The next token of each row: the likeliest, or the one at the row's random number in its nucleus."""
    import torch

    if temperature == 0:
        return logits.argmax(dim=-1)
    at = [row.draws[min(len(row.ids), len(row.draws) - 1)] for row in rows]
    draws = torch.tensor(at, dtype=torch.float64, device=logits.device)
    probabilities = torch.softmax(logits.float() / temperature, dim=-1)
    vocabulary = probabilities.shape[-1]
    head = min(NUCLEUS, vocabulary) if top_k is None else min(top_k, vocabulary)
    mass, tokens = torch.topk(probabilities, head, dim=-1)
    chosen = _pick(mass, tokens, draws, top_p, renormalise=top_k is not None)
    if top_k is None and head < vocabulary:
        wider = (mass.double().sum(dim=-1) < top_p).nonzero()[:, 0]
        if len(wider):
            mass, tokens = torch.sort(probabilities[wider], dim=-1, descending=True)
            chosen[wider] = _pick(mass, tokens, draws[wider], top_p, renormalise=False)
    return chosen


def _pick(
    mass: "torch.Tensor", tokens: "torch.Tensor", draws: "torch.Tensor", top_p: float, *, renormalise: bool
) -> "torch.Tensor":
    """Invert each row's distribution at its draw: `mass` is sorted downwards, and cut where it first reaches `top_p`."""
    mass = mass.double()
    if renormalise:
        mass = mass / mass.sum(dim=-1, keepdim=True)
    reached = mass.cumsum(dim=-1)
    kept = (reached - mass < top_p).sum(dim=-1, keepdim=True)
    total = reached.gather(-1, kept - 1)
    place = (reached <= draws[:, None] * total).sum(dim=-1, keepdim=True)
    return tokens.gather(-1, place.clamp(max=kept - 1))[:, 0]
