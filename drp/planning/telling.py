"""A plan as a person reads it: a line a stage, its reasons under it, the totals at the end."""

from collections.abc import Iterable, Iterator
from typing import Any

from drp.planning import why
from drp.planning.entries import ABSENT
from drp.planning.guess import Guess
from drp.planning.plan import Asking, Plan, Planned, seconds

LINES = 6
"""Changed lines of a prompt that are shown; all of them with `--full`."""
REASONS = 8
"""Reasons of a stage that are shown."""
VALUE = 60
"""Characters of a value."""


def lines(plan: Plan, full: bool = False) -> Iterator[str]:
    """The whole text."""
    if plan.stale:
        yield f"not compiled: {_listed(plan.stale)}. This is the plan as if they were: run `drp compile` before anything runs"
    if plan.unread:
        yield f"not looked at (foreach, matrix, or more than a plan can follow; `dvc status` says): {_listed(plan.unread)}"
    shown = [p for p in plan.stages if full or p.fate.open or p.fate.reasons]
    if all(p.fate.state in ("up to date", "frozen") and not p.fate.reasons for p in plan.stages) and not full:
        yield f"nothing to do: {_states(plan)}"
        return
    width = max((len(p.fate.entry.name) for p in shown), default=0)
    for recipe in dict.fromkeys(p.fate.entry.recipe for p in shown):
        yield recipe
        for planned in shown:
            if planned.fate.entry.recipe == recipe:
                yield from _stage(planned, width, full)
    yield from _totals(plan)


def _stage(planned: Planned, width: int, full: bool) -> Iterator[str]:
    fate = planned.fate
    reasons = [r for r in fate.reasons if full or not isinstance(r, why.Upstream)]
    words = [f"  {fate.entry.name:<{width}}  {fate.state:<10}", *_asked(planned), *_trained(planned)]
    if isinstance(fate.reasons[0] if fate.reasons else None, why.New):
        words.append("(never run)")
        reasons = [r for r in reasons if not isinstance(r, why.New)]
    waits = [r for r in fate.reasons if isinstance(r, why.Upstream)]
    if fate.state == "may run" and waits:
        names = [name.removeprefix(f"{fate.entry.recipe}/") for name in waits[0].stages]
        words.append(f"(if {_listed(names)} {'comes' if len(names) == 1 else 'come'} out with other bytes)")
    yield "  ".join(words).rstrip()
    if not full:
        yield from (f"      {line}" for line in _outputs(reasons))
        reasons = [r for r in reasons if not isinstance(r, why.Output)]
    for reason in reasons if full else reasons[:REASONS]:
        for line in told(reason, full):
            yield f"      {line}"
    if len(reasons) > REASONS and not full:
        yield f"      and {len(reasons) - REASONS} more (--full)"
    if planned.rehearsal and planned.rehearsal.note:
        yield f"      what it would ask is not known: {planned.rehearsal.note}"


def _outputs(reasons: Iterable[why.Reason]) -> Iterator[str]:
    """Outputs by what became of them."""
    found: dict[str, list[str]] = {}
    for reason in reasons:
        if isinstance(reason, why.Output):
            found.setdefault(reason.fate, []).append(reason.path)
    for fate, paths in found.items():
        yield f"{fate}: {paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")


def told(reason: why.Reason, full: bool = False) -> Iterator[str]:
    """A reason in a line, or a few."""
    match reason:
        case why.Param(file, key, old, new):
            yield f"{file}: {key}: {_value(old, full)} → {_value(new, full)}"
        case why.Code(op, "version", old, new):
            yield f"op {op}: version {old.partition('-')[0]} → {new.partition('-')[0]}"
        case why.Code(op, _, old, new):
            yield f"op {op}: its code changed ({old} → {new}); `drp same {op}` if it means the same"
        case why.Prompt(path, old, new, None):
            yield f"{path}: changed ({old[:8]} → {new[:8]}; the old text is neither in the store nor in git)"
        case why.Prompt(path, _, _, diff):
            changed = [line for line in diff or () if not line.startswith("@@")]
            yield f"{path}: +{sum(x[0] == '+' for x in changed)} −{sum(x[0] == '-' for x in changed)} lines"
            marked = [line for line in changed if line[:1] in "+-"]
            yield from (f"  {line}" for line in (diff or () if full else marked[:LINES]))
            if len(marked) > LINES and not full:
                yield f"  and {len(marked) - LINES} lines more (--full)"
        case why.Input(path, None, None):
            yield f"{path}: is not there, and no stage makes it"
        case why.Input(path, _, None, size):
            yield f"{path}: is gone ({_bytes(size)})"
        case why.Input(path, None, _, _, size):
            yield f"{path}: a new input ({_bytes(size)})"
        case why.Input(path, _, _, old_size, size):
            yield f"{path}: changed ({_bytes(old_size)} → {_bytes(size)})"
        case why.Output(path, fate):
            yield f"{path}: {fate}"
        case why.Command(old, new):
            yield f"command: {old} → {new}"
        case why.Always():
            yield "runs every time"
        case why.Upstream(stages):
            yield f"after {_listed(stages)}"


