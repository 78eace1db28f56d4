"""What a user writes; it must pass pyright and mypy in strict mode. It is type-checked, never run."""

import asyncio
from pathlib import Path

import millrace
from millrace import AsyncClient, Client, Pipeline, RunFailed, stages


@millrace.stage
def count_words(texts: millrace.Dataset, minimum: int = 1) -> millrace.Report:
    words = sum(num_rows for split, num_rows in texts.num_rows.items() if split == "train" and num_rows >= minimum)
    return millrace.Report(metrics={"words": float(words)})


def from_a_file() -> list[dict[str, object]]:
    with Client() as client:
        run = client.submit(Pipeline.load("pipeline.yaml"), data="reviews.parquet", labels={"team": "a"}, priority=5)
        for event in run.follow():
            print(event.seq, event.type, event)
        for item in run.follow(signals=True):
            kind: str = item.kind if isinstance(item, millrace.SignalView) else item.type
            print(kind)
        result = run.result(timeout_s=600)
        accuracy: float = result.report.metrics["accuracy"]
        print(accuracy, result.model.digest, list(result.stages))
        answers = result.endpoint.predict([{"text": "..."}])
        text: str = result.endpoint.generate("Once", max_tokens=16, temperature=0.0)
        print(text)
        return [dict(answer) for answer in answers]


def in_python(client: Client) -> None:
    pipeline = Pipeline(
        "reviews",
        params={"learning_rate": {"type": "float", "default": 3e-4}},
        stages=[
            stages.Clean(target="label", split={"by": "user"}),
            stages.Train(task="text_classification", learning_rate="$params.learning_rate", resources={"gpu": 1}),
            stages.Evaluate(gate=["accuracy >= 0.95"]),
            stages.Optimize(minimize="latency_p50_ms", subject_to=["accuracy_drop <= 0.005"]),
            stages.Deploy("reviews", name="ship", timeout_s=60),
        ],
    )
    try:
        view = client.submit(pipeline, data=Path("reviews.parquet"), params={"learning_rate": 1e-3}).wait()
        print(view.status)
    except RunFailed as error:
        print(error.stage, error.cause, error.remedy)


def a_corpus(client: Client, tokenizer: millrace.ArtifactRef) -> None:
    clean = stages.Clean(
        raw="s3://bucket/raw/",
        steps=[{"step": "repair_text"}, {"step": "language", "keep": ["en"], "min_score": 0.65}],
        near_dedup={"threshold": 0.8},
        expect=[{"rows": {"min": 1000}}],
        on_bad_row="quarantine",
        on_bad_file="skip",
    )
    audit = stages.Audit(checks=["splits", "labels"], fail_on="error", max_rows=5000)
    tokenize = stages.Tokenize(tokenizer=tokenizer, column="text", end_of_text="</s>")
    result = client.submit(Pipeline("corpus", stages=[clean, audit, tokenize])).result()
    print(result.dataset.digest, client.submit(stages.Tokenize(vocabulary_size=4096), data=result.dataset).id)


def alone(client: Client) -> None:
    cleaned = client.submit(stages.Clean(target="label"), data="s3://bucket/raw/").result()
    words = client.submit(count_words, data=cleaned.dataset, params={"minimum": 2})
    mapped = client.submit(stages.Function(count_words, foreach="texts", inputs={"texts": cleaned.dataset}))
    values: list[int] = mapped.result(timeout_s=60).value()
    print(values, client.submit(stages.Function(count_words, foreach=[1, 2])).result().value("count_words"))
    both = client.submit_many([millrace.Submission(stages.Train(epochs=n), data=cleaned.dataset) for n in (1, 2)])
    print(words.id, mapped.status, [run.wait_end().status for run in both], list(words.logs()))
    written: Path = client.batch("reviews", "new.parquet", out="predictions.parquet")
    print(written, [model.release for model in client.models()], [view.name for view in client.endpoints()])


async def awaited() -> None:
    async with AsyncClient("http://127.0.0.1:8470") as client:
        run = await client.submit(Pipeline.load("pipeline.yaml"), data="reviews.parquet")
        async for event in run.follow():
            print(event.seq)
        result = await run.result()
        print(await run.status(), await result.value())
        endpoint = await result.endpoint()
        print(await endpoint.predict([{"text": "..."}]))


if __name__ == "__main__":
    print(from_a_file())
    asyncio.run(awaited())
