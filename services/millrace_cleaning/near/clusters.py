"""Clusters of near-duplicates: connected components of similar pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from millrace_cleaning.near.lsh import Flags, Ints, Pairs


@dataclass(frozen=True, slots=True)
class Clusters:
    """For each row of all parts, the cluster it is in.

    Every row of a cluster is similar, at least as the threshold says, to another row of it; not always to the first.

    Attributes:
        first: The first row of its cluster; a row that is like no other is alone, and the first itself.
        similarity: To the row of its cluster that it is most similar to; 0 if alone.
    """

    first: Ints
    similarity: npt.NDArray[np.float32]

    @property
    def is_first(self) -> Flags:
        """The rows that stay when of each cluster one stays."""
        found: Flags = self.first == np.arange(len(self.first))
        return found


def clusters(pairs: Pairs, similarities: npt.NDArray[np.float64], *, num_rows: int) -> Clusters:
    """Join rows that are similar, directly or by others between.

    Args:
        pairs: [pairs, 2], positions of rows.
        similarities: Of each pair; 0 where it is not similar enough.
    """
    similar = similarities > 0
    joined = pairs[similar]
    highest = np.zeros(num_rows, dtype=np.float32)
    np.maximum.at(highest, joined.ravel(), np.repeat(similarities[similar], 2).astype(np.float32))
    return Clusters(_first_of_each(joined, num_rows), highest)


@numba.njit(cache=True, nogil=True)
def _first_of_each(pairs: Pairs, num_rows: int) -> Ints:
    """Union-find with path halving; a root is the least row of its tree, so that the result has no order."""
    parent = np.arange(num_rows)
    for i in range(len(pairs)):
        one, other = pairs[i, 0], pairs[i, 1]
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        while parent[other] != other:
            parent[other] = parent[parent[other]]
            other = parent[other]
        parent[max(one, other)] = min(one, other)
    for row in range(num_rows):
        parent[row] = parent[parent[row]]  # the parent is a lower row, whose own parent is a root already
    return parent
