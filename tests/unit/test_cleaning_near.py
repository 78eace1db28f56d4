"""Near-duplicates over parts: what is found, what is not, and that neither order of work nor cutting changes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace_cleaning.near.clusters import Clusters, clusters
from millrace_cleaning.near.lsh import SMALL_BUCKET, Flags, Pairs, bucket_pairs, candidate_rows, candidates
from millrace_cleaning.near.minhash import signatures
from millrace_cleaning.near.settings import MAX_HASHES, MISSED_AT_THRESHOLD, NearDedupConfig
from millrace_cleaning.near.shingles import shingle_sets
from millrace_cleaning.near.verify import jaccard, read_sets, similarities, write_sets

CONFIG = NearDedupConfig()


@dataclass(frozen=True)
class Found:
    pairs: Pairs
    similarities: npt.NDArray[np.float64]
    clusters: Clusters


def find(
    root: Path, parts: Sequence[Sequence[str | None]], *, config: NearDedupConfig = CONFIG, alive: Flags | None = None
) -> Found:
    """Walk the rounds of a clean stage over parts."""
    root.mkdir(exist_ok=True)
    arrays = [pa.array(part, pa.string()) for part in parts]
    bands = [root / f"bands-{i}.parquet" for i in range(len(parts))]
    for file, array in zip(bands, arrays, strict=True):
        pq.write_table(pa.Table.from_batches([signatures(array, config=config)]), file)
    pairs = candidates(bands, config=config, alive=alive)
    rows = candidate_rows(pairs)
    sets = [root / f"sets-{i}.arrow" for i in range(len(parts))]
    begin = 0
    for file, array in zip(sets, arrays, strict=True):
        mine = rows[(rows >= begin) & (rows < begin + len(array))] - begin
        write_sets(file, [array.take(pa.array(mine))], config=config)
        begin += len(array)
    found = similarities(pairs, sets, rows=rows, config=config)
    return Found(pairs, found, clusters(pairs, found, num_rows=begin))


def document(random: np.random.Generator, num_words: int = 120) -> list[str]:
    return [f"w{i}" for i in random.integers(30_000, size=num_words)]


def edited(words: Sequence[str], places: Sequence[int]) -> str:
    return " ".join("edited" if i in places else word for i, word in enumerate(words))


def planted(num_pairs: int, *, seed: int = 0) -> list[str]:
    """Documents, then an edited copy of each: one to five words, far enough apart to change five shingles each."""
    random = np.random.default_rng(seed)
    originals = [document(random, num_words=200) for _ in range(num_pairs)]
    return [" ".join(words) for words in originals] + [
        edited(words, range(10, 10 + 20 * int(random.integers(1, 6)), 20)) for words in originals
    ]


def true_similarities(texts: Sequence[str], pairs: Pairs) -> npt.NDArray[np.float64]:
    sets = [set(words.tolist()) for words in shingle_sets(pa.array(texts), config=CONFIG)]
    return np.array([len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in pairs.tolist()])


def test_planted_pairs_are_found_and_none_below_the_threshold(tmp_path: Path) -> None:
    texts = planted(600)
    found = find(tmp_path, [texts])
    couples = np.stack([np.arange(600), np.arange(600, 1_200)], axis=1)
    similarity = true_similarities(texts, couples)
    together = found.clusters.first[couples[:, 0]] == found.clusters.first[couples[:, 1]]
    for low, high, recall in ((0.8, 0.85, 0.97), (0.85, 0.9, 0.99), (0.9, 1.0, 0.999)):
        members = (similarity >= low) & (similarity < high)
        assert members.sum() > 100
        assert together[members].mean() >= recall
    assert not together[similarity < 0.8].any()


def test_similarities_are_exact(tmp_path: Path) -> None:
    texts = planted(100)
    found = find(tmp_path, [texts])
    expected = true_similarities(texts, found.pairs)
    np.testing.assert_array_equal(found.similarities, np.where(expected >= 0.8, expected, 0))


@settings(deadline=None, max_examples=8)
@given(cuts=st.sets(st.integers(0, 60), max_size=4))
def test_how_a_source_is_cut_changes_nothing(tmp_path_factory: pytest.TempPathFactory, cuts: set[int]) -> None:
    texts = planted(30)
    bounds = [0, *sorted(cuts), len(texts)]
    parts = [texts[a:b] for a, b in pairwise(bounds)]
    whole, cut = (find(tmp_path_factory.mktemp("near"), how) for how in ([texts], parts))
    np.testing.assert_array_equal(whole.pairs, cut.pairs)
    np.testing.assert_array_equal(whole.similarities, cut.similarities)
    np.testing.assert_array_equal(whole.clusters.first, cut.clusters.first)


def test_the_same_rows_in_another_order_make_the_same_clusters(tmp_path: Path) -> None:
    texts = planted(100)
    order = np.random.default_rng(1).permutation(len(texts))
    straight = find(tmp_path / "a", [texts]).clusters.first
    shuffled = find(tmp_path / "b", [[texts[i] for i in order]]).clusters.first

    def groups(first: npt.NDArray[np.int64], names: npt.NDArray[np.int64]) -> set[frozenset[int]]:
        return {frozenset(names[first == number].tolist()) for number in np.unique(first)}

    assert groups(straight, np.arange(len(texts))) == groups(shuffled, order)


def test_case_and_punctuation_make_no_difference(tmp_path: Path) -> None:
    found = find(tmp_path, [["The quick, brown fox jumps over it."], ["the QUICK brown fox -- jumps over it"]])
    assert found.clusters.first.tolist() == [0, 0]
    assert found.clusters.similarity.tolist() == [1, 1]


def test_texts_without_words_are_no_duplicates_of_one_another(tmp_path: Path) -> None:
    found = find(tmp_path, [[None, "", " ... ", None, "!"], []])
    assert found.clusters.is_first.all()
    assert not len(found.pairs)


def test_short_texts_are_compared_whole(tmp_path: Path) -> None:
    found = find(tmp_path, [["yes", "Yes!", "no", "oh yes", "yes oh"]])
    assert found.clusters.first.tolist() == [0, 0, 2, 3, 4]


def test_rows_that_are_gone_are_nobodys_duplicates(tmp_path: Path) -> None:
    texts = ["one two three four five six"] * 3
    found = find(tmp_path, [texts], alive=np.array([False, True, True]))
    assert found.clusters.first.tolist() == [0, 1, 1]


def test_a_cluster_reaches_over_rows_between(tmp_path: Path) -> None:
    words = document(np.random.default_rng(2), num_words=200)
    texts = [edited(words, []), edited(words, [10, 30, 50]), edited(words, [10, 30, 50, 70, 90, 110])]
    found = find(tmp_path, [texts])
    assert true_similarities(texts, np.array([[0, 2]]))[0] < 0.8
    assert found.clusters.first.tolist() == [0, 0, 0]


def test_one_bucket_of_all_rows_takes_linear_time(tmp_path: Path) -> None:
    """Fifty thousand rows have 1.25 thousand million pairs; a few of each row are enough."""
    found = find(tmp_path, [["the same text of six words"] * 50_000])
    assert len(found.pairs) < 6 * 50_000
    assert not found.clusters.first.any()


def test_pairs_within_a_crowd_of_alike_rows_are_found(tmp_path: Path) -> None:
    """Forms whose boilerplate fills buckets of hundreds: those that are copies of each other are told from the rest."""
    random = np.random.default_rng(3)
    form = document(random, num_words=180)
    texts = [" ".join([*form, *document(random, num_words=30)]) for _ in range(1_000)]
    texts += [f"{text} p s" for text in texts]
    found = find(tmp_path, [texts])
    first = found.clusters.first
    assert 0.7 < true_similarities(texts, np.array([[0, 1]]))[0] < 0.8
    assert (first[1_000:] == np.arange(1_000)).mean() > 0.99


@settings(deadline=None)
@given(keys=st.lists(st.integers(1, 4), max_size=60), others=st.lists(st.integers(1, 3), min_size=60, max_size=60))
def test_pairs_of_a_bucket_join_all_its_rows_and_none_of_another(keys: list[int], others: list[int]) -> None:
    bucket_of = np.array(keys, dtype=np.uint64)
    pairs = bucket_pairs(bucket_of, np.array(others[: len(keys)], dtype=np.uint64))
    assert (bucket_of[pairs[:, 0]] == bucket_of[pairs[:, 1]]).all()
    assert (pairs[:, 0] != pairs[:, 1]).all()
    first = clusters(np.sort(pairs), np.ones(len(pairs)), num_rows=len(keys)).first
    assert first.tolist() == [keys.index(key) for key in keys]
    for key in set(keys):
        members = np.flatnonzero(bucket_of == key)
        if len(members) <= SMALL_BUCKET:
            assert len({tuple(p) for p in pairs.tolist() if p[0] in members}) == len(members) * (len(members) - 1) // 2


@settings(deadline=None)
@given(
    edges=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19), st.sampled_from([0.0, 0.8, 0.9]))),
)
def test_clusters_are_the_connected_components_of_similar_pairs(edges: list[tuple[int, int, float]]) -> None:
    pairs = np.array([(a, b) for a, b, _ in edges], dtype=np.int64).reshape(-1, 2)
    found = clusters(pairs, np.array([s for *_, s in edges], dtype=np.float64), num_rows=20)
    first = list(range(20))
    for _ in range(20):
        for a, b, similarity in edges:
            if similarity:
                first[a] = first[b] = min(first[a], first[b])
    assert found.first.tolist() == first


@settings(deadline=None)
@given(
    sizes=st.tuples(*[st.integers(0, 300)] * 3), threshold=st.sampled_from([0.5, 0.8, 1.0]), seed=st.integers(0, 2**32)
)
def test_jaccard_stops_early_only_below_the_threshold(sizes: tuple[int, int, int], threshold: float, seed: int) -> None:
    """Sets of `shared` common values, and of values that the one or the other has alone."""
    shared, lone, other = sizes
    drawn = np.random.default_rng(seed).choice(2**16, size=sum(sizes), replace=False).astype(np.uint32)
    first, second = np.sort(drawn[: shared + lone]), np.sort(np.delete(drawn, np.s_[shared : shared + lone]))
    expected = shared / (shared + lone + other) if sum(sizes) else 0.0
    assert jaccard(first, second, threshold) == (expected if expected >= threshold else 0)


def test_sets_are_read_as_they_were_written(tmp_path: Path) -> None:
    texts = [pa.array(["a b c d e f", None]), pa.array(["x"])]
    assert write_sets(tmp_path / "sets.arrow", texts, config=CONFIG) == 3
    read = [values.tolist() for values in read_sets(tmp_path / "sets.arrow")]
    assert read == [v.tolist() for array in texts for v in shingle_sets(array, config=CONFIG)]


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_keep_the_promised_recall_within_the_hashes(threshold: float) -> None:
    bands, rows = NearDedupConfig(threshold=threshold).bands
    assert bands * rows <= MAX_HASHES
    assert (1 - threshold**rows) ** bands <= MISSED_AT_THRESHOLD
