"""Whether a ledger's tokens are those of its prompts and targets, counted again by the student's tokenizer."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from drp.errors import ConfigError
from drp.lineage.graph import Node
from drp.lineage.tables import Tables
from drp.op import Dropped
from drp.ops.sft import example_of
from drp.pipeline.calling import build_model
from drp.pipeline.yamlfile import mapping
from drp.project import Project
from drp.recipe.stages import Stage
from drp.records import read
from drp.weights import load_tokenizer, resolve


def tokenizer(project: Project, stage: Stage) -> Any:
    """That of the model that an `sft` stage trains; DrpError where it does not lie here (nothing is downloaded)."""
    model = build_model(project, mapping(project.params), stage.models["model"][""])
    if (project.root / model.name).is_dir():
        model = replace(model, name=str(project.root / model.name))
    if not Path(resolve(model.name)).is_dir():
        raise ConfigError(f"the tokenizer of {model.name} is the hub's")
    return load_tokenizer(model)


def recounted(project: Project, tables: Tables, node: Node, stage: Stage, tokenizer: Any) -> Iterator[str]:
    """Each record of which the ledger says another number of tokens than its prompt and target have, in words."""
    options = stage.options()
    column, most = (options.get(key, stage.op.options[key].default) for key in ("target_column", "max_length"))
    prompt = project.prompt(stage.prompts["prompt"])
    ledger = read(tables.file(node))
    for record in read(project.root / f"{stage.inputs[0].data}.parquet"):
        made = example_of(record, tokenizer, prompt, column, most)
        if isinstance(made, Dropped):
            continue
        row = next(ledger, None)
        if row is None or row["id"] != record["id"]:
            yield f"the record {record['id']} has a target of {len(made)} tokens with its prompt, and no row in order"
            return
        if (row["n_tokens"], row["n_trained_tokens"]) != (len(made), len(made.response)):
            yield (
                f"the record {record['id']} was trained on {row['n_trained_tokens']} of its {row['n_tokens']} tokens, "
                f"but its prompt and target make {len(made.response)} of {len(made)}"
            )
    if (row := next(ledger, None)) is not None:
        yield f"the record {row['id']} has no target, or one of more than {most} tokens with its prompt"
