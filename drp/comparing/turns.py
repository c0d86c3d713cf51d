"""What became of a record's steps in two states: those that took another turn."""

from typing import Any

from drp.records import Record


def turns(old: Record, new: Record) -> list[dict[str, Any]]:
    """The steps of a record, cut alike in both states, that have another action, text, group or reason; then the steps that
    only one state has (`what` is `cut`). [] where the thought itself is another, or nothing was decided yet."""
    if not all("actions" in row and row.get("thought") is not None for row in (old, new)) or old["thought"] != new["thought"]:
        return []
    before, now = _decided(old), _decided(new)
    found = [_turn(span, before[span], now[span]) for span in before if span in now]
    cut = [{**_step(before[span]), "what": "cut", "side": "old"} for span in before if span not in now]
    cut += [{**_step(now[span]), "what": "cut", "side": "new"} for span in now if span not in before]
    return [*(turn for turn in found if turn["what"]), *cut]


def _decided(row: Record) -> dict[tuple[int, int], Record]:
    """Each step with its action and its text, by its span."""
    return {
        (step["start"], step["end"]): {**step, **action, "source": row["thought"][step["start"] : step["end"]]}
        for step, action in zip(row["steps"] or [], row["actions"] or [], strict=True)
    }


def _step(decided: Record) -> dict[str, Any]:
    return {"step": decided["step"], "skill": decided["skill"], "text": decided["source"].strip()}


def _turn(span: tuple[int, int], old: Record, new: Record) -> dict[str, Any]:
    kinds = (("action", "action"), ("words", "text"), ("group", "into"), ("reason", "reason"))
    what = next((name for name, key in kinds if old[key] != new[key]), None)
    sides = {side: {key: row[key] for _, key in kinds} for side, row in (("old", old), ("new", new))}
    return {**_step(old), "what": what, **sides}
