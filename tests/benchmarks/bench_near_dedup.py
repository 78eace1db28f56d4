"""Near-duplicates over a million documents, from Parquet to Parquet: time, memory, what is found and what is not.

Two processes work on parts, and a third merges, as a clean stage with two slots does; the library's functions are called
directly, with files in between, so that nothing else is measured. The corpus is generated before the clock starts, and what was
found is checked after it has stopped. Rows that are dropped are left out of what is written at the end. With `--stage`, a
factory's clean stage does the same to the same corpus, which copies it into the store, infers and converts columns, drops
exact duplicates, splits and profiles besides.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.factories import embedded
from benchmarks.harness import Row, cpu_seconds, memory_bytes, row, write_results
from benchmarks.near_corpus import Corpus, write_part
from millrace import Pipeline
from millrace_cleaning.near.clusters import Clusters, clusters
from millrace_cleaning.near.lsh import candidate_rows, candidates
from millrace_cleaning.near.minhash import signatures
from millrace_cleaning.near.settings import NearDedupConfig
from millrace_cleaning.near.verify import similarities, write_sets

CONFIG = NearDedupConfig()
WORKERS = 2
ROWS_PER_BATCH = 2048
SAMPLED_PARTS, SAMPLED_ROWS = 2, 5_000  # of each: ten thousand documents, with originals and their copies
BINS = ((0.8, 0.85), (0.85, 0.9), (0.9, 1.0))
COMMON = 100
"""A shingle of so many documents of the sample is boilerplate, which is less than a fifth of a document: a pair that shares
nothing else is below any threshold here."""

Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Found:
    pairs: Pairs
    similarities: npt.NDArray[np.float64]
    clusters: Clusters

    def together(self, pairs: Pairs) -> npt.NDArray[np.bool_]:
        same: npt.NDArray[np.bool_] = self.clusters.first[pairs[:, 0]] == self.clusters.first[pairs[:, 1]]
        return same

    def reported(self) -> Pairs:
        similar: Pairs = self.pairs[self.similarities > 0]
        return similar


@dataclass(slots=True)
class Cost:
    """What a piece of work took: of this process and all that it started."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    rounds: dict[str, float] = field(default_factory=dict)


def sign(corpus: Corpus, part: int) -> None:
    with pq.ParquetWriter(corpus.file("bands", part), _bands_schema(), compression="none", use_dictionary=False) as out:
        for batch in _batches(corpus, part):
            out.write_batch(signatures(batch.column(0), config=CONFIG))


def gather(corpus: Corpus, part: int, rows: npt.NDArray[np.int64]) -> None:
    wanted = np.zeros(int(corpus.bounds[part + 1] - corpus.bounds[part]), dtype=np.bool_)
    wanted[rows] = True
    write_sets(corpus.file("sets", part), (b.column(0) for b in _kept(corpus, part, wanted)), config=CONFIG)


def write(corpus: Corpus, part: int, keep: npt.NDArray[np.bool_]) -> None:
    schema = pa.schema({"text": pa.string()})
    with pq.ParquetWriter(corpus.file("kept", part), schema, compression="lz4") as out:
        for batch in _kept(corpus, part, keep):
            out.write_batch(batch)


def dedup(corpus: Corpus, pool: ProcessPoolExecutor, cost: Cost) -> Found:
    """All rounds, over all parts."""
    parts = range(corpus.num_parts)
    bounds = corpus.bounds

    def each(work: Callable[..., None], *arguments: list[Any]) -> None:
        list(pool.map(work, [corpus] * len(parts), parts, *arguments))

    with _timed(cost, "signatures"):
        each(sign)
    with _timed(cost, "candidates"):
        pairs = candidates([corpus.file("bands", part) for part in parts], config=CONFIG)
        rows = candidate_rows(pairs)
    with _timed(cost, "shingles"):
        each(gather, [rows[(rows >= bounds[p]) & (rows < bounds[p + 1])] - bounds[p] for p in parts])
    with _timed(cost, "verify"):
        found = similarities(pairs, [corpus.file("sets", part) for part in parts], rows=rows, config=CONFIG)
        joined = clusters(pairs, found, num_rows=corpus.documents)
    with _timed(cost, "write"):
        each(write, [joined.is_first[bounds[p] : bounds[p + 1]] for p in parts])
    return Found(pairs, found, joined)


