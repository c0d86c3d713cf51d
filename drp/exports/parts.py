"""The parts that hub cards are made of: pieces of Markdown, and of front matter."""

from collections.abc import Iterable, Iterator
from typing import Any

from drp.exports import parquet
from drp.exports.columns import HOLDS
from drp.exports.facts import Facts
from drp.exports.licences import UNKNOWN
from drp.lineage.graph import Node

SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"),
    (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"), (10**11, "10B<n<100B"), (10**12, "100B<n<1T"),
)  # fmt: skip
"""The hub's size categories, by what they stay below."""


# -- front matter --------------------------------------------------------------------------------------------------------


def licence(facts: Facts, names: Iterable[str]) -> str | list[str]:
    """The licences of all that went in: one word, or a list; `unknown` where nothing is known."""
    found = facts.licences.together(names)
    return found[0] if len(found) == 1 else found or UNKNOWN


def size(count: int) -> str:
    """The hub's word for so many records."""
    return next((name for most, name in SIZES if count < most), "n>1T")


def generated(facts: Facts, line: list[Node]) -> dict[str, Any]:
    """Who made it, for programs: drp, the models whose text is in it, the commits, and whether they suffice to make it again."""
    origins = [facts.origins.of(node) for node in line]
    return {
        "tool": "drp",
        "versions": list(dict.fromkeys(version for node in line if (version := facts.version(node)))),
        "models": list(dict.fromkeys(speaker.name for node in line for speaker in facts.speakers(node))),
        "commits": list(dict.fromkeys(origin.commit for origin in origins if origin.commit)),
        "dirty": bool(facts.doubts(line)),
    }


# -- text ----------------------------------------------------------------------------------------------------------------


def table(title: str, head: str, rows: Iterable[Iterable[Any]]) -> str:
    """A section with a table; nothing where it has no rows. A column whose name ends in `:` stands to the right."""
    lines = [f"| {' | '.join(str(cell).replace('|', '∣') for cell in row)} |" for row in rows]
    names = [name.strip() for name in head.split("|")]
    rule = "|".join("--:" if name.endswith(":") else "---" for name in names)
    shown = " | ".join(name.removesuffix(":") for name in names)
    return "\n".join([title, "", f"| {shown} |", f"|{rule}|", *lines]) if lines else ""


def description(facts: Facts, node: Node) -> str:
    """What the recipe says of itself."""
    words = str(facts.snapshot.mapping(f"recipes/{node.recipe}/recipe.yaml").get("description") or "").rstrip(".")
    return f"{words}." if words else ""


def state(facts: Facts, line: list[Node], changed: Iterable[str] = ()) -> str:
    """Whether the commits have all that it was made from; every doubt, in full."""
    if doubts := [*changed, *facts.doubts(line)]:
        listed = "\n".join(f"> - {doubt}" for doubt in doubts)
        return f"> **Not clean.** Not all that is told below can be had again from a commit:\n>\n{listed}"
    made: dict[str, list[str]] = {}
    for node in line:
        made.setdefault(str(facts.origins.of(node).commit), []).append(f"`{node.address}`")
    words = "the values, prompts, source files and own ops that it was made from are those of"
    if len(made) == 1:
        return f"Clean: {words} commit `{next(iter(made))}`."
    listed = "\n".join(f"- `{commit}`: {', '.join(stages)}" for commit, stages in made.items())
    return f"Clean: {words} these commits, each stage's of the one that brought its outcome:\n\n{listed}"


def contents(facts: Facts, nodes: Iterable[Node]) -> Iterator[str]:
    """The files of data sets, and their columns: type, and what they hold; once where several have the same."""
    alike: dict[Any, list[str]] = {}
    for node in nodes:
        path = f"{node.base}.parquet"
        schema = parquet.schema(facts.snapshot.data(path, node.outs[path])).remove_metadata()
        columns = tuple((f"`{f.name}`", _kind(f.type), HOLDS.get(f.name, "")) for f in schema)
        alike.setdefault(columns, []).append(f"`{path}`: {count(facts, node):,} records; md5 `{md5(node)}`.")
    for columns, files in alike.items():
        yield table("\n\n".join(["## Contents", *files]), "column | type | holds", columns)


def count(facts: Facts, node: Node) -> int:
    """How many records a stage made."""
    path = f"{node.base}.parquet"
    return parquet.rows(facts.snapshot.data(path, node.outs[path]))


def md5(node: Node) -> str:
    """Of a stage's records, by the lock."""
    return node.outs[f"{node.base}.parquet"].md5


