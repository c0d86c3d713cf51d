"""What pruning did to a data set, for its card: counted as `drp deleted` counts it, with one record before and after."""

from collections.abc import Iterator, Sequence
from typing import Any

from drp.exports.facts import Facts
from drp.exports.parts import table
from drp.lineage.deleted import VANISHED, Cuts
from drp.lineage.effects import plural
from drp.lineage.graph import Node
from drp.lineage.subject import Lineage
from drp.lineage.tables import unglobbed

PAPER = "https://arxiv.org/abs/2505.13975"
ACTIONS = {"keep": "kept", "delete": "deleted", "rewrite": "rewritten", "merge": "merged"}
SHORT = 600
"""Characters of a thought that is shown whole."""
RULES = "rules"
"""What the offline teacher is called among the models."""


def told(facts: Facts, nodes: Sequence[Node], line: Sequence[Node]) -> Iterator[str]:
    """The parts of the card; none where no stage decided about steps."""
    lineage = Lineage(facts.snapshot.project, facts.snapshot.commit)
    try:
        cuts = [Cuts(lineage, lineage.graph.nodes[node.address]) for node in nodes if lineage.tables.count(node)]
        cuts = [each for each in cuts if each.decided]
        for each in cuts:
            yield from _pruned(each, several=len(nodes) > 1)
        if cuts:
            yield _limits(facts, lineage, line)
            yield f"## Citation\n\nThe method is that of *Distilled Reasoning Pruning* ([arXiv 2505.13975]({PAPER}))."
    finally:
        lineage.close()


def _pruned(cuts: Cuts, several: bool) -> Iterator[str]:
    size = cuts.characters()
    title = "## What was pruned" + (f": `{cuts.node.address}`" if several else "")
    after = f" became {size['pruned']:,} ({_share(size['pruned'], size['thought'])})" if cuts.reassembled else ""
    words = f"{size['thought']:,} characters of thought{after}, in {cuts.tables.count(cuts.node):,} records."
    rows = {row["action"]: row for row in cuts.table("action")}
    steps: list[tuple[Any, ...]] = [
        (ACTIONS.get(action, action), f"{row['steps']:,}", f"{row['characters']:,}", f"{row['share']:.1%}")
        for action, row in sorted(rows.items(), key=lambda item: _place(item[0]))
    ]
    if vanished := sum(row["vanished"] for row in rows.values()):
        share = _share(size[VANISHED], size["thought"])
        steps.append(("of the others, in no sentence of the outcome", f"{vanished:,}", f"{size[VANISHED]:,}", share))
    yield table(f"{title}\n\n{words}", "steps that were | steps: | characters: | of all:", steps)
    yield table("By the skill that a step uses (of each, its steps):", _head(rows), _skills(cuts, list(rows)))
    if cuts.reassembled and (example := _example(cuts, size)):
        yield example


def _place(action: str) -> int:
    return [*ACTIONS, action].index(action)


def _head(actions: Any) -> str:
    return " | ".join(["skill", "steps:", "characters:", *(f"{ACTIONS.get(a, a)}:" for a in sorted(actions, key=_place))])


def _skills(cuts: Cuts, actions: list[str]) -> list[tuple[str, ...]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in cuts.table("skill", "action"):
        found.setdefault(row["skill"], {})[row["action"]] = row
    sums = {skill: [sum(row[key] for row in by.values()) for key in ("steps", "characters")] for skill, by in found.items()}
    return [
        (skill, *(f"{each:,}" for each in sums[skill]),
         *(f"{found[skill][a]['steps']:,}" if a in found[skill] else "–" for a in sorted(actions, key=_place)))
        for skill in sorted(found, key=lambda name: (-sums[name][1], name))
    ]  # fmt: skip


def _example(cuts: Cuts, size: dict[str, int]) -> str:
    """A record whose thought is short, and was pruned about as much as all together."""
    rows = cuts.tables.query(
        """select id, thought, pruned from read_parquet(?) where actions is not null and length(pruned) < length(thought)
        order by length(thought) > ?, abs(length(pruned) / length(thought) - ?), id limit 1""",
        [unglobbed(cuts.tables.file(cuts.node)), SHORT, size["pruned"] / max(1, size["thought"])],
    )
    if not rows:
        return ""
    before, after = (_fenced(str(rows[0][name])) for name in ("thought", "pruned"))
    return f"Record `{rows[0]['id']}`, before:\n\n{before}\n\nand after:\n\n{after}"


def _fenced(text: str) -> str:
    shown = text.strip() if len(text) <= 2 * SHORT else f"{text.strip()[: 2 * SHORT]} …"
    fence = "```"
    while fence in shown:
        fence += "`"
    return f"{fence}text\n{shown}\n{fence}"


# -- what it does not say ------------------------------------------------------------------------------------------------------


def _limits(facts: Facts, lineage: Lineage, line: Sequence[Node]) -> str:
    """What a reader should not expect of it, as far as the stages tell."""
    said = []
    teachers = {one.name: node for node in line for one in facts.speakers(node) if node.op in ("segment", "edit", "reassemble")}
    if RULES in teachers:
        others = "" if len(teachers) == 1 else f" (beside {', '.join(f'`{name}`' for name in sorted(teachers) if name != RULES)})"
        said.append(
            f"The teacher was `{RULES}`{others}: an offline teacher made of rules, no language model. It prunes repetition,"
            " hesitation and needless checks only; what it rewrites it shortens, never rephrases. It is no substitute for the"
            " paper's teacher."
        )
    if checked := [node for node in line if node.op == "verify"]:
        said.append(
            f"Answers were verified ({', '.join(f'`{node.address}`' for node in checked)}); no single step of a thought was."
        )
    for node in line:
        if node.op == "generate" and "finish" in _columns(lineage, node):
            file = unglobbed(lineage.tables.file(node))
            [row] = lineage.tables.query(
                "select count(*) n, count(*) filter (finish = 'length') cut from read_parquet(?)", [file]
            )
            said.append(f"Of {row['n']:,} answers of `{node.address}`, {row['cut']:,} were cut off at the most tokens allowed.")
    for node in line:
        if lost := facts.counts(node).get("dropped"):
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in lost.items())
            said.append(f"`{node.address}` dropped {plural(sum(lost.values()), 'record')}: {reasons}.")
    return "\n".join(["## Known limits", "", *(f"- {each}" for each in said)]) if said else ""


def _columns(lineage: Lineage, node: Node) -> Sequence[str]:
    return list(lineage.tables.columns(node)) if lineage.tables.present(node) else []


def _share(part: int, whole: int) -> str:
    return f"{part / (whole or 1):.1%}"
