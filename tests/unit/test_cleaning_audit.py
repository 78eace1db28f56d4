"""Leaks and faults that were planted are found, and a data set without any is left in peace."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from audit_runs import Audited, audit, dataset, divided
from millrace import errors
from millrace.contracts.artifacts import ArtifactRef
from millrace.contracts.graph import expand
from millrace.contracts.pipelines import Binding, PipelineSpec
from millrace.contracts.schema import Column, ColumnType, Role
from millrace.runtime.stage import local_context
from millrace.store.local import LocalStore
from millrace_cleaning.audit import stage
from millrace_cleaning.audit.giveaways import binned, information
from millrace_cleaning.audit.matrix import arrays_of
from millrace_cleaning.audit.models import auc
from millrace_cleaning.audit.settings import AuditConfig
from millrace_cleaning.extras import needing

LEAKS = ["splits", "shift", "giveaways", "columns", "target"]


def column(name: str, type_: ColumnType = "number", role: Role = "feature") -> Column:
    return Column(name=name, type=type_, role=role)


TARGET = Column(name="y", type="category", role="target", vocabulary=("a", "b"))
SCHEMA = [column("x"), column("z"), column("kind", "category"), TARGET]


def table(num: int = 1200, *, seed: int = 0, **columns: Any) -> pa.Table:
    """Rows with two numbers and a category that tell something of the label, not all; and further columns."""
    random = np.random.default_rng(seed)
    x, z = random.normal(size=(2, num))
    y = np.where(x + z + random.normal(size=num) > 0, "a", "b")
    made = {"x": x, "z": z, "kind": random.choice(["p", "q", "r"], num), "y": y}
    return pa.table({**made, **columns})


def found_in(root: Path, rows: pa.Table, *more: Column, **config: Any) -> Audited:
    return audit(root, [*SCHEMA, *more], divided(rows), **{"checks": LEAKS, **config})


def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path) -> None:
    found = found_in(tmp_path, table())
    assert found.codes(at_least="info") == set()
    assert found.leaked_rows.num_rows == 0
    assert 0.4 < found.outputs.metrics["shift_auc"] < 0.6
    assert found.report.verdict is None


def test_a_feature_that_tells_the_target_is_found(tmp_path: Path) -> None:
    rows = table()
    told = (np.array(rows["y"]) == "a") * 1.0 + np.random.default_rng(1).normal(size=1200) * 0.05
    found = found_in(tmp_path, rows.append_column("later", pa.array(told)), column("later"))
    assert found.columns("giveaway") == ["later"]
    assert found.of("giveaway").severity == "error"
    assert found.of("giveaway").evidence["mutual_information_share"] > 0.95


def test_a_column_that_is_missing_for_one_class_tells_it_too(tmp_path: Path) -> None:
    rows = table()
    kept = pa.array([v if label == "a" else None for v, label in zip(range(1200), rows["y"].to_pylist(), strict=True)])
    found = found_in(tmp_path, rows.append_column("closed_at", kept.cast(pa.float64())), column("closed_at"))
    assert found.columns("giveaway") == ["closed_at"]


def test_a_category_that_tells_a_number_is_found(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 20, 800)
    prices = codes * 10.0 + random.normal(size=800) * 0.1
    rows = pa.table({"x": random.normal(size=800), "tariff": [f"t{c}" for c in codes], "price": prices})
    columns = [column("x"), column("tariff", "category"), column("price", role="target")]
    found = audit(tmp_path, columns, divided(rows), checks=LEAKS)
    assert found.columns("giveaway") == ["tariff"]


def test_equal_rows_on_both_sides_are_listed(tmp_path: Path) -> None:
    rows = table()
    copies = rows.slice(0, 30)
    found = found_in(tmp_path, pa.concat_tables([rows, copies]), checks=["splits"])
    assert found.of("exact_duplicates").evidence["rows"] == {"validation": 0, "test": 30}
    exact = found.leaked_rows.filter(pa.array([k == "exact" for k in found.leaked_rows["kind"].to_pylist()]))
    assert [int(r.split("-")[-1]) for r in exact["row_id"].to_pylist()] == list(range(1200, 1230))
    assert sorted(int(r.split("-")[-1]) for r in exact["other_row_id"].to_pylist()) == list(range(30))
    assert set(exact["other_split"].to_pylist()) == {"train"}


def test_nearly_equal_rows_on_both_sides_are_found(tmp_path: Path) -> None:
    rows = table()
    copies = rows.slice(0, 40).set_column(0, "x", pa.array(np.array(rows["x"])[:40] + 0.001))
    wide = {f"w{i}": np.tile(np.random.default_rng(i).normal(size=1200), 2)[:1240] for i in range(5)}
    rows = pa.concat_tables([rows, copies])
    for name, values in wide.items():
        rows = rows.append_column(name, pa.array(values))
    found = found_in(tmp_path, rows, *(column(name) for name in wide), checks=["splits"])
    assert found.of("near_duplicates").evidence["rows"] == 40
    assert "exact_duplicates" not in found.codes()


def test_texts_that_differ_in_a_word_are_nearly_equal(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in random.integers(0, 2000, 40)) for _ in range(400)]
    texts += [text.replace(text.split()[3], "other", 1) for text in texts[:15]]
    found = audit(tmp_path, [column("text", "text")], divided(pa.table({"text": texts})), checks=["splits"])
    assert found.of("near_duplicates").evidence["rows"] == 15


def test_equal_features_with_different_targets_are_contradictions(tmp_path: Path) -> None:
    rows = table()
    other = rows.slice(0, 10).set_column(
        3, "y", pa.array(["b" if y == "a" else "a" for y in rows["y"].to_pylist()[:10]])
    )
    found = found_in(tmp_path, pa.concat_tables([other, rows]), checks=["splits"])
    assert found.of("contradictions").evidence == {"rows": 20, "groups": 10, "share": round(20 / 1210, 6)}


def test_a_group_on_both_sides_is_found(tmp_path: Path) -> None:
    users = [f"u{i % 300}" for i in range(1200)]
    found = found_in(tmp_path, table(user=users), column("user", "category", "group"), checks=["splits"])
    assert found.of("group_leak").evidence["test"] == {"groups": 240, "of": 240, "row_share": 1.0}
    apart = [f"u{i // 20}" for i in range(1200)]  # the cuts fall between groups
    assert (
        "group_leak"
        not in found_in(tmp_path, table(user=apart), column("user", "category", "group"), checks=["splits"]).codes()
    )


def test_training_on_the_future_is_found(tmp_path: Path) -> None:
    seconds = np.random.default_rng(0).permutation(1200)
    times = pa.array(seconds * 1_000_000, pa.timestamp("us", "UTC"))
    found = found_in(tmp_path, table(at=times), column("at", "timestamp", "time"), checks=["splits"])
    assert found.of("time_leak").evidence["split"] == "test"
    assert found.of("time_leak").evidence["share"] > 0.9
    in_order = pa.array(np.arange(1200) * 1_000_000, pa.timestamp("us", "UTC"))
    assert found_in(tmp_path, table(at=in_order), column("at", "timestamp", "time"), checks=["splits"]).codes() == set()


def test_a_column_that_moved_is_found(tmp_path: Path) -> None:
    drift = np.random.default_rng(3).normal(size=1200) + np.linspace(0, 3, 1200)
    found = found_in(tmp_path, table(drift=drift), column("drift"))
    assert found.columns("column_shift") == ["drift"]
    assert found.of("row_shift").evidence["columns"] == ["drift"]


def test_columns_that_teach_nothing_are_found(tmp_path: Path) -> None:
    rows = table(
        same=[1.0] * 1200, gone=pa.array([None] * 1190 + [1.0] * 10), serial=range(1200),
        name=[f"n{i}" for i in range(1200)],
    )  # fmt: skip
    rows = rows.append_column("celsius", pa.array(np.array(rows["x"]) * 1.8 + 32))
    more = [column("same"), column("gone"), column("serial", "integer"), column("name", "category"), column("celsius")]
    found = found_in(tmp_path, rows, *more, checks=["columns"])
    expected = {
        "constant_column": ["same"], "empty_column": ["gone"], "follows_order": ["serial"], "high_cardinality": ["name"],
        "duplicate_column": ["celsius"],
    }  # fmt: skip
    assert {f.code: found.columns(f.code) for f in found.report.findings} == expected
    assert found.of("duplicate_column").evidence["other"] == "x"


def test_what_is_wrong_with_classes_is_found(tmp_path: Path) -> None:
    labels = ["a"] * 1100 + ["b"] * 95 + ["c"] * 5
    found = found_in(tmp_path, table().set_column(3, "y", pa.array(labels)), checks=["target"])
    assert found.codes() == {"unseen_class", "tiny_class", "class_imbalance", "class_shift"}
    assert found.of("unseen_class").evidence["classes"] == 2
    assert found.columns("target_follows_order") == ["y"]
    one = found_in(tmp_path, table().set_column(3, "y", pa.array(["a"] * 1200)), checks=LEAKS)
    assert found.of("unseen_class").severity == one.of("one_class").severity == "error"


def test_findings_that_may_not_be_reject_the_run(tmp_path: Path) -> None:
    rows = table(same=[1.0] * 1200)
    more = column("same")
    assert (
        found_in(tmp_path, rows, more, checks=["columns"], fail_on=["group_leak", "error"]).outputs.verdict == "passed"
    )
    found = found_in(tmp_path, rows, more, checks=["columns"], fail_on=["constant_column"])
    assert found.outputs.verdict == "failed"
    assert found.outputs.summary["gate"][0]["rule"] == "no constant_column"
    assert found_in(tmp_path, rows, more, checks=["columns"], fail_on="warning").outputs.verdict == "failed"


def test_a_summary_stays_small_however_long_names_are(tmp_path: Path) -> None:
    names = [f"{i}{'x' * 900}" for i in range(30)]
    constant: dict[str, Any] = {name: [1.0] * 1200 for name in names}
    rows = table(**constant)
    more = [column(name) for name in names]
    found = found_in(tmp_path, rows, *more, checks=["columns"], fail_on=["constant_column", "warning", "error"])
    assert len(found.report.findings) == 30
    assert 0 < len(found.outputs.summary["found"]) < 30


def test_models_look_at_no_more_rows_than_they_may(tmp_path: Path) -> None:
    found = found_in(tmp_path, table(3000), max_rows=500, max_columns=2)
    assert 400 <= found.report.num_judged <= 600
    assert "of 3,000 rows, drawn by seed 0" in found.report.not_judged[0]
    assert "first 2 of 3 features" in found.report.not_judged[1]


def test_images_are_looked_at_small_and_broken_ones_are_missing(tmp_path: Path) -> None:
    random = np.random.default_rng(0)

    def png(light: int) -> dict[str, Any]:
        sink = io.BytesIO()
        Image.fromarray(random.integers(light, light + 80, (20, 20, 3)).astype(np.uint8)).save(sink, "PNG")
        return {"bytes": sink.getvalue(), "path": None}

    images = [png(0) for _ in range(200)] + [png(150) for _ in range(90)] + [{"bytes": b"no image", "path": None}] * 10
    found = audit(tmp_path, [column("photo", "image")], divided(pa.table({"photo": images})), checks=["shift"])
    assert found.columns("column_shift") == ["photo"]


def test_what_models_cannot_look_at_is_said(tmp_path: Path) -> None:
    rows = table(sound=[{"bytes": b"x", "path": None}] * 1200)
    found = found_in(tmp_path, rows, column("sound", "audio"), checks=["shift"])
    assert found.report.not_judged == ("Models do not look at 'sound': it is audio.",)


def test_an_artifact_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", tenant="default")
    with local_context(store, tmp_path) as context:
        data = context.open_artifact(context.write_artifact("source", {"a.csv": b"x\n1\n"}))
        with pytest.raises(errors.InvalidData, match="is not a data set"):
            stage.work(context, AuditConfig(), {"dataset": data}, {})
        empty = context.open_artifact(dataset(store, SCHEMA, {}))
        with pytest.raises(errors.InvalidData, match="has no rows"):
            stage.work(context, AuditConfig(), {"dataset": empty}, {})


def test_an_unknown_finding_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no finding 'group_leaks'.*group_leak"):
        AuditConfig(fail_on=("group_leaks",))


def test_the_area_under_the_curve_counts_ties_half() -> None:
    scores = np.array([0.1, 0.4, 0.4, 0.8])
    positive = np.array([False, True, False, True])
    pairs = [(p, n) for p in scores[positive] for n in scores[~positive]]
    slow = np.mean([1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs])
    assert auc(scores, positive)[0] == pytest.approx(slow)


def test_information_is_all_of_a_copy_and_none_of_noise() -> None:
    values = np.random.default_rng(0).normal(size=4000)
    classes = (values > 0).astype(np.int64)
    assert information(binned(values), classes) > 0.9
    assert information(binned(np.random.default_rng(1).normal(size=4000)), classes) < 0.02


def test_an_audit_between_stages_changes_no_binding() -> None:
    names = ("clean", "audit", "train", "evaluate", "audit_again", "deploy")
    stages: dict[str, Any] = {name: {} for name in names}
    stages |= {"audit_again": {"kind": "audit"}, "deploy": {"with": {"endpoint": "e"}}}
    spec = PipelineSpec.model_validate(
        {"api": "millrace/v1", "name": "p", "params": {"d": "dataset"}, "stages": stages}
    )
    graph = expand(spec, {"d": ArtifactRef(digest="0" * 64, type="source")})
    inputs = {stage.name: stage.inputs for stage in graph.stages}
    for name in ("audit", "train", "evaluate", "audit_again"):
        assert inputs[name]["dataset"] == Binding(stage="clean", port="dataset")
    assert inputs["deploy"]["report"] == Binding(stage="evaluate", port="report")


def test_who_lacks_an_extra_is_told_its_name() -> None:
    with (
        pytest.raises(errors.StageFailed, match=r"needs cleanlabs, .*pip install 'millrace\[audit\]'"),
        needing("audit"),
    ):
        import cleanlabs  # type: ignore[import-not-found]  # noqa: F401 - not there, which is the point


def test_wide_arrays_are_averaged_and_missing_ones_stay_missing() -> None:
    values = np.arange(3 * 3000, dtype=np.float32).reshape(3, 3000)
    array = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 3000, mask=pa.array([False, True, False]))
    made = arrays_of(array)
    assert made.shape == (3, 1000)
    assert np.isnan(made[1]).all()
    assert np.allclose(made[[0, 2]], values[[0, 2]].reshape(2, 1000, 3).mean(axis=2))
