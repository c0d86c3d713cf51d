"""Prices: what a model's tokens cost, at a date and by a source."""

from dataclasses import dataclass

from drp.models import Completion

MILLION = 1_000_000
DEFAULT_CURRENCY = "USD"


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost. `cached` is for prompt tokens that the server had in its own cache (None: as all others);
    `batch` is the factor of a batch API; `date` and `source` say since when, and who says so.
    """

    prompt: float
    completion: float
    date: str
    source: str
    cached: float | None = None
    batch: float = 0.5
    currency: str = DEFAULT_CURRENCY

    def cost(self, completion: Completion, batch: bool = False) -> float:
        """What an answer cost; one that failed costs what it reports too."""
        cached = 0 if self.cached is None else min(completion.cached_tokens, completion.prompt_tokens)
        tokens = (completion.prompt_tokens - cached) * self.prompt + completion.completion_tokens * self.completion
        return (tokens + cached * (self.cached or 0.0)) / MILLION * self._factor(batch)

    def most(self, prompt_tokens: float, completion_tokens: float, batch: bool = False) -> float:
        """What so many tokens cost at the worst: nothing cached, or all of it where that is dearer."""
        prompt = max(self.prompt, self.cached or 0.0)
        return (prompt_tokens * prompt + completion_tokens * self.completion) / MILLION * self._factor(batch)

    def _factor(self, batch: bool) -> float:
        return self.batch if batch else 1.0
