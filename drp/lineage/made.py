"""What an outcome was made with: the branch of a stage, of a completion, of a model, of a prompt."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from drp.lineage.branch import Branch, short
from drp.lineage.graph import Node
from drp.lineage.origin import named
from drp.lineage.subject import Lineage

KEY = 12
"""Hex digits of a key that people see."""


class Making:
    """Makes branches of what made something."""

    def __init__(self, lineage: Lineage) -> None:
        self.lineage, self.graph, self.replies = lineage, lineage.graph, lineage.replies
        self.origins = lineage.origins

    # -- stages --------------------------------------------------------------------------------------------------------------

    def stage(self, node: Node, words: str = "", below: Iterable[Branch] = (), facts: dict[str, Any] | None = None) -> Branch:
        """A stage: what it did, with what, and the commit that has it."""
        made = self.made(node)
        words = "; ".join(filter(None, (words, *self._older(node))))
        told = f"{node.op}{f' – {words}' if words else ''}"
        return Branch("stage", node.address, told, {"op": node.op, **(facts or {}), "made": made.facts}, (*below, made))

    def _older(self, node: Node) -> Iterator[str]:
        """What it was made from that has been made anew since."""
        for path, made in node.deps.items():
            maker = self.graph.maker(path)
            if maker and maker.outs[path].md5 != made.md5:
                yield f"made from an earlier {path} than lies here (`drp plan`)"

    def made(self, node: Node) -> Branch:
        """Commit, values, prompts, packages of a stage's run; it stands aside."""
        origin = self.origins.of(node)
        manifest = self.graph.manifest(node) if node.base and self._here(node) else {}
        params = {f"{file}:{key}": value for (file, key), value in node.params.items()}
        prompts = [self.prompt(node, path) for path in node.deps if path.endswith(".j2")]
        facts = {
            **origin.plain(), "recipe": node.recipe, "stage": node.slug, "fingerprint": manifest.get("fingerprint"),
            "params": params, "options": manifest.get("options"), "models": manifest.get("models"),
            "deps": {path: made.md5 for path, made in node.deps.items()},
            "outs": {path: made.md5 for path, made in node.outs.items()}, "counts": manifest.get("counts"),
            "usage": manifest.get("usage"), "packages": manifest.get("packages"), "prompts": [p.facts for p in prompts],
        }  # fmt: skip
        packages = manifest.get("packages") or {}
        versions = ", ".join(
            f"{name} {packages[name]}" for name in ("drp", "python", *VERSIONS.get(node.op, ())) if name in packages
        )
        words = f"{origin}; op {node.op} {manifest.get('fingerprint') or ''}; {versions}"
        values = "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in params.items())
        return Branch("made", "", words, facts, tuple(prompts), texts=(("params", values),), aside=True)

    def _here(self, node: Node) -> bool:
        path = f"{node.base}.manifest.json"
        return path in node.outs and self.lineage.snapshot.find(path, node.outs[path]) is not None

    def prompt(self, node: Node, path: str) -> Branch:
        """A prompt file as a stage used it, and the commit that last changed it."""
        origin = self.origins.of(node)
        commit = self.origins.last(path, origin.commit)
        dirty = path in origin.differs or commit is None
        shallow = commit in self.origins.boundary
        facts = {"path": path, "md5": node.deps[path].md5, "commit": commit, "dirty": dirty, "shallow": shallow}
        return Branch("prompt", path, named(commit, shallow) if commit and not dirty else "not as committed", facts)

    # -- completions -----------------------------------------------------------------------------------------------------------

    def completions(self, node: Node, keys: Iterable[str | None]) -> Iterator[Branch]:
        """A branch for each of the keys, once."""
        for key in dict.fromkeys(key for key in keys if key):
            yield self.completion(key, node)

    def completion(self, key: str, node: Node | None = None) -> Branch:
        """A completion: who gave it, for which prompt, at what price; its texts are the prompt as rendered and the reply."""
        found = self.replies.find(key)
        prompts = (
            [path for path in (node.deps if node else ()) if path.endswith(f"/{self.graph.option(node, 'prompt')}.j2")]
            if node
            else []
        )
        named = "; ".join(f"{path} ({self.prompt(node, path).words})" for path in prompts if node)
        if found is None:
            pull = f", `{self.lineage.project.pull}`" if self.lineage.project.pull else ""
            cure = f"neither in the completion store nor in a recipe's completions.parquet (`drp cache import`{pull})"
            return Branch("completion", key[:KEY], f"{named}{'; ' if named else ''}not here: {cure}",
                          {"key": key, "found": False, "prompts": prompts})  # fmt: skip
        served = f", served {found.served}" if found.served not in ("", found.model["name"]) else ""
        paid = f"; paid {found.cost:.6f} {found.currency}" if found.cost else ""
        price = paid or (f"; ≈ {found.estimate:.6f} {found.currency}" if found.estimate is not None else "")
        unsound = "" if found.sound else "; its digest differs: `drp cache check`"
        words = (f"{found.model['name']}{served}; {found.prompt_tokens} + {found.completion_tokens} tokens, {found.finish}"
                 f"{price}{f'; {named}' if named else ''}{unsound}")  # fmt: skip
        facts = {
            "key": found.key, "found": True, "where": found.where, "sound": found.sound, "model": found.model,
            "served": found.served,
            "finish": found.finish, "error": found.error, "index": found.index, "seed": found.seed,
            "schema": found.schema,
            "usage": {"prompt_tokens": found.prompt_tokens, "completion_tokens": found.completion_tokens,
                      "cached_tokens": found.cached_tokens, "attempts": found.attempts},
            "cost": found.cost, "estimate": found.estimate, "currency": found.currency, "used_by": list(found.used_by),
            "prompts": prompts, "messages": [list(turn) for turn in found.messages], "reply": found.text,
        }  # fmt: skip
        texts = (*((f"prompt, {role}", text) for role, text in found.messages), ("reply", found.text))
        return Branch("completion", found.key[:KEY], words, facts, texts=texts)

    # -- models ------------------------------------------------------------------------------------------------------------------

    def models(self, node: Node) -> Iterator[Branch]:
        """The models that a stage used, by its manifest."""
        manifest = self.graph.manifest(node) if node.base and self._here(node) else {}
        for key, identity in (manifest.get("models") or {}).items():
            yield self.model(node, key, identity)

    def model(self, node: Node, key: str, identity: dict[str, Any]) -> Branch:
        """A model as a stage used it; one that a stage here made is named by its folder."""
        folder = self.folder(node, identity)
        own = [f"revision {identity['revision']}"] if identity.get("revision") else []
        own += [f"content {identity['content'][:KEY]}"] if identity.get("content") else []
        own += [f"adapter {folder or ''} {identity['adapter'][:KEY]}"] if identity.get("adapter") else []
        drawn = ", ".join(f"{k} {v}" for k, v in (identity.get("sampling") or {}).items() if v is not None)
        words = f"{'' if key == 'model' else f'{key}: '}{', '.join([*own, drawn])}"
        return Branch("model", identity["name"], words, {**identity, "option": key, "folder": folder})

    def folder(self, node: Node, identity: dict[str, Any]) -> str | None:
        """The folder of the adapter that an identity means, by the hashes of the stage's inputs."""
        inputs = self.graph.manifest(node).get("inputs") or {}
        return next((path for path, found in inputs.items() if identity.get("adapter") and found == identity["adapter"]), None)


VERSIONS = {
    "load": ("datasets", "reasoning-gym"), "generate": ("transformers", "torch", "vllm", "openai"), "verify": ("math-verify",),
    "segment": ("jinja2",), "edit": ("jinja2",), "reassemble": ("jinja2",), "sft": ("torch", "transformers", "peft"),
    "pretrain": ("torch", "transformers"), "evaluate": ("torch", "transformers", "vllm", "math-verify"),
}  # fmt: skip
"""The packages that most bear on an op, for the short answer; JSON has all."""


def listed(counts: dict[str, int]) -> str:
    """`13 keep, 9 delete`, the most first."""
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def quoted(text: str | None, most: int = 80) -> str:
    """A text in quotes, on one line."""
    return f"“{short(text or '', most)}”"
