"""bespokelabs-curator at the task: one call a row, by its OpenAI backend; chaining would be two datasets, one after another."""

import time

from bespokelabs import curator
from datasets import Dataset

from benchmarks.peers.task import IN_FLIGHT, KEY, MODEL, given, report

UNLIMITED = 10**9
"""Requests and tokens a minute: curator's defaults, for servers that name no limits, would hold the run back."""


class Ask(curator.LLM):
    """The question as it is; the answer beside it."""

    def prompt(self, row: dict[str, str]) -> str:
        """The prompt of a row."""
        return row["question"]

    def parse(self, row: dict[str, str], response: str) -> dict[str, str]:
        """The row that comes of a response."""
        return {"question": row["question"], "answer": response}


def main() -> None:
    """Run the task."""
    task = given()
    rows = Dataset.from_list([{"question": question} for question in task.questions(calls=1)])
    started = time.perf_counter()
    ask = Ask(
        model_name=MODEL,
        backend="openai",
        backend_params={
            "base_url": task.url,
            "api_key": KEY,
            "max_concurrent_requests": IN_FLIGHT,
            "max_requests_per_minute": UNLIMITED,
            "max_tokens_per_minute": UNLIMITED,
        },
    )
    answered = ask(rows, working_dir=str(task.out)).dataset
    seconds = time.perf_counter() - started
    report("curator", "bespokelabs-curator", seconds, 1, ((row["question"], row["answer"]) for row in answered))


if __name__ == "__main__":
    main()