def _asked(planned: Planned) -> Iterator[str]:
    rehearsal = planned.rehearsal
    if rehearsal is None or rehearsal.note:
        return
    if not planned.known:
        waits = [name for r in planned.fate.reasons if isinstance(r, why.Upstream) for name in r.stages]
        yield f"completions unknown until {_listed(waits) or 'its input is there'} has run"
        return
    most = sum(a.most.requests for a in planned.askings)
    yield f"{_range(rehearsal.new, most)} new, {rehearsal.stored:,} stored"
    if most:
        yield from _taking(planned.askings)


def _trained(planned: Planned) -> Iterator[str]:
    if planned.training:
        time = planned.training.seconds
        yield "training, time unknown" if time is None else f"training, {_time(time)} last time"


def _training(plan: Plan) -> Iterator[str]:
    """What is added to the time of the requests."""
    sure, most, unknown = plan.trainings()
    if most:
        time = f"≈ {_time(most)}" if sure == most else f"≈ {_time(sure)} to {_time(most)}" if sure else f"up to {_time(most)}"
        yield f"+ training, {time} as last time"
    if unknown:
        yield f"+ training, unknown ({_listed(unknown)})"


def _taking(askings: Iterable[Asking]) -> Iterator[str]:
    """Tokens, money and time of requests."""
    new, most = [a.new for a in askings], [a.most for a in askings]
    tokens = [sum(g.prompt_tokens + g.completion_tokens for g in guesses) for guesses in (new, most)]
    bound = "≤" if any(g.length == "limit" and g.requests for g in most) else "≈"
    yield f"{bound} {_range(*tokens)} tokens"
    yield from _money(new, most, bound)
    low, high = seconds(new), seconds(most)
    if low is None or high is None:
        yield "time unknown"
    else:
        yield f"≈ {_time(high)}" if _time(low) == _time(high) else f"≈ {_time(low)} to {_time(high)}"


def _money(new: list[Guess], most: list[Guess], bound: str) -> Iterator[str]:
    for currency in dict.fromkeys(g.currency for g in most if g.currency):
        low, high = (sum(g.cost or 0 for g in guesses if g.currency == currency) for guesses in (new, most))
        yield f"{bound} {low:.2f} {currency}" if f"{low:.2f}" == f"{high:.2f}" else f"{bound} {low:.2f} to {high:.2f} {currency}"
    if any(g.billed and g.cost is None and g.requests for g in most):
        yield "no price"


def _totals(plan: Plan) -> Iterator[str]:
    yield _states(plan)
    askings = list(plan.askings())
    if any(p.rehearsal for p in plan.stages):
        most = sum(a.most.requests for a in askings)
        unknown = "" if all(p.known for p in plan.stages) else ", and what is unknown yet"
        words = f"{_range(sum(a.new.requests for a in askings), most)} new completions, {sum(a.stored for a in askings):,} stored"
        yield "; ".join([words + unknown, *(_taking(askings) if most else ()), *_training(plan)])
    else:
        yield from _training(plan)
    for budget in plan.budgets:
        limit, whose = budget.limit, f"{budget.limit.recipe}{'/' + budget.limit.stage if budget.limit.stage else ''}"
        words = f"budget of {whose}: {limit.amount:g} {limit.currency}, {budget.spent:.2f} spent, ≈ {budget.new:.2f} planned"
        over = ": would exceed the budget" if budget.exceeded else ""
        over = over or (": could exceed the budget" if budget.spent + budget.most > limit.amount else "")
        if budget.left < budget.worst:
            over += f": what is left is less than a request may cost ({budget.worst:.4g}), and that is not sent"
        elif not over and budget.left - budget.new < budget.worst:
            over = f": the last requests may not be sent, for one may cost {budget.worst:.4g}"
        yield words + over


def _states(plan: Plan) -> str:
    found = plan.states()
    frozen = [p.fate.entry.address for p in plan.stages if p.fate.state == "frozen"]
    order = ("will run", "may run", "from cache", "up to date")
    parts = [f"{found[state]} {state}" for state in order if found[state]]
    parts += [f"{len(frozen)} frozen ({_listed(frozen)})"] if frozen else []
    return f"{len(plan.stages)} stages: {', '.join(parts)}"


def _range(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _value(value: Any, full: bool) -> str:
    text = str(value) if value is ABSENT else repr(value)
    return text if full or len(text) <= VALUE else f"{text[: VALUE - 1]}…"


def _bytes(size: int | None) -> str:
    return "size unknown" if size is None else f"{size:,} bytes"


def _time(time: float) -> str:
    if time < 90:
        return f"{time:.0f} s" if time >= 1 or not time else "1 s"
    return f"{time / 60:.0f} min" if time < 5400 else f"{time / 3600:.1f} h"


def _listed(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")
