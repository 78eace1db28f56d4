"""The tokenize stage: train a tokenizer on the training split unless one is given, encode every shard, join the parts.

A shard is a task, and parts are joined in the shards' order: the streams depend on the rows alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from millrace import errors
from millrace.contracts.events import StageOutputs
from millrace.contracts.schema import DatasetMeta, Shard, SplitName
from millrace.contracts.tokens import HEADER, TOKENIZER, StreamMeta, TokensMeta, index_file, stream_file
from millrace.runtime.stage import Artifact, Context, Inputs, NextPlan, Result, Results, Task, outputs
from millrace_cleaning.extras import needing
from millrace_cleaning.tokenize.settings import TokenizeConfig
from millrace_cleaning.tokenize.texts import read_texts, sampled_texts, text_column

with needing("tokenize"):
    from millrace_cleaning.tokenize.bpe import (
        MAX_BYTES,
        end_of_text_id,
        given_tokenizer,
        load_tokenizer,
        threads,
        train_tokenizer,
        vocabulary_size,
    )
    from millrace_cleaning.tokenize.packing import Counts, append, dtype_of, pack, write_index


def plan(context: Context, config: TokenizeConfig, inputs: Inputs) -> Sequence[Task]:
    """One task that trains a tokenizer; if one is given, a task for each shard."""
    meta = _meta(inputs["dataset"])
    text_column(meta, config.column)
    if not _shards(meta, config):
        raise errors.InvalidData("The data set has no rows in these splits.", field="with.splits")
    if "tokenizer" in inputs:
        content = given_tokenizer(inputs["tokenizer"])
        end_of_text_id(load_tokenizer(content), config.end_of_text)
        return _encode_tasks(context, config, meta, content)
    if not meta.of("train"):
        raise errors.InvalidData(
            "The train split has no rows to train a tokenizer on.", remedy="Bind a `tokenizer`, or give more data."
        )
    return [{"do": "train"}]


def work(context: Context, config: TokenizeConfig, inputs: Inputs, task: Task) -> Result:
    with threads(context.num_threads):
        return (
            _train(context, config, inputs["dataset"])
            if task["do"] == "train"
            else _encode(context, config, inputs, task)
        )


def _train(context: Context, config: TokenizeConfig, dataset: Artifact) -> Result:
    meta = _meta(dataset)
    texts = sampled_texts(
        [dataset.file(s.path) for s in meta.of("train")], text_column(meta, config.column),
        max_bytes=config.max_training_bytes, seed=context.seed,
    )  # fmt: skip
    return {"did": "train", "tokenizer": context.store.put_bytes(train_tokenizer(texts, config))}


def _encode(context: Context, config: TokenizeConfig, inputs: Inputs, task: Task) -> Result:
    dataset: Artifact = inputs["dataset"]
    tokenizer = load_tokenizer(context.store.get_bytes(task["tokenizer"], max_bytes=MAX_BYTES))
    ids, index = context.workdir / "part.bin", context.workdir / "part.idx"
    total = Counts()
    arrays = read_texts([dataset.file(task["path"])], text_column(_meta(dataset), config.column))
    end_of_text, dtype = end_of_text_id(tokenizer, config.end_of_text), dtype_of(vocabulary_size(tokenizer))
    for counts in pack(arrays, tokenizer, end_of_text=end_of_text, dtype=dtype, ids=ids, index=index):
        total.add(counts)
        context.progress(total.documents, task["rows"], unit="rows")
    blobs = {"ids": context.store.put_file(ids)[0], "index": context.store.put_file(index)[0]}
    return {"did": "encode", "tokenizer": task["tokenizer"], "split": task["split"], "counts": asdict(total), **blobs}


def merge(context: Context, config: TokenizeConfig, inputs: Inputs, results: Results) -> StageOutputs | NextPlan:
    """After the training: ask for every shard. After the shards: join their parts."""
    everything = list(results)
    dataset: Artifact = inputs["dataset"]
    content = context.store.get_bytes(everything[0]["tokenizer"], max_bytes=MAX_BYTES)
    if everything[0]["did"] == "train":
        return NextPlan(_encode_tasks(context, config, _meta(dataset), content))
    files: dict[str, Path | bytes] = {TOKENIZER: content}
    streams = []
    for split in config.splits:
        parts = [result for result in everything if result["split"] == split]
        if parts:
            streams.append(_join(context, split, parts, files))
    tokenizer = load_tokenizer(content)
    size = vocabulary_size(tokenizer)
    meta = TokensMeta(
        tokenizer=hashlib.sha256(content).hexdigest(),
        vocabulary_size=size,
        end_of_text=config.end_of_text,
        end_of_text_id=end_of_text_id(tokenizer, config.end_of_text),
        dtype="uint16" if size <= 2**16 else "uint32",
        dataset=dataset.ref.digest,
        column=text_column(_meta(dataset), config.column),
        streams=tuple(streams),
    )
    return _outputs(context, meta, files)


def _join(context: Context, split: SplitName, parts: Sequence[Result], files: dict[str, Path | bytes]) -> StreamMeta:
    """The parts of one split as its two files."""
    stream, pairs = context.workdir / stream_file(split), context.workdir / f"{split}.pairs"
    total = Counts()
    for result in parts:
        for key, target in (("ids", stream), ("index", pairs)):
            part = context.workdir / "part"
            context.store.fetch(result[key], part)
            append(target, part)
        total.add(Counts(**result["counts"]))
    index = context.workdir / index_file(split)
    write_index(index, pairs)
    files |= {stream.name: stream, index.name: index}
    return StreamMeta(
        split=split,
        num_tokens=total.tokens,
        num_documents=total.documents,
        num_bytes=total.bytes,
        num_characters=total.characters,
    )


def _outputs(context: Context, meta: TokensMeta, files: dict[str, Path | bytes]) -> StageOutputs:
    tokens = context.write_artifact(
        "tokens", {**files, HEADER: meta.to_json().encode()}, meta=meta.model_dump(mode="json")
    )
    num_tokens = sum(s.num_tokens for s in meta.streams)
    num_bytes = sum(s.num_bytes for s in meta.streams)
    summary: dict[str, Any] = {
        "tokenizer": meta.tokenizer, "vocabulary_size": meta.vocabulary_size, "dtype": meta.dtype, "column": meta.column,
        "tokens": {s.split: s.num_tokens for s in meta.streams},
        "documents": {s.split: s.num_documents for s in meta.streams},
        "bytes_per_token": round(num_bytes / max(num_tokens, 1), 4),
    }  # fmt: skip
    context.log.info("tokens_written", tokens=num_tokens, text_bytes=num_bytes)
    metrics = {"tokens": float(num_tokens), "bytes_per_token": num_bytes / max(num_tokens, 1)}
    return outputs({"tokens": tokens}, summary=summary, metrics=metrics)


def _encode_tasks(context: Context, config: TokenizeConfig, meta: DatasetMeta, content: bytes) -> list[Task]:
    digest = context.store.put_bytes(content)
    return [
        {"do": "encode", "tokenizer": digest, "split": s.split, "path": s.path, "rows": s.num_rows}
        for s in _shards(meta, config)
    ]


def _shards(meta: DatasetMeta, config: TokenizeConfig) -> list[Shard]:
    return [shard for split in config.splits for shard in meta.of(split)]


def _meta(dataset: Artifact) -> DatasetMeta:
    try:
        return DatasetMeta.model_validate(dataset.meta)
    except ValidationError as error:
        raise errors.InvalidData(
            f"Artifact {dataset.ref.digest[:12]} is not a data set.", remedy="Give the output of a clean stage."
        ) from error