def lineage(facts: Facts, line: list[Node]) -> str:
    """A row a stage: op, counts, models, prompt with its md5 and commit, the commit of the outcome."""
    rows = []
    for node in line:
        counts, origin = facts.counts(node), facts.origins.of(node)
        dropped = ", ".join(f"{reason} {number}" for reason, number in (counts.get("dropped") or {}).items())
        models = ", ".join(dict.fromkeys(f"`{speaker.name}`" for speaker in facts.speakers(node)))
        commit = f"`{origin.commit[:10]}`" + ("" if origin.clean else " (dirty)") if origin.commit else "none"
        told = (counts.get("read", "?"), counts.get("kept", "?"), dropped, models, _prompt(facts, node), commit)
        rows.append((node.address, node.op, *told))
    return table("## How it was made", "stage | op | read: | kept: | dropped | model | prompt | commit", rows)


def picture(facts: Facts, line: list[Node]) -> str:
    """The stages as Mermaid, which the hub draws."""
    ids = {node.address: f"s{number}" for number, node in enumerate(line)}
    lines = ["```mermaid", "graph LR"]
    for node in line:
        kept = facts.counts(node).get("kept")
        lines.append(f'  {ids[node.address]}["{node.slug}<br/>{node.op}{"" if kept is None else f", {kept}"}"]')
    for number, source in enumerate(facts.sources(line)):
        lines.append(f'  x{number}(["{source.name}"]) --> {ids[source.stage]}')
    for node in line:
        lines += [f"  {ids[other.address]} --> {ids[node.address]}" for other in facts.feeds(node) if other.address in ids]
    return "\n".join([*lines, "```"])


def sources(facts: Facts, line: list[Node]) -> str:
    """Where the records began, with revision and licence."""
    rows = []
    for source in facts.sources(line):
        shown = f"[{source.name}]({source.url})" if source.url else f"`{source.name}`"
        licence_ = facts.licences.licence(source.name)
        rows.append((shown, source.revision or "not pinned", source.part, licence_, source.stage))
    return table("## Sources", "source | revision | taken | licence | stage", rows)


def models(facts: Facts, line: list[Node]) -> str:
    """The models that spoke: what pins each, where it spoke, how it was asked."""
    seen: dict[tuple[str, str, str], dict[str, None]] = {}
    for node in line:
        for one in facts.speakers(node):
            marks = (
                one.revision,
                one.file,
                one.content and f"`{one.content[:16]}`",
                one.adapter and f"adapter `{one.adapter[:16]}`",
            )
            settings = ", ".join(f"{key} {value}" for key, value in one.sampling.items())
            seen.setdefault((one.name, " ".join(filter(None, marks)), settings), {})[node.address] = None
    rows = [
        (f"`{name}`", pinned or "not pinned", ", ".join(stages), settings, facts.licences.licence(name))
        for (name, pinned, settings), stages in seen.items()
    ]
    ours = {name: maker.address for name, _, _ in seen if (maker := facts.graph.maker(name))}
    told = table("## Models that had a part in it", "model | revision or contents | stages | settings | licence", rows)
    return "\n".join([told, *(f"\n`{name}` was made here too: stage `{stage}`." for name, stage in ours.items())])


def licences(facts: Facts, names: list[str]) -> str:
    """Each source's and model's licence; what is unknown is said, not guessed."""
    listed = [f"- `{name}`: {facts.licences.licence(name)}" for name in names]
    missing = ", ".join(f"`{name}`" for name in facts.licences.missing(names))
    tail = [f"\nOf {missing} no licence is known: ask before you use this."] if missing else []
    return "\n".join(["## Licences", "", *listed, *tail]) if listed else ""


def again(facts: Facts, nodes: list[Node], paths: list[str]) -> str:
    """The commands that bring it back, and that make it anew."""
    commits = [origin.commit for node in nodes if (origin := facts.origins.of(node)).commit]
    lines = [f"git checkout {commits[-1]}"] if commits else ["# in no commit yet: commit recipes/*/dvc.lock first"]
    pull = facts.snapshot.project.pull
    lines += [f"{pull} {' '.join(paths)}  # the very bytes"] if pull else []
    anew = "or anew, from the sources" if pull else "anew, from the sources"
    lines += [f"dvc repro recipes/{node.recipe}/dvc.yaml:{node.slug}  # {anew}" for node in nodes]
    return "\n".join(["## Have it again", "", "```bash", *lines, f"drp why {paths[0]}  # where it came from", "```"])


def _kind(kind: Any) -> str:
    import pyarrow as pa

    if pa.types.is_list(kind):
        return f"list of {_kind(kind.value_type)}"
    return "(" + ", ".join(f"{f.name}: {_kind(f.type)}" for f in kind) + ")" if pa.types.is_struct(kind) else str(kind)


def _prompt(facts: Facts, node: Node) -> str:
    """The prompt of a stage: its file, md5, and the commit that last changed it before the outcome was committed."""
    told = []
    for path in [p for p in facts.prompts(node) if not p.startswith("prompts/_")]:
        origin = facts.origins.of(node)
        commit = facts.origins.last(path, origin.commit)
        same = commit is not None and path not in origin.differs
        told.append(f"`{path}` md5 `{node.deps[path].md5[:12]}`" + (f" of `{str(commit)[:10]}`" if same else ""))
    return ", ".join(told)
