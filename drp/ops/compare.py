"""Compare models on each suite: accuracy, tokens, truncation and loops, and each model against the base, item by item."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from drp.errors import DataError, choices
from drp.op import Inputs, Record, Report, Work
from drp.statistics import Interval, difference, estimate, ratio

VERSION = 1
NEEDS = ("suite", "model", "item", "correct", "tokens")

HEADER = (
    "suite", "model", "items × runs", "accuracy %", "Δ % vs base [95 %]", "tokens", "tokens if right", "thought tokens",
    "tokens vs base [95 %]", "truncated %", "looped %",
)  # fmt: skip
NONE = "–"


@dataclass(frozen=True, slots=True)
class _Row:
    """What of an evaluated answer the numbers need."""

    run: int
    correct: bool
    tokens: int
    thought_tokens: int | None
    truncated: bool
    looped: bool
    counted: bool


@dataclass
class _Scores:
    """The answers of one model in one suite, by item."""

    items: dict[str, list[_Row]] = field(default_factory=dict)

    def by_item(self, value: Callable[[_Row], float | None]) -> dict[str, float]:
        """The mean of `value` over an item's runs, for each item that has rows that count and of which it is known."""
        found: dict[str, float] = {}
        for item, rows in self.items.items():
            if values := [v for row in rows if row.counted and (v := value(row)) is not None]:
                found[item] = sum(values) / len(values)
        return found


def compare(inputs: Inputs, work: Work, *, base: str = "base", bootstrap: int = 2000, seed: int = 0) -> Report:
    """The scores of one or several `evaluate` stages; with several, a model is called `<stage>:<model>`.

    pass@1 is the mean over an item's runs, then over items; standard errors are over items. Differences to `base` and token
    ratios are over the items that both models have, with percentile intervals of `bootstrap` resamples of items.
    DataError where there is no such base, where a suite's rows were taken under different cutoffs (their token counts say
    nothing about each other), or where a suite's items have different questions.
    """
    suites = _read(inputs)
    metrics: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    lines = [_line(HEADER), _line(["---"] * len(HEADER))]
    for suite, models in sorted(suites.items()):
        reference = _base(base, models, suite)
        metrics[suite] = {}
        for label in sorted(models, key=lambda name: (name != reference, name)):
            found = _scores(models[label])
            if label != reference:
                found["vs_base"] = _against(models[label], models[reference], bootstrap, seed)
            metrics[suite][label] = found
            rows.append({"suite": suite, "model": label, **_plain(found)})
            lines.append(_line(_cells(suite, label, found)))
    work.say(f"{len(rows)} scores over {len(suites)} suites")
    return Report(metrics, "\n".join(lines) + "\n", rows)


def _read(inputs: Inputs) -> dict[str, dict[str, _Scores]]:
    """suite → label → scores."""
    suites: dict[str, dict[str, _Scores]] = {}
    settings: dict[str, tuple[int, str]] = {}
    questions: dict[tuple[str, str], str] = {}
    for stage, records in inputs.items():
        for record in records:
            suite, item = record["suite"], record["item"]
            _same(settings.setdefault(suite, _settings(record)), record)
            if questions.setdefault((suite, item), record["question"]) != record["question"]:
                raise DataError(f"{stage}: item {item!r} of suite {suite!r} has another question than in an earlier row")
            label = record["model"] if len(inputs) == 1 else f"{stage}:{record['model']}"
            suites.setdefault(suite, {}).setdefault(label, _Scores()).items.setdefault(item, []).append(_row(record))
    if not suites:
        raise DataError(f"nothing to compare: no row in {', '.join(inputs) or 'no input'}")
    return suites


def _settings(record: Record) -> tuple[int, str]:
    return record["cutoff"], record["cutoff_mode"]


def _same(settings: tuple[int, str], record: Record) -> None:
    if _settings(record) != settings:
        raise DataError(
            f"suite {record['suite']!r}: {record['id']} has cutoff {record['cutoff']} ({record['cutoff_mode']}), earlier rows "
            f"have {settings[0]} ({settings[1]}); tokens under different cutoffs cannot be compared: evaluate both alike"
        )


def _row(record: Record) -> _Row:
    return _Row(**{name: record[name] for name in _Row.__dataclass_fields__})


