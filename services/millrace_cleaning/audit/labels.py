"""Labels that are probably wrong, by confident learning (Northcutt et al. 2021) on out-of-fold probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from cleanlab.filter import find_label_issues

from millrace.contracts.schema import ROW_ID, Column
from millrace_cleaning.audit.matrix import NUMBERS, Floats, Ints, linear_matrix, tree_matrix
from millrace_cleaning.audit.models import Folds, boosted_probabilities, linear_probabilities
from millrace_cleaning.audit.report import Finding
from millrace_cleaning.audit.rows import SPLITS, Sample

_FEW_CLASSES = 20
_MANY = 0.1
_SHOWN = 8

LABEL_ERRORS_SCHEMA = pa.schema(
    [
        pa.field(ROW_ID, pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("given", pa.string(), nullable=False),
        pa.field("suggested", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("given_probability", pa.float32(), nullable=False),
    ]
)
"""Suspected rows, the most suspected first: what they are labelled, what the models say instead, how sure they are of it,
and how probable they find the given label. Nobody has looked at them yet."""


@dataclass(frozen=True, slots=True)
class Suspects:
    """What was found among rows whose labels were judged.

    Attributes:
        table: LABEL_ERRORS_SCHEMA.
        findings: One, or none.
        share: Suspects of all judged rows.
        accuracy: Of the models on the labels as they are given. Where chance explains by how much they beat the commonest
            class they cannot judge, and what they suspect is no error.
    """

    table: pa.Table
    findings: list[Finding]
    share: float
    accuracy: float


def probabilities_of(
    sample: Sample, features: Sequence[Column], classes: Ints, folds: Folds, *, num_classes: int, model: str, seed: int
) -> Floats:
    """Out-of-fold probabilities (N, K) of the classes.

    Args:
        model: `auto`, `linear` or `boosting`; boosting judges tables alone.
    """
    is_table = all(c.type in (*NUMBERS, "category") for c in features)
    judged = []
    if model != "boosting" or not is_table:
        judged.append(linear_probabilities(linear_matrix(sample, features), classes, folds, num_classes=num_classes))
    if is_table and (model == "boosting" or (model == "auto" and num_classes <= _FEW_CLASSES)):
        matrix, is_category = tree_matrix(sample, features)
        judged.append(boosted_probabilities(matrix, is_category, classes, folds, num_classes=num_classes, seed=seed))
    # Lines and trees err on different rows: their mean was the better of both, or near it, on each table tried.
    return np.asarray(np.mean(judged, axis=0))


def find_suspects(
    sample: Sample, classes: Ints, labels: Sequence[str], probabilities: Floats, *, target: str, at_most: float
) -> Suspects:
    """Rank the rows whose label is probably wrong.

    Args:
        classes: Codes (N,) into labels, all of which occur.
        probabilities: Out of fold (N, K).
        at_most: Share of suspects that is no finding.
    """
    places = np.asarray(
        find_label_issues(classes, probabilities, return_indices_ranked_by="normalized_margin", n_jobs=1),
        dtype=np.int64,
    )
    suggested = probabilities[places].argmax(axis=1)
    places, suggested = places[suggested != classes[places]], suggested[suggested != classes[places]]
    table = _table(sample, classes, labels, probabilities, places, suggested)
    share = len(places) / max(len(classes), 1)
    accuracy = float(np.mean(probabilities.argmax(axis=1) == classes))
    commonest = float(np.bincount(classes).max()) / max(len(classes), 1)
    can_judge = accuracy > commonest + 2 * float(np.sqrt(commonest * (1 - commonest) / max(len(classes), 1)))
    findings = []
    if share > at_most:
        confused = Counter(zip(classes[places].tolist(), suggested.tolist(), strict=True)).most_common(_SHOWN)
        findings.append(
            Finding(
                code="label_errors", severity="error" if can_judge and share >= _MANY else "warning", column=target,
                message=f"{len(places):,} of {len(classes):,} labels ({share:.1%}) are suspected to be wrong"
                + ("." if can_judge else f" by models that cannot judge: they are right on {accuracy:.1%} of the rows, of "
                   f"which the commonest class has {commonest:.1%}."),
                evidence={
                    "rows": len(places), "of": len(classes), "share": round(share, 6), "model_accuracy": round(accuracy, 4),
                    "given_and_suggested": [[labels[g], labels[s], n] for (g, s), n in confused],
                },
                remedy="Look at label_errors.parquet from its top, and correct or remove what is wrong; in test first, where "
                "a wrong label moves every score." if can_judge else "Ask whether the features can tell the target at all.",
            )
        )  # fmt: skip
    return Suspects(table=table, findings=findings, share=share, accuracy=accuracy)


def _table(
    sample: Sample, classes: Ints, labels: Sequence[str], probabilities: Floats, places: Ints, suggested: Ints
) -> pa.Table:
    names = np.array(labels, dtype=object)
    return pa.table(
        [
            sample.row_ids().take(pa.array(places)),
            [SPLITS[code] for code in sample.codes[places]],
            names[classes[places]].tolist(),
            names[suggested].tolist(),
            probabilities[places, suggested].astype(np.float32),
            probabilities[places, classes[places]].astype(np.float32),
        ],
        schema=LABEL_ERRORS_SCHEMA,
    )
