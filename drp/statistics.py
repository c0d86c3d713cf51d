"""Statistics of scores: means with standard errors over items, and paired differences with bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drp.errors import MissingPackage

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.95
"""The share of the bootstrap distribution that an interval spans."""

CELLS = 2_000_000
"""Indices drawn at once: bounds the memory of a bootstrap over many items (16 MB)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over items and its standard error (None for fewer than two items)."""

    mean: float
    se: float | None


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its bootstrap interval at `LEVEL`; for a difference of means also its standard error over items."""

    value: float
    low: float
    high: float
    se: float | None = None


def estimate(items: Sequence[float]) -> Estimate | None:
    """The mean of one value an item (itself a mean over runs), items being the unit of chance; None without items."""
    if not items:
        return None
    mean = sum(items) / len(items)
    if len(items) < 2:
        return Estimate(mean, None)
    variance = sum((x - mean) ** 2 for x in items) / (len(items) - 1)
    return Estimate(mean, (variance / len(items)) ** 0.5)


def difference(ours: Sequence[float], theirs: Sequence[float], *, samples: int, seed: int) -> Interval:
    """Mean of `ours` minus mean of `theirs`, paired by item: resampled items take both values along."""
    np = _numpy()
    gaps = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    means = _resampled([gaps], samples, seed)[0]
    found = estimate(gaps.tolist())
    return _interval(float(gaps.mean()), means, found.se if found else None)


def ratio(ours: Sequence[float], theirs: Sequence[float], *, samples: int, seed: int) -> Interval:
    """Mean of `ours` over mean of `theirs`, paired by item; `theirs` must have a mean above zero in every resample."""
    np = _numpy()
    top, bottom = _resampled([np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)], samples, seed)
    return _interval(sum(ours) / sum(theirs), top / bottom, None)


def _resampled(values: Sequence["np.ndarray[Any, Any]"], samples: int, seed: int) -> list["np.ndarray[Any, Any]"]:
    """For each of `values` (items), its means over `samples` resamples of items; the same resamples for all of them."""
    np = _numpy()
    count = len(values[0])
    draws = np.random.default_rng(seed)
    rows = max(1, CELLS // count)
    parts: list[list[Any]] = [[] for _ in values]
    for start in range(0, samples, rows):
        chosen = draws.integers(0, count, size=(min(rows, samples - start), count))
        for part, value in zip(parts, values, strict=True):
            part.append(value[chosen].mean(axis=1))
    return [np.concatenate(part) for part in parts]


def _interval(value: float, resampled: "np.ndarray[Any, Any]", se: float | None) -> Interval:
    low, high = _numpy().quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high), se)


def _numpy() -> Any:
    try:
        import numpy
    except ImportError as error:
        raise MissingPackage("intervals need the package numpy; pip install 'drp[local]'") from error
    return numpy
