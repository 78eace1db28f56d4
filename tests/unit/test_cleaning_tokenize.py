"""Texts become token streams that decode to the very texts, whoever packs which shard."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.events import StageOutputs
from millrace.contracts.schema import Column, DatasetMeta, DatasetSchema
from millrace.contracts.tokens import HEADER, TOKENIZER, TokensMeta
from millrace.models.token_streams import read_tokens
from millrace.runtime.stage import NextPlan, local_context
from millrace.store import Store
from millrace.store.artifacts import read_manifest, write_manifest
from millrace.store.local import LocalStore
from millrace_cleaning.tokenize import stage, texts
from millrace_cleaning.tokenize.bpe import load_tokenizer, train_tokenizer
from millrace_cleaning.tokenize.settings import TokenizeConfig

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "ünïcödé", "漢字", "🦊", "\t", "x=1;\n"]
TEXTS = [" ".join(WORDS[i % 7 :] + WORDS[: i % 5]) + f" <|endoftext|> {i}" for i in range(60)]
SMALL: dict[str, Any] = {"vocabulary_size": 400}


def dataset(store: Store, splits: Mapping[str, Sequence[Sequence[str | None]]]) -> ArtifactRef:
    """A data set with one column of text: for each split its shards."""
    schema = DatasetSchema(columns=(Column(name="text", type="text"),))
    files: dict[str, Path | bytes] = {"schema.json": schema.to_json().encode()}
    shards = []
    for split, parts in splits.items():
        for number, rows in enumerate(parts):
            path = f"data/{split}-{number:05d}.parquet"
            sink = io.BytesIO()
            pq.write_table(pa.table({"row_id": [f"x-{i}" for i in range(len(rows))], "text": pa.array(rows)}), sink)
            files[path] = sink.getvalue()
            shards.append({"path": path, "split": split, "num_rows": len(rows)})
    counts = {split: sum(map(len, parts)) for split, parts in splits.items()}
    meta = DatasetMeta.model_validate({"schema": schema, "shards": shards, "num_rows": counts})
    return write_manifest(store, "dataset", files, meta=meta.model_dump(mode="json", by_alias=True))


def tokenize(
    root: Path, data: ArtifactRef, *, tokenizer: ArtifactRef | None = None, num_threads: int = 1, **config: Any
) -> Made:
    store = LocalStore(root / "store", tenant="default")
    settings = TokenizeConfig.model_validate(config)
    with local_context(store, root) as made:
        context = replace(made, num_threads=num_threads)
        inputs = {"dataset": context.open_artifact(data)}
        if tokenizer:
            inputs["tokenizer"] = context.open_artifact(tokenizer)
        tasks = stage.plan(context, settings, inputs)
        while True:
            results = []
            for task in tasks:
                results.append(stage.work(context, settings, inputs, json.loads(json.dumps(task))))
                assert len(json.dumps(results[-1])) <= 4096
            merged = stage.merge(context, settings, inputs, results)
            if not isinstance(merged, NextPlan):
                return Made(store, root, merged)
            tasks = merged.tasks


class Made:
    """A tokens artifact, its files in a directory."""

    def __init__(self, store: Store, root: Path, outputs: StageOutputs) -> None:
        self.ref, self.outputs = outputs.artifacts["tokens"], outputs
        self.manifest = read_manifest(store, self.ref.digest)
        self.directory = root / f"tokens-{self.ref.digest[:8]}"
        self.directory.mkdir(exist_ok=True)
        for entry in self.manifest.files:
            store.fetch(entry.digest, self.directory / entry.path)
        self.meta = TokensMeta.model_validate_json((self.directory / HEADER).read_bytes())
        self.tokenizer = Tokenizer.from_file(str(self.directory / TOKENIZER))

    def texts(self, split: Any) -> list[str]:
        stream = read_tokens(self.directory, split, tokenizer=self.meta.tokenizer)
        return [
            self.tokenizer.decode(stream.document(i).tolist(), skip_special_tokens=False) for i in range(len(stream))
        ]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store", tenant="default")


def test_what_is_decoded_is_the_very_text(store: Store, tmp_path: Path) -> None:
    made = tokenize(
        tmp_path, dataset(store, {"train": [TEXTS[:40]], "test": [TEXTS[40:], ["", "only bytes: \x00é"]]}), **SMALL
    )
    assert made.texts("train") == TEXTS[:40]
    assert made.texts("test") == [*TEXTS[40:], "", "only bytes: \x00é"]


def test_header_index_and_stream_agree(store: Store, tmp_path: Path) -> None:
    made = tokenize(tmp_path, dataset(store, {"train": [TEXTS[:40], [None, *TEXTS[40:]]]}), **SMALL)
    stream = read_tokens(made.directory, "train")
    assert made.meta.of("train") == made.meta.streams[0]
    assert isinstance(stream.ids, np.memmap)
    assert stream.ids.dtype == np.dtype("<u2")
    assert stream.byte_counts.tolist() == [len(text.encode()) for text in TEXTS]
    assert (stream.ids[stream.offsets[:-1]] == made.meta.end_of_text_id).all()
    assert stream.offsets[-1] == made.meta.streams[0].num_tokens == len(stream.ids)
    assert made.meta.streams[0].num_bytes == stream.byte_counts.sum()
    assert made.meta.streams[0].num_characters == sum(map(len, TEXTS))
    assert made.manifest.meta == made.meta.model_dump(mode="json")


def test_no_text_can_write_a_special_token(store: Store, tmp_path: Path) -> None:
    made = tokenize(tmp_path, dataset(store, {"train": [TEXTS]}), **SMALL)
    stream = read_tokens(made.directory, "train")
    assert np.count_nonzero(stream.ids == made.meta.end_of_text_id) == len(TEXTS)


def test_streams_do_not_depend_on_how_rows_lie_in_shards(store: Store, tmp_path: Path) -> None:
    one, many = (
        tokenize(tmp_path, dataset(store, {"train": shards}), **SMALL)
        for shards in ([TEXTS], [TEXTS[:7], TEXTS[7:8], TEXTS[8:]])
    )
    for path in ("train.bin", "train.idx", TOKENIZER):
        assert (one.directory / path).read_bytes() == (many.directory / path).read_bytes()


def test_a_tokenizer_learns_from_the_train_split_alone(store: Store, tmp_path: Path) -> None:
    test_only = ["zyzzyva zyzzyva zyzzyva"] * 50
    made = tokenize(tmp_path, dataset(store, {"train": [TEXTS], "test": [test_only]}), **SMALL)
    alone = tokenize(tmp_path, dataset(store, {"train": [TEXTS]}), **SMALL)
    assert made.meta.tokenizer == alone.meta.tokenizer
    assert made.texts("test") == test_only


def test_a_tokenizer_that_was_made_before_is_taken_as_it_is(store: Store, tmp_path: Path) -> None:
    first = tokenize(tmp_path, dataset(store, {"train": [TEXTS]}), **SMALL)
    second = tokenize(tmp_path, dataset(store, {"test": [["other words", *TEXTS[:3]]]}), tokenizer=first.ref)
    assert second.meta.tokenizer == first.meta.tokenizer
    assert second.texts("test")[0] == "other words"


def test_another_tokenizers_stream_is_refused(store: Store, tmp_path: Path) -> None:
    made = tokenize(tmp_path, dataset(store, {"train": [TEXTS]}), **SMALL)
    with pytest.raises(errors.InvalidData, match="their ids mean other texts"):
        read_tokens(made.directory, "train", tokenizer="0" * 64)
    with pytest.raises(errors.NotFound, match="no validation split; they have train"):
        read_tokens(made.directory, "validation")


def test_a_stream_that_was_cut_short_is_refused(store: Store, tmp_path: Path) -> None:
    made = tokenize(tmp_path, dataset(store, {"train": [TEXTS]}), **SMALL)
    path = made.directory / "train.bin"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(errors.InvalidData, match=r"train.bin is missing"):
        read_tokens(made.directory, "train")
    path.write_bytes(content[:-1])
    with pytest.raises(errors.InvalidData, match="its header says"):
        read_tokens(made.directory, "train")


def test_a_file_that_is_no_tokenizer_is_refused(store: Store, tmp_path: Path) -> None:
    data = dataset(store, {"train": [TEXTS]})
    broken = write_manifest(store, "source", {TOKENIZER: b'{"version": "1.0"}'}, meta={})
    with pytest.raises(errors.InvalidData, match=r"tokenizer\.json cannot be read"):
        tokenize(tmp_path, data, tokenizer=broken)
    with pytest.raises(errors.InvalidData, match=r"has no file tokenizer\.json"):
        tokenize(tmp_path, data, tokenizer=data)


def test_an_end_of_text_that_a_tokenizer_lacks_is_refused(store: Store, tmp_path: Path) -> None:
    first = tokenize(tmp_path, dataset(store, {"train": [TEXTS]}), **SMALL)
    with pytest.raises(errors.InvalidSpec, match=r"no token '</s>'.*endoftext"):
        tokenize(tmp_path, dataset(store, {"train": [TEXTS]}), tokenizer=first.ref, end_of_text="</s>")


def test_a_data_set_without_that_text_is_refused(store: Store, tmp_path: Path) -> None:
    data = dataset(store, {"train": [TEXTS]})
    with pytest.raises(errors.InvalidSpec, match="'txt' is not there"):
        tokenize(tmp_path, data, column="txt")
    with pytest.raises(errors.InvalidData, match="no rows in these splits"):
        tokenize(tmp_path, data, splits=["test"])


def test_a_sample_is_drawn_by_the_seed(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    pq.write_table(pa.table({"text": ["x" * 100] * 1000}), path)
    drawn = list(texts.sampled_texts([path], "text", max_bytes=20_000, seed=3))
    assert 150 <= len(drawn) <= 250
    assert len(list(texts.sampled_texts([path], "text", max_bytes=20_000, seed=3))) == len(drawn)
    assert len(list(texts.sampled_texts([path], "text", max_bytes=100_000, seed=3))) == 1000


def test_threads_are_asked_for_within_a_task_alone(store: Store, tmp_path: Path) -> None:
    before = dict(os.environ)
    one = tokenize(tmp_path, dataset(store, {"train": [TEXTS]}), num_threads=1, **SMALL)
    two = tokenize(tmp_path, dataset(store, {"train": [TEXTS]}), num_threads=2, **SMALL)
    assert os.environ == before
    assert one.ref == two.ref


def test_training_twice_gives_the_same_bytes() -> None:
    config = TokenizeConfig(vocabulary_size=600, special_tokens=("<|user|>",))
    assert train_tokenizer(TEXTS, config) == train_tokenizer(iter(TEXTS), config)


def test_a_long_text_is_packed_in_pieces(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(store, {"train": [[" ".join(TEXTS), "x" * 500]]})
    whole = tokenize(tmp_path, data, **SMALL)
    monkeypatch.setattr(texts, "MAX_PIECE", 100)
    made = tokenize(tmp_path, data, tokenizer=whole.ref)
    assert made.texts("train") == [" ".join(TEXTS), "x" * 500]
    assert made.meta.streams[0].num_documents == 2


@given(text=st.text(max_size=60))
def test_any_text_can_be_said(text: str) -> None:
    tokenizer = load_tokenizer(TRAINED)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


TRAINED = train_tokenizer(TEXTS, TokenizeConfig(vocabulary_size=400))


def test_a_vocabulary_without_room_is_refused() -> None:
    config = TokenizeConfig(vocabulary_size=257, special_tokens=("<|user|>",))
    with pytest.raises(errors.InvalidSpec, match="no room for 256 bytes and 2 special tokens"):
        train_tokenizer(TEXTS, config)
