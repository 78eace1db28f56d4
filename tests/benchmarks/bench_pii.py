"""Personal data: how much of a labelled set is found, how much of what is found was meant, and how fast.

python -m benchmarks.bench_pii [--per-kind 1000] [--mb 20] [--errors]

Two sets are generated (`benchmarks/pii`) from seeds that no test uses: one whose templates the rules were made with, and one
that was written without a look at them (`unseen`), whose first result, before anything was mended, stands beside
(`first_sight`). A datum counts as found if exactly its characters are, as its kind. Speed is megabytes of text per second of
one core, compiled code warm: of the labelled set, which has a datum or a look-alike every second sentence; of text that lies on
this machine; and of text without candidates.
"""

from __future__ import annotations

import argparse
import json
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from benchmarks.harness import Row, row, write_results
from benchmarks.pii.corpus import KINDS, Labelled, corpus, plain_text
from benchmarks.pii.unseen import unseen
from millrace_cleaning.steps.findings import Scratch
from millrace_cleaning.steps.pii import settings
from millrace_cleaning.steps.pii.find import Finder
from millrace_cleaning.steps.pii.settings import PiiConfig
from millrace_cleaning.steps.pii.step import apply

SEED = 20_260_401
UNSEEN_SEED = 20_270_901
FIRST_SIGHT = Path(__file__).parent / "pii" / "unseen_first_sight.json"
CONFIG = PiiConfig.model_validate({"step": "pii", "column": "text"})
RUNS = 3
ROW_CHARS = 4000
MAX_CHARS = 200_000
"""No file is a larger part of the machine's text: tables of characters would be half of it."""

Found = tuple[int, int, int, str]
"""Number of the text, first character, one past the last, kind."""


def found_in(texts: Sequence[Labelled]) -> set[Found]:
    """What the detector says of the texts, in characters."""
    column = pa.array([t.text for t in texts])
    hits = Finder(CONFIG).find(column)
    starts = [0]
    raw = [t.text.encode() for t in texts]
    for text in raw:
        starts.append(starts[-1] + len(text))
    found = set()
    for number, begin, end, kind in zip(
        *(a.tolist() for a in (hits.rows, hits.begins, hits.ends, hits.kinds)), strict=True
    ):
        first, last = (len(raw[number][: at - starts[number]].decode()) for at in (begin, end))
        found.add((number, first, last, settings.KINDS[kind]))
    return found


def judge(texts: Sequence[Labelled], *, show: bool, label: str = "") -> list[Row]:
    """Recall and precision, by kind and of all; a label tells the set in the names of cases."""
    meant = {(number, *label) for number, text in enumerate(texts) for label in text.labels}
    found = found_in(texts)
    if show:
        for number, begin, end, kind in sorted(meant ^ found):
            side = "missed" if (number, begin, end, kind) in meant else "wrong"
            print(f"{side:<7} {kind:<17} {texts[number].text[max(0, begin - 24) : end + 8]!r}")
    right, all_meant, all_found = (Counter(kind for *_, kind in some) for some in (meant & found, meant, found))
    rows = []
    for kind in KINDS:
        rows.append(row(f"{label}recall of {kind}", "recall", "share", [right[kind] / all_meant[kind]]))
        rows.append(row(f"{label}precision of {kind}", "precision", "share", [right[kind] / max(1, all_found[kind])]))
    rows.append(row(f"{label}all kinds", "recall", "share", [right.total() / all_meant.total()]))
    rows.append(row(f"{label}all kinds", "precision", "share", [right.total() / all_found.total()]))
    rows.append(row(f"{label}all kinds", "num_labels", "data", [all_meant.total()]))
    return rows


def first_sight() -> list[Row]:
    """What the detector made of the unseen set before anybody looked at its errors; kept, not measured."""
    figures = json.loads(FIRST_SIGHT.read_text(encoding="utf-8"))["as_written"]
    return [
        row(f"unseen {kind}" if kind == "all kinds" else f"unseen {metric} of {kind}", metric, "share", [share],
            subject="first_sight")
        for kind, shares in figures.items()
        for metric, share in shares.items()
    ]  # fmt: skip


def speed(case: str, texts: Sequence[str]) -> Row:
    """Megabytes of text per CPU second of the whole step."""
    batch = pa.record_batch({"text": pa.array(texts)})
    size_mb = sum(len(t.encode()) for t in texts) / 1e6
    apply(batch.slice(0, 1), CONFIG, Scratch())
    rates = []
    for _ in range(RUNS):
        began = time.process_time()
        apply(batch, CONFIG, Scratch())
        rates.append(size_mb / (time.process_time() - began))
    return row(case, "mb_per_cpu_s", "MB/s", rates)


def texts_of_machine(num_bytes: int) -> list[str]:
    """Documentation and sources of the standard library and of installed packages, in pieces of ROW_CHARS.

    Tests are left out: those of ciphers are columns of numbers.
    """
    texts: list[str] = []
    total = 0
    paths = [p for end in ("*.rst", "*.md", "*.txt") for p in sorted(Path(sys.prefix, "lib").rglob(end))]
    paths += sorted(p for p in Path(sysconfig.get_paths()["stdlib"]).rglob("*.py") if "site-packages" not in p.parts)
    for path in paths:
        if total >= num_bytes:
            break
        if not {"test", "tests", "SelfTest", "idle_test"} & set(path.parts):
            text = path.read_text(encoding="utf-8", errors="replace")[:MAX_CHARS]
            texts += [text[i : i + ROW_CHARS] for i in range(0, len(text), ROW_CHARS)]
            total += len(text)
    return texts


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--per-kind", type=int, default=1000, help="data of each kind; look-alikes are as many")
    arguments.add_argument("--mb", type=float, default=20, help="how much text speed is measured on")
    arguments.add_argument("--errors", action="store_true", help="print what was missed and what was wrong")
    given = arguments.parse_args()
    texts = corpus(SEED, per_kind=given.per_kind, per_decoy=given.per_kind)
    rows = judge(texts, show=given.errors)
    rows += judge(
        unseen(UNSEEN_SEED, per_kind=given.per_kind, per_decoy=given.per_kind), show=given.errors, label="unseen "
    )
    rows += first_sight()
    labelled = [t.text for t in texts]
    repeats = max(1, round(given.mb * 1e6 / sum(map(len, labelled))))
    num_plain = round(given.mb * 1e6 / ROW_CHARS)
    rows.append(speed("labelled set", labelled * repeats))
    rows.append(speed("text of this machine", texts_of_machine(round(given.mb * 1e6))))
    rows.append(speed("text without candidates", [plain_text(SEED, num_chars=ROW_CHARS)] * num_plain))
    write_results("pii", rows, notes={"first_sight": json.loads(FIRST_SIGHT.read_text(encoding="utf-8"))})


if __name__ == "__main__":
    main()
