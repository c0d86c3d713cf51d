"""NeMo Data Designer at the task: a seed file of questions and two text columns, the second of which names the first."""

import json
import time

import data_designer.config as dd
from data_designer.interface import DataDesigner

from benchmarks.peers.task import IN_FLIGHT, KEY, MODEL, REVIEW, given, report


def main() -> None:
    """Run the task."""
    task = given()
    questions = task.questions(calls=2)
    seed = task.out / "questions.jsonl"
    seed.write_text("".join(json.dumps({"question": question}) + "\n" for question in questions))
    started = time.perf_counter()
    parameters = dd.ChatCompletionInferenceParams(max_parallel_requests=IN_FLIGHT)
    model = dd.ModelConfig(alias="m", model=MODEL, provider="here", inference_parameters=parameters, skip_health_check=True)
    recipe = dd.DataDesignerConfigBuilder(model_configs=[model])
    recipe.with_seed_dataset(dd.LocalFileSeedSource(path=str(seed)))
    recipe.add_column(dd.LLMTextColumnConfig(name="answer", model_alias="m", prompt="{{ question }}"))
    recipe.add_column(dd.LLMTextColumnConfig(name="review", model_alias="m", prompt=REVIEW + "{{ answer }}"))
    here = dd.ModelProvider(name="here", endpoint=task.url, provider_type="openai", api_key=KEY)
    designer = DataDesigner(artifact_path=task.out, model_providers=[here])
    designer.set_run_config(dd.RunConfig(otel_metrics_port=None))
    made = designer.create(recipe, num_records=len(questions)).load_dataset()
    seconds = time.perf_counter() - started
    report("datadesigner", "data-designer", seconds, 2, zip(made["question"], made["review"], strict=True))


if __name__ == "__main__":
    main()
