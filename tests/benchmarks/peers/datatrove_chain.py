"""datatrove on documents of a JSONL file, in its own environment: the chain's CPU time, and what each rule alone removes.

Arguments: the file, a folder for its own files, and `chain` or `rules`. One thread; the whole chain
has run once before the clock starts.
"""

from __future__ import annotations

import json
import resource
import sys
from functools import partial
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)  # fmt: skip
from datatrove.pipeline.formatters import FTFYFormatter
from datatrove.utils.hashing import HashConfig, create_hash_func
from loguru import logger

QUALITY = dict.fromkeys(
    ("min_doc_words", "max_doc_words", "min_avg_word_length", "max_avg_word_length", "max_symbol_word_ratio",
     "max_bullet_lines_ratio", "max_ellipsis_lines_ratio", "max_non_alpha_words_ratio", "min_stop_words")
)  # fmt: skip
REPETITION = {
    **dict.fromkeys(("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac")),
    "top_n_grams": (), "dup_n_grams": (),
}  # fmt: skip
C4 = {"filter_lorem_ipsum": False, "filter_curly_bracket": False, "min_num_sentences": -1}
FINEWEB = {"line_punct_thr": 0, "short_line_thr": 2, "char_duplicates_ratio": 2, "new_line_ratio": 1e9}
WARM_UP = 100
"""Documents that are cleaned before the clock starts."""
TOPS = {2: 0.2, 3: 0.18, 4: 0.16}
REPEATS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

quality = lambda **on: partial(GopherQualityFilter, **QUALITY | on)  # noqa: E731
repetition = lambda **on: partial(GopherRepetitionFilter, **REPETITION | on)  # noqa: E731
RULES = {
    "gopher_quality.min_words": quality(min_doc_words=50),
    "gopher_quality.min_mean_word_length": quality(min_avg_word_length=3),
    "gopher_quality.max_mean_word_length": quality(max_avg_word_length=10),
    "gopher_quality.max_hash_ratio": quality(max_symbol_word_ratio=0.1),
    "gopher_quality.max_ellipsis_ratio": quality(max_symbol_word_ratio=0.1),
    "gopher_quality.max_bullet_lines": quality(max_bullet_lines_ratio=0.9),
    "gopher_quality.max_ellipsis_lines": quality(max_ellipsis_lines_ratio=0.3),
    "gopher_quality.min_alphabetic_words": quality(max_non_alpha_words_ratio=0.8),
    "gopher_quality.min_stop_words": quality(min_stop_words=2),
    "gopher_repetition.max_duplicate_lines": repetition(dup_line_frac=0.3),
    "gopher_repetition.max_duplicate_line_chars": repetition(dup_line_char_frac=0.2),
    "gopher_repetition.max_duplicate_paragraphs": repetition(dup_para_frac=0.3),
    "gopher_repetition.max_duplicate_paragraph_chars": repetition(dup_para_char_frac=0.2),
    **{f"gopher_repetition.max_top_ngram_chars.{n}": repetition(top_n_grams=((n, v),)) for n, v in TOPS.items()},
    **{
        f"gopher_repetition.max_duplicate_ngram_chars.{n}": repetition(dup_n_grams=((n, v),))
        for n, v in REPEATS.items()
    },
    "c4_quality.min_sentences": partial(C4QualityFilter, **C4 | {"min_num_sentences": 5}),
    "c4_quality.lorem_ipsum": partial(C4QualityFilter, **C4 | {"filter_lorem_ipsum": True}),
    "c4_quality.curly_bracket": partial(C4QualityFilter, **C4 | {"filter_curly_bracket": True}),
    "fineweb_quality.min_punctuated_lines": partial(FineWebQualityFilter, **FINEWEB | {"line_punct_thr": 0.12}),
    "fineweb_quality.max_short_lines": partial(FineWebQualityFilter, **FINEWEB | {"short_line_thr": 0.67}),
    "fineweb_quality.max_duplicate_line_chars": partial(
        FineWebQualityFilter, **FINEWEB | {"char_duplicates_ratio": 0.01}
    ),
    "fineweb_quality.max_newline_ratio": partial(FineWebQualityFilter, **FINEWEB | {"new_line_ratio": 0.3}),
}
"""Each rule alone, by Millrace's name for it."""

REASONS = {
    "gopher_quality.max_hash_ratio": "gopher_too_many_hashes",
    "gopher_quality.max_ellipsis_ratio": "gopher_too_many_ellipsis",
}
"""Where datatrove has one threshold for two rules: why a document must have gone."""


def documents(file: str) -> list[Document]:
    with open(file, encoding="utf-8") as lines:
        return [Document(text=row["text"], id=row["id"]) for row in map(json.loads, lines)]


def removed_by_rule(file: str) -> dict[str, list[str]]:
    """Documents in the outer loop: datatrove remembers the words of the last five texts."""
    filters = {name: make() for name, make in RULES.items()}
    removed: dict[str, list[str]] = {name: [] for name in filters}
    for document in documents(file):
        for name, judge in filters.items():
            result = judge.filter(Document(text=document.text, id=document.id))
            kept, reason = result if isinstance(result, tuple) else (result, "")
            if not kept and REASONS.get(name, reason) == reason:
                removed[name].append(document.id)
    return removed


def run_chain(file: str, folder: Path) -> dict[str, object]:
    given = documents(file)
    _clean(documents(file)[:WARM_UP], folder / "warm-up")  # documents are changed in place
    begin = _cpu_s()
    kept = _clean(given, folder / "timed")
    return {"cpu_s": _cpu_s() - begin, "kept": kept}


def _clean(given: list[Document], folder: Path) -> int:
    steps = [
        FTFYFormatter(unescape_html=False, remove_terminal_escapes=False, normalization="NFC"),
        GopherQualityFilter(), GopherRepetitionFilter(), C4QualityFilter(), FineWebQualityFilter(),
    ]  # fmt: skip
    config = MinhashConfig(hash_config=HashConfig(precision=64))
    hashed = create_hash_func(config.hash_config)
    signatures = MinhashDedupSignature(str(folder / "signatures"), config=config)
    data = iter(given)
    for step in steps:
        data = step.run(data)
    seen: set[int] = set()
    kept = []
    for document in data:
        key = hashed(document.text)
        if key not in seen:
            seen.add(key)
            kept.append(document)
    signatures.run(iter(kept))
    for bucket in range(config.num_buckets):
        MinhashDedupBuckets(str(folder / "signatures"), str(folder / "pairs"), config=config).run(
            rank=bucket, world_size=config.num_buckets
        )
    MinhashDedupCluster(str(folder / "pairs"), str(folder / "clusters"), config=config).run()
    return len(list(MinhashDedupFilter(str(folder / "clusters")).run(iter(kept))))


def _cpu_s() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    logger.remove()
    file, folder, what = sys.argv[1:]
    print(json.dumps(run_chain(file, Path(folder)) if what == "chain" else removed_by_rule(file)))


if __name__ == "__main__":
    main()
