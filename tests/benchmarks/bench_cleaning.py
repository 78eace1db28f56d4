"""Cleaning text: MB per CPU second of Millrace's steps and of datatrove's, one thread each, on one corpus in one run.

Case `text_chain` is repair, Gopher's quality and repetition rules, C4's, FineWeb's, exact and near duplicates, which both
have. Language identification and personal data have rows of their own, and `whole_chain` has them too. `agreement` is, by
rule, the Jaccard similarity of what both remove from documents of which the rule alone removes a part.

They differ by design: Millrace judges every row by every rule and accounts for each that fails, datatrove stops at a document's
first; Millrace verifies candidates for near-duplicates, datatrove takes them for such. Texts are in memory on either side before
and after; what near dedup keeps in files is written and read on both. Both have run once before (`warm_up_cpu` is what that
took here), so that compiling, loading and importing are in neither; children count on both. datatrove's rules go cheapest
first, and its hash is xxhash, both as it is fastest.

Where the two remove different documents, `notes.disagreements` of the results has both measured values and the words that
were cut differently (`disagreements.py`).
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.disagreements import Disagreement, as_notes, config_of, explain, print_all
from benchmarks.harness import Row, row, write_results
from benchmarks.peers.environment import environment, run_peer
from benchmarks.text_corpus import NOISE, documents, noise
from millrace.datasets.keys import row_keys
from millrace_cleaning.dedup import first_of_each
from millrace_cleaning.near.clusters import clusters
from millrace_cleaning.near.lsh import candidate_rows, candidates
from millrace_cleaning.near.minhash import signatures
from millrace_cleaning.near.settings import NearDedupConfig
from millrace_cleaning.near.verify import similarities, write_sets
from millrace_cleaning.steps.findings import Scratch
from millrace_cleaning.steps.kinds import KINDS
from millrace_cleaning.steps.recipe import Step, load, run

DATATROVE = (
    "datatrove==0.10.1", "ftfy==6.3.1", "nltk==3.10.4", "regex==2026.11.15", "spacy==3.8.18", "tokenizers==0.23.3",
    "xxhash==3.8.2",
)  # fmt: skip
PEER = Path(__file__).parent / "peers" / "datatrove_chain.py"
RULES = ("gopher_quality", "gopher_repetition", "c4_quality", "fineweb_quality")
SHARED = ("repair_text", *RULES)
WHOLE = ("repair_text", "language", *RULES, "pii")
ROWS_PER_BATCH = 512
NOISE_PER_RULE = 50


@dataclass(frozen=True, slots=True)
class Kept:
    rows: int
    mb_per_cpu_s: float


def recipe(names: Sequence[str]) -> list[Step]:
    return load([KINDS[name](step=name, column="text") for name in names])  # type: ignore[call-arg]


def clean(texts: pa.Array, steps: Sequence[Step], *, dedup: bool, folder: Path) -> Kept:
    """Run a recipe over batches, and drop duplicates of what stays; the corpus is in memory before and after."""
    begin = _cpu_s()
    batches = pa.table({"text": texts}).to_batches(max_chunksize=ROWS_PER_BATCH)
    ran = [run(batch, steps, keep=np.ones(batch.num_rows, dtype=np.bool_), scratch=Scratch()) for batch in batches]
    stays = pa.Table.from_batches([one.batch.select(["text"]) for one in ran])
    if dedup:
        stays = _without_duplicates(stays, folder)
    return Kept(stays.num_rows, texts.nbytes / 1e6 / (_cpu_s() - begin))


def _without_duplicates(table: pa.Table, folder: Path) -> pa.Table:
    batches = table.to_batches(max_chunksize=ROWS_PER_BATCH)
    if not batches:
        return table
    keys = [row_keys(batch, ["text"]) for batch in batches]
    first, _ = first_of_each(np.concatenate([k[0] for k in keys]), np.concatenate([k[1] for k in keys]))
    table = table.filter(pa.array(first))
    texts, config = table.column("text").combine_chunks(), NearDedupConfig()
    bands, sets = folder / "bands.parquet", folder / "sets"
    pq.write_table(pa.Table.from_batches([signatures(texts, config=config)]), bands, compression="none")
    pairs = candidates([bands], config=config)
    rows = candidate_rows(pairs)
    write_sets(sets, [texts.take(pa.array(rows))], config=config)
    alike = similarities(pairs, [sets], rows=rows, config=config)
    return table.filter(pa.array(clusters(pairs, alike, num_rows=table.num_rows).is_first))


def removed_by_rule(texts: pa.Array) -> dict[str, set[str]]:
    """What each rule removes by itself: every step sees the texts as they came."""
    removed: dict[str, set[str]] = {rule: set() for rule in NOISE}
    batch = pa.record_batch({"text": texts})
    for asked in NOISE:
        (step,) = load([config_of(asked)])
        table = step.apply(batch, step.config, Scratch()).findings.table()
        for found in table.select(["row", "action", "rule"]).to_pylist():
            if found["action"] == "removed" and f"{step.label}.{found['rule']}" == asked:
                removed[asked].add(str(found["row"]))
    return removed


def agreement(base: Sequence[str], folder: Path) -> tuple[list[Row], list[Disagreement]]:
    """Rows of similarity and of what each rule removes of its own noise; and where the two differ, explained."""
    texts = list(base)
    own: dict[str, range] = {}
    for rule in NOISE:
        made = noise(rule, list(base), NOISE_PER_RULE)
        own[rule] = range(len(texts), len(texts) + len(made))
        texts += made
    file = _write(texts, folder / "noise.jsonl")
    ours = removed_by_rule(pa.array(texts))
    python = environment(DATATROVE)
    answer = run_peer(python, PEER, str(file), str(folder), "rules", env={"OMP_NUM_THREADS": "1"})
    theirs = {rule: set(ids) for rule, ids in answer.items()}
    rows = []
    for rule in NOISE:
        one, other = ours[rule], theirs[rule]
        share = len(one & {str(i) for i in own[rule]}) / len(own[rule])
        similarity = len(one & other) / max(len(one | other), 1)
        rows.append(row(rule, "agreement", "Jaccard", [similarity]))
        rows.append(row(rule, "removed_of_noise", "share", [share]))
        rows.append(row(rule, "removed_by_either", "documents", [len(one | other)]))
        rows.append(row(rule, "disagreements", "documents", [len(one ^ other)]))
    found = explain({rule: ours[rule] for rule in NOISE}, theirs, texts, python=python, folder=folder)
    explained = sum(one.is_measured for one in found)
    rows.append(row("all_rules", "disagreements_looked_at", "documents", [len(found)]))
    rows.append(row("all_rules", "decided_by_values", "documents", [explained]))
    return rows, found


def _write(texts: Sequence[str], file: Path) -> Path:
    with file.open("w", encoding="utf-8") as out:
        for i, text in enumerate(texts):
            out.write(json.dumps({"id": str(i), "text": text}) + "\n")
    return file


def speed(texts: Sequence[str], num_shared: int, folder: Path, repeat: int) -> list[Row]:
    """Interleaved: both on the shared slice, then Millrace alone on all."""
    shared, everything = pa.array(texts[:num_shared]), pa.array(texts)
    file = _write(texts[:num_shared], folder / "shared.jsonl")
    begin = _cpu_s()
    cases: Mapping[str, Callable[[], Kept]] = {
        "text_chain": lambda: clean(shared, recipe(SHARED), dedup=True, folder=folder),
        "text_chain_large": lambda: clean(everything, recipe(SHARED), dedup=True, folder=folder),
        "language": lambda: clean(shared, recipe(["language"]), dedup=False, folder=folder),
        "pii": lambda: clean(shared, recipe(["pii"]), dedup=False, folder=folder),
        "whole_chain": lambda: clean(shared, recipe(WHOLE), dedup=True, folder=folder),
    }
    for name, case in cases.items():  # compiles, and loads models
        if name != "text_chain_large":
            case()
    warm_up = _cpu_s() - begin
    taken: dict[tuple[str, str], list[float]] = {}
    kept = {}
    for i in range(repeat):
        print(f"speed: run {i + 1} of {repeat}", flush=True)
        for name, case in cases.items():
            kept[name] = case()
            taken.setdefault((name, "millrace"), []).append(kept[name].mb_per_cpu_s)
        with tempfile.TemporaryDirectory() as own:
            answer = run_peer(environment(DATATROVE), PEER, str(file), own, "chain", env={"OMP_NUM_THREADS": "1"})
        taken.setdefault(("text_chain", DATATROVE[0]), []).append(shared.nbytes / 1e6 / answer["cpu_s"])
    pairs = zip(taken["text_chain", "millrace"], taken["text_chain", DATATROVE[0]], strict=True)
    return [
        *(row(name, "mb_per_cpu_s", "MB/s", values, subject=subject) for (name, subject), values in taken.items()),
        row("text_chain", "ratio", "x", [one / other for one, other in pairs]),
        row("text_chain", "corpus", "MB", [shared.nbytes / 1e6]),
        row("text_chain_large", "corpus", "MB", [everything.nbytes / 1e6]),
        row("text_chain", "documents_kept", "rows", [kept["text_chain"].rows]),
        row("text_chain", "documents_kept", "rows", [answer["kept"]], subject=DATATROVE[0]),
        row("all_cases", "warm_up_cpu", "s", [warm_up]),
    ]


def _cpu_s() -> float:
    """Of this process and of its children that have ended, of which there are none but the peer's."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--mb", type=float, default=40, help="Of text for Millrace alone.")
    parser.add_argument("--shared-mb", type=float, default=3, help="Of it, what datatrove reads too.")
    parser.add_argument("--noise", type=int, default=300, help="Documents as they are, beside the noise.")
    options = parser.parse_args()
    base = documents(int(options.mb * 1e6))
    draw = [text for rule in NOISE for text in noise(rule, base, 4)]
    num_shared = int(np.searchsorted(np.cumsum([len(text.encode()) for text in base]), options.shared_mb * 1e6))
    texts = [*base[:num_shared], *draw, *base[num_shared:]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = speed(texts, num_shared + len(draw), folder, options.repeat)
        print("agreement: each rule of both alone, a minute or two", flush=True)
        agreed, found = agreement(base[: options.noise], folder)
    print_all(found)
    write_results("cleaning", [*rows, *agreed], notes={"disagreements": as_notes(found)})


if __name__ == "__main__":
    main()
