"""distilabel at the task: two text generation steps in processes of their own, batches of as many rows as may be in flight."""

import time

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

from benchmarks.peers.task import IN_FLIGHT, KEY, MODEL, REVIEW, given, report


def main() -> None:
    """Run the task."""
    task = given()
    questions = task.questions(calls=2)
    started = time.perf_counter()
    with Pipeline(name="peer", cache_dir=task.out) as pipeline:
        load = LoadDataFromDicts(data=[{"question": question} for question in questions], batch_size=IN_FLIGHT)
        steps = [
            TextGeneration(
                name=name,
                llm=OpenAILLM(model=MODEL, base_url=task.url, api_key=KEY),
                template=template,
                columns=[column],
                output_mappings={"generation": name, "model_name": f"{name}_model"},
                input_batch_size=IN_FLIGHT,
            )
            for name, template, column in (
                ("answer", "{{ question }}", "question"),
                ("review", REVIEW + "{{ answer }}", "answer"),
            )
        ]
        load >> steps[0] >> steps[1]
    made = pipeline.run()["default"]["train"]
    seconds = time.perf_counter() - started
    report("distilabel", "distilabel", seconds, 2, zip(made["question"], made["review"], strict=True))


if __name__ == "__main__":
    main()
