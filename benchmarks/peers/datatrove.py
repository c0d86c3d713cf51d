"""datatrove's inference block at the task: one rollout a document, of two calls, with its request cache on disk."""

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceResult, InferenceRunner
from datatrove.pipeline.writers import JsonlWriter

from benchmarks.peers.task import IN_FLIGHT, MODEL, REVIEW, given, report

Generate = Callable[[dict[str, Any]], Awaitable[InferenceResult]]


async def rollout(document: Document, generate: Generate) -> str:
    """Ask the question, then ask about the answer."""
    said = await generate({"messages": [{"role": "user", "content": document.text}]})
    review = await generate({"messages": [{"role": "user", "content": REVIEW + said.text}]})
    return review.text


def main() -> None:
    """Run the task."""
    task = given()
    documents = [Document(text=question, id=str(number)) for number, question in enumerate(task.questions(calls=2))]
    started = time.perf_counter()
    runner = InferenceRunner(
        rollout,
        InferenceConfig(
            server_type="endpoint",
            endpoint_url=task.url.removesuffix("/v1"),
            model_name_or_path=MODEL,
            max_concurrent_generations=IN_FLIGHT,
        ),
        output_writer=JsonlWriter(str(task.out / "made"), output_filename="${rank}_${chunk_index}.jsonl", compression=None),
        checkpoints_local_dir=str(task.out / "kept"),
    )
    LocalPipelineExecutor([documents, runner], logging_dir=str(task.out / "logs"), workers=1).run()
    seconds = time.perf_counter() - started
    lines = [line for file in sorted((task.out / "made").glob("*.jsonl")) for line in file.read_text().splitlines()]
    made = [json.loads(line) for line in lines]
    report("datatrove", "datatrove", seconds, 2, ((row["text"], row["metadata"]["rollout_results"][0]) for row in made))


if __name__ == "__main__":
    main()