def measure(documents: int, scratch: Path, *, stage: bool) -> list[Row]:
    corpus = Corpus(scratch, documents)
    context = multiprocessing.get_context("spawn")
    began = time.perf_counter()
    with ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        size_mb = 0.0
        for part, size in enumerate(pool.map(write_part, [corpus] * corpus.num_parts, range(corpus.num_parts))):
            size_mb += size / 1e6
            _say(f"corpus: part {part + 1} of {corpus.num_parts}")
    generated_s = time.perf_counter() - began
    with ProcessPoolExecutor(WORKERS, mp_context=context, initializer=_one_thread) as pool:
        cost = Cost()
        with _measured(cost, os.getpid()):
            found = dedup(corpus, pool, cost)
    case = f"near_dedup_{documents}_documents"
    dropped = int((~found.clusters.is_first).sum())
    return [
        *(_through_stage(corpus, size_mb, dropped=dropped) if stage else []),
        row(case, "corpus", "MB", [size_mb]),
        row(case, "wall_of_generation", "s", [generated_s]),
        row(case, "wall", "s", [cost.wall_s]),
        *(row(case, f"wall_{name}", "s", [seconds]) for name, seconds in cost.rounds.items()),
        row(case, "cpu", "s", [cost.cpu_s]),
        row(case, "mb_per_cpu_s", "MB/s", [size_mb / cost.cpu_s]),
        row(case, "peak_memory_pss", "MB", [cost.peak_bytes / 1e6]),
        row(case, "candidate_pairs", "pairs", [len(found.pairs)]),
        row(case, "dropped", "rows", [dropped]),
        *_against_planted(case, corpus, found),
        *_against_brute_force("brute_force_10000_documents", corpus, found),
    ]


def _through_stage(corpus: Corpus, size_mb: float, *, dropped: int) -> list[Row]:
    pipeline = Pipeline.from_dict(
        {
            "api": "millrace/v1",
            "name": "near_dedup",
            "params": {"data": {"type": "dataset", "default": str(corpus.root / "texts")}},
            "stages": {"clean": {"inputs": {"raw": "$params.data"}, "with": {"features": "text", "near_dedup": {}}}},
        }
    )
    cost = Cost()
    with embedded(MILLRACE_SLOTS=str(WORKERS)) as factory, _measured(cost, factory.pid):
        summary = factory.client.submit(pipeline).result().stages["clean"].summary
    found = summary["rows_in"] - summary["rows_out"]
    assert found == dropped, f"the stage dropped {found} rows, the functions {dropped}"
    case = f"near_dedup_stage_{corpus.documents}_documents"
    return [
        row(case, "wall", "s", [cost.wall_s]),
        row(case, "throughput", "MB/s", [size_mb / cost.wall_s]),
        row(case, "peak_memory_pss", "MB", [cost.peak_bytes / 1e6]),
    ]


def _against_planted(case: str, corpus: Corpus, found: Found) -> list[Row]:
    """Recall over all planted couples; and how many of all reported pairs are planted ones above the threshold."""
    planted = corpus.couples()
    couples = np.sort(np.stack([planted["original"], planted["copy"]], axis=1), axis=1)
    similarity = planted["similarity"]
    true = set(map(tuple, couples[similarity >= CONFIG.threshold].tolist()))
    reported = found.reported().tolist()
    precision = sum(tuple(pair) in true for pair in reported) / max(len(reported), 1)
    return [*_recall(case, found, couples, similarity), row(case, "precision", "%", [100 * precision])]