def _base(base: str, models: Iterable[str], suite: str) -> str:
    """The label that `base` means: itself, or the only one that ends in `:<base>`."""
    labels = list(models)
    found = [label for label in labels if label == base] or [label for label in labels if label.endswith(f":{base}")]
    if len(found) != 1:
        what = "is not a model" if not found else "is the name of several models"
        raise DataError(f"base: {base!r} {what} of suite {suite!r}{choices(base, labels)}")
    return found[0]


def _scores(scores: _Scores) -> dict[str, Any]:
    """One model on one suite. Truncation and loops are shares of all answers, the rest is of those that count."""
    answers = [row for rows in scores.items.values() for row in rows]
    accuracy = scores.by_item(lambda row: row.correct)
    return {
        "items": len(accuracy),
        "runs": max(row.run for row in answers) + 1,
        "answers": len(answers),
        "excluded": sum(not row.counted for row in answers),
        **_named("accuracy", accuracy),
        **_named("tokens", scores.by_item(lambda row: row.tokens)),
        **_named("tokens_correct", scores.by_item(lambda row: row.tokens if row.correct else None)),
        **_named("thought_tokens", scores.by_item(lambda row: row.thought_tokens)),
        "truncated": sum(row.truncated for row in answers) / len(answers),
        "looped": sum(row.looped for row in answers) / len(answers),
    }


def _named(name: str, items: dict[str, float]) -> dict[str, float | None]:
    found = estimate(list(items.values()))
    return {name: found.mean, f"{name}_se": found.se} if found else {name: None, f"{name}_se": None}


def _against(ours: _Scores, theirs: _Scores, bootstrap: int, seed: int) -> dict[str, Any]:
    """The paired difference in accuracy and the ratio of tokens, over the items that both have."""
    accuracy = _paired(ours.by_item(lambda row: row.correct), theirs.by_item(lambda row: row.correct))
    tokens = _paired(ours.by_item(lambda row: row.tokens), theirs.by_item(lambda row: row.tokens))
    if not accuracy[0]:
        return {"items": 0}
    gap = difference(*accuracy, samples=bootstrap, seed=seed)
    found: dict[str, Any] = {"items": len(accuracy[0]), **_spread("accuracy_difference", gap), "accuracy_difference_se": gap.se}
    if min(tokens[1]) > 0:
        found |= _spread("token_ratio", ratio(*tokens, samples=bootstrap, seed=seed))
    return found


def _paired(ours: dict[str, float], theirs: dict[str, float]) -> tuple[list[float], list[float]]:
    common = sorted(ours.keys() & theirs.keys())
    return [ours[item] for item in common], [theirs[item] for item in common]


def _spread(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """The numbers on one level, for plots."""
    flat = {k: v for k, v in found.items() if k != "vs_base"}
    return flat | {f"vs_base_{k}": v for k, v in found.get("vs_base", {}).items()}


def _cells(suite: str, label: str, found: dict[str, Any]) -> list[str]:
    versus = found.get("vs_base", {})
    count = f"{found['items']} × {found['runs']}" + (f" ({found['excluded']} excluded)" if found["excluded"] else "")
    return [
        suite, label, count,
        _mean(found, "accuracy", 100, 1), _range(versus, "accuracy_difference", 100, 1, "+"),
        _mean(found, "tokens", 1, 1), _mean(found, "tokens_correct", 1, 1), _mean(found, "thought_tokens", 1, 1),
        _range(versus, "token_ratio", 1, 3, ""), f"{100 * found['truncated']:.1f}", f"{100 * found['looped']:.1f}",
    ]  # fmt: skip


def _mean(found: dict[str, Any], name: str, scale: float, digits: int) -> str:
    if found[name] is None:
        return NONE
    error = found[f"{name}_se"]
    return f"{scale * found[name]:.{digits}f}" + ("" if error is None else f" ± {scale * error:.{digits}f}")


def _range(found: dict[str, Any], name: str, scale: float, digits: int, sign: str) -> str:
    if name not in found:
        return NONE
    value, low, high = (f"{scale * found[key]:{sign}.{digits}f}" for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value} [{low}, {high}]"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
