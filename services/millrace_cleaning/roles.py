"""What each column is for, and whether the whole suits the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from millrace import errors
from millrace.contracts.schema import TASK_KINDS, ColumnType, Role
from millrace_cleaning.scan import ColumnScan
from millrace_cleaning.settings import CleanConfig, ColumnConfig

_ID_NAMES = ("id", "uuid", "guid", "index", "column_1")
_LEARNABLE: tuple[ColumnType, ...] = (
    "number", "integer", "boolean", "category", "text", "timestamp", "image", "audio", "vector", "tokens",
)  # fmt: skip
_INPUT_OF_TASK: dict[str, tuple[ColumnType, ...]] = {
    "text_classification": ("text",),
    "language_modelling": ("text", "tokens"),
    "image_classification": ("image",),
}
"""Tasks that learn from one kind of column; in them other columns have to be asked for by name."""


def decide_role(
    name: str, type_: ColumnType, scan: ColumnScan, *, types: Mapping[str, ColumnType], config: CleanConfig
) -> tuple[Role, str]:
    """Return a column's role, and a warning if it was set aside without being asked for."""
    asked = _asked_role(name, config)
    if asked is not None:
        return asked, ""
    if config.features:
        return "ignore", ""
    inputs = _INPUT_OF_TASK.get(config.task)
    if inputs and type_ not in inputs and any(t in inputs for t in types.values()):
        return (
            "ignore",
            f"Column {name!r} ({type_}) is not learned from in {config.task}; name it in `features` to use it.",
        )
    if scan.nulls == scan.rows:
        return "ignore", f"Column {name!r} has no value; it is ignored."
    if not scan.has_more and len(scan.values) == 1 and scan.nulls == 0 and scan.rows > 1:
        return "ignore", f"Column {name!r} is constant ({next(iter(scan.values))[:40]!r}); it is ignored."
    if _is_id(name, type_, scan):
        return "id", f"Column {name!r} counts rows; it is an id and not learned from."
    if type_ not in _LEARNABLE:
        return "ignore", f"Column {name!r} ({type_}) cannot be learned from; it is ignored."
    return "feature", ""


def _asked_role(name: str, config: CleanConfig) -> Role | None:
    role = config.columns.get(name, ColumnConfig()).role
    if role is not None:
        return role
    listed: dict[Role, tuple[str, ...]] = {
        "target": config.target, "feature": config.features, "ignore": config.ignore,
        "group": (config.split.by,), "time": (config.split.time,),
    }  # fmt: skip
    return next((role for role, names in listed.items() if name in names), None)


def _is_id(name: str, type_: ColumnType, scan: ColumnScan) -> bool:
    """Whether values never repeat and the name says so, or they are single words in a column that is no category."""
    if scan.repeats or scan.nulls or scan.rows < 2:
        return False
    if name.lower() in _ID_NAMES or name.lower().endswith("_id"):
        return type_ in ("integer", "text", "category")
    num_strings = scan.kinds.get("string", 0)
    return type_ == "text" and num_strings == scan.rows and scan.words == num_strings and scan.chars <= 64 * num_strings


def check_task(task: str, columns: Mapping[str, tuple[ColumnType, Role]], *, notes: Sequence[str] = ()) -> None:
    """Check that the roles a task needs are filled, with columns of a fitting type.

    Args:
        notes: Why columns were set aside.

    Raises:
        InvalidData: A role is not filled, or by a column of the wrong type.
    """
    by_role: dict[str, list[str]] = {}
    for name, (_, role) in columns.items():
        by_role.setdefault(role, []).append(name)
    if not by_role.get("feature"):
        raise errors.InvalidData(
            " ".join(["No column is left to learn from.", *notes]),
            remedy=f"Name some in `features`; the data has {', '.join(columns)}.",
            field="with.features",
        )
    if not task:
        return
    kind = TASK_KINDS[task]
    for role in kind.required_roles:
        if role not in by_role:
            raise errors.InvalidData(
                f"The task {task} needs a {role} column.",
                remedy=f"Say which: `{role}: NAME`; the data has {', '.join(columns)}.",
                field=f"with.{role}",
            )
    for name in by_role.get("target", []):
        if kind.target_types and columns[name][0] not in kind.target_types:
            raise errors.InvalidData(
                f"The task {task} needs a target of type {' or '.join(kind.target_types)}; {name!r} is {columns[name][0]}.",
                remedy="Correct `task`, `target`, or the column's type.",
                field=f"with.columns.{name}.type",
            )
    _check_inputs(task, [(name, columns[name][0]) for name in by_role["feature"]])


def _check_inputs(task: str, features: list[tuple[str, ColumnType]]) -> None:
    wanted = _INPUT_OF_TASK.get(task)
    if wanted is None:
        return
    fitting = [name for name, type_ in features if type_ in wanted]
    if not fitting:
        found = ", ".join(f"{name} ({type_})" for name, type_ in features)
        raise errors.InvalidData(
            f"The task {task} needs a feature of type {' or '.join(wanted)}; found {found}.",
            remedy=f"Say `columns: {{NAME: {{type: {wanted[0]}}}}}` if one of them is.",
            field="with.features",
        )
    if task == "language_modelling" and len(features) > 1:
        raise errors.InvalidData(
            f"A language model learns from one column; found {', '.join(name for name, _ in features)}.",
            remedy="Say which: `features: [NAME]`.",
            field="with.features",
        )
