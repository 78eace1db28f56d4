"""What a user may say about near-duplicates. Imports pydantic alone."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BeforeValidator, Field

from millrace.contracts.faults import short
from millrace.contracts.stages import StageConfig

MAX_HASHES = 192
"""MinHash values of a row: what is affordable. Their time is in proportion."""
MISSED_AT_THRESHOLD = 0.025
"""Share of the pairs just at the threshold that may be missed; of more similar ones far fewer are."""


class NearDedupConfig(StageConfig):
    """Rows whose texts are nearly equal: the Jaccard similarity of their sets of word shingles is at least a threshold.

    Words are runs of letters, marks and digits of any script, in lower case; in scripts without spaces each character is
    one. A cluster is a connected component of similar pairs: each of its rows is similar to another one of it, though not
    to all. Its first row, in the source's order, stays.

    Of an image column, pictures that look alike: whose perceptual hashes differ in few bits.
    """

    column: str = Field(default="", description="Text or image column; default: the only text or image feature.")
    threshold: float = Field(
        default=0.8, ge=0.5, le=1, description="Jaccard similarity from which two rows are near-duplicates."
    )
    words_per_shingle: int = Field(
        default=5, ge=1, le=16, description="Words in a row that are compared; shorter texts are one shingle."
    )
    max_distance: int = Field(
        default=6, ge=0, le=16, description="Of images: of the 64 bits of two perceptual hashes, how many may differ."
    )
    drop: bool = Field(default=True, description="False: all rows stay, and those of one cluster share a split.")

    @property
    def bands(self) -> tuple[int, int]:
        """Number of bands, and MinHash values of each.

        Two rows of Jaccard similarity s share the key of some band with probability 1 - (1 - s^rows)^bands (Leskovec,
        Rajaraman and Ullman, Mining of Massive Datasets, section 3.4.2). More rows a band mean fewer false candidates, so
        as many are taken as the hashes allow.
        """
        similarity = min(self.threshold, 0.99)
        best = (MAX_HASHES, 1)
        for rows in range(1, MAX_HASHES + 1):
            bands = math.ceil(math.log(MISSED_AT_THRESHOLD) / math.log1p(-(similarity**rows)))
            if bands * rows <= MAX_HASHES:
                best = (bands, rows)
        return best


def _from_switch(value: object) -> object:
    if isinstance(value, bool):
        return {} if value else None
    if value is not None and not isinstance(value, dict | NearDedupConfig):
        raise ValueError(f"expected true, false, or settings such as `{{threshold: 0.8}}`, found {short(value)}")
    return value


NearDedup = Annotated[
    NearDedupConfig | None,
    BeforeValidator(_from_switch, json_schema_input_type=bool | NearDedupConfig | None),
]
"""`true` stands for all defaults, `false` for none of it."""
