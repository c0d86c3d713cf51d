"""sdg_hub at the task: a flow file of two prompt-chat-extract chains, checkpointed every 100 rows."""

import json
import time
from pathlib import Path

import pandas as pd
from sdg_hub import Flow

from benchmarks.peers.task import IN_FLIGHT, KEY, MODEL, REVIEW, given, report

SAVE_EVERY = 100


def chain(name: str, source: str, prompt: Path) -> list[dict[str, object]]:
    """The blocks that ask about the column `source`, by the prompt file, and leave the answer in `{name}_content`."""
    return [
        block(
            "PromptBuilderBlock",
            block_name=f"{name}_prompt",
            input_cols=[source],
            output_cols=f"{name}_messages",
            prompt_config_path=str(prompt),
        ),
        block("LLMChatBlock", block_name=name, input_cols=f"{name}_messages", output_cols=f"{name}_reply", async_mode=True),
        block("LLMResponseExtractorBlock", block_name=f"{name}_text", input_cols=f"{name}_reply", field_prefix=f"{name}_"),
    ]


def block(kind: str, **config: object) -> dict[str, object]:
    """One block as a flow file words it."""
    return {"block_type": kind, "block_config": config}


def main() -> None:
    """Run the task."""
    task = given()
    rows = pd.DataFrame({"question": task.questions(calls=2)})
    ask, check = task.out / "ask.yaml", task.out / "check.yaml"
    ask.write_text(json.dumps([{"role": "user", "content": "{{ question }}"}]))
    check.write_text(json.dumps([{"role": "user", "content": REVIEW + "{{ answer_content }}"}]))
    about = {"name": "peer", "description": "A benchmark.", "version": "1.0.0", "author": "drp"}
    blocks = chain("answer", "question", ask) + chain("review", "answer_content", check)
    recipe = task.out / "flow.yaml"
    recipe.write_text(json.dumps({"metadata": about, "blocks": blocks}))  # JSON is YAML
    started = time.perf_counter()
    flow = Flow.from_yaml(str(recipe))
    flow.set_model_config(model=f"openai/{MODEL}", api_base=task.url, api_key=KEY)
    made = flow.generate(rows, checkpoint_dir=str(task.out / "kept"), save_freq=SAVE_EVERY, max_concurrency=IN_FLIGHT)
    seconds = time.perf_counter() - started
    report("sdg_hub", "sdg_hub", seconds, 2, zip(made["question"], made["review_content"], strict=True))


if __name__ == "__main__":
    main()