def _against_brute_force(case: str, corpus: Corpus, found: Found) -> list[Row]:
    """The same over every pair of a sample, whose similarities are counted in plain Python."""
    rows = np.concatenate(
        [np.arange(corpus.bounds[p], corpus.bounds[p + 1])[:SAMPLED_ROWS] for p in range(SAMPLED_PARTS)]
    )
    texts: list[str] = []
    for part in range(SAMPLED_PARTS):
        texts += pq.read_table(corpus.file("texts", part)).column(0).to_pylist()[:SAMPLED_ROWS]
    _say(f"brute force: {len(texts)} documents")
    similar = {(int(rows[a]), int(rows[b])): s for (a, b), s in brute_force(texts).items()}
    pairs = np.array(list(similar), dtype=np.int64).reshape(-1, 2)
    similarity = np.array(list(similar.values()))
    inside = set(rows.tolist())
    sampled = [(a, b) for a, b in found.reported().tolist() if a in inside and b in inside]
    precision = sum(similar.get(pair, 0.0) >= CONFIG.threshold for pair in sampled) / max(len(sampled), 1)
    return [*_recall(case, found, pairs, similarity), row(case, "precision", "%", [100 * precision])]


def _say(what: str) -> None:
    """What is done, beside the time of day: the whole takes minutes."""
    print(f"{datetime.now(UTC):%H:%M:%S} {what}", flush=True)


def brute_force(texts: list[str]) -> dict[tuple[int, int], float]:
    """The similarity of every pair of texts that share a shingle which is no boilerplate, in plain Python."""
    sets: list[set[int]] = []
    holders: dict[int, list[int]] = {}
    for number, text in enumerate(texts):
        words = text.lower().split()
        sets.append({hash(tuple(words[i : i + 5])) for i in range(len(words) - 4)})
        for shingle in sets[-1]:
            holders.setdefault(shingle, []).append(number)
    alike = {pair for having in holders.values() if 1 < len(having) < COMMON for pair in combinations(having, 2)}
    return {(a, b): len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in alike}


def _recall(case: str, found: Found, pairs: Pairs, similarity: npt.NDArray[np.float64]) -> list[Row]:
    rows = []
    together = found.together(pairs)
    for low, high in BINS:
        members = (similarity >= low) & (similarity < high if high < 1 else similarity <= high)
        rows.append(row(case, f"recall_{low:g}_to_{high:g}", "%", [100 * float(together[members].mean())]))
        rows.append(row(case, f"pairs_{low:g}_to_{high:g}", "pairs", [int(members.sum())]))
    return rows


def _batches(corpus: Corpus, part: int) -> Iterator[pa.RecordBatch]:
    file = pq.ParquetFile(corpus.file("texts", part))
    return file.iter_batches(batch_size=ROWS_PER_BATCH, columns=["text"], use_threads=False)  # type: ignore[no-any-return]


def _kept(corpus: Corpus, part: int, keep: npt.NDArray[np.bool_]) -> Iterator[pa.RecordBatch]:
    begin = 0
    for batch in _batches(corpus, part):
        yield batch.filter(pa.array(keep[begin : begin + batch.num_rows]))
        begin += batch.num_rows


def _bands_schema() -> pa.Schema:
    return signatures(pa.array([], pa.string()), config=CONFIG).schema


def _one_thread() -> None:
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)


@contextmanager
def _timed(cost: Cost, name: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    cost.rounds[name] = time.perf_counter() - begin
    _say(f"{name}: {cost.rounds[name]:.1f} s")


@contextmanager
def _measured(cost: Cost, pid: int) -> Iterator[None]:
    """Take the time, the CPU time and the peak of the proportional set size of a process and of all that it started.

    The memory is looked at five times a second.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            cost.peak_bytes = max(cost.peak_bytes, memory_bytes(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    cpu, begin = cpu_seconds([pid]), time.perf_counter()
    try:
        yield
    finally:
        cost.wall_s = time.perf_counter() - begin
        cost.cpu_s = cpu_seconds([pid]) - cpu
        done.set()
        watcher.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--stage", action="store_true", help="measure a factory's clean stage too")
    parser.add_argument(
        "--scratch", type=Path, default=None, help="where the corpus is written; about 10 kB a document"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as directory:
        write_results("near_dedup", measure(arguments.documents, Path(directory), stage=arguments.stage))
