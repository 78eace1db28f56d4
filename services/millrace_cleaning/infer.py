"""Deciding each column's type, role and policies, from the scan and from what the user said."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from millrace import errors
from millrace.contracts.base import Contract
from millrace.contracts.schema import ROW_ID, ColumnType, Role
from millrace.datasets.samples import RANK
from millrace_cleaning.confidence import Inference, warning_of, weigh
from millrace_cleaning.report.sampling import SPLIT
from millrace_cleaning.roles import check_task, decide_role
from millrace_cleaning.scan import ColumnScan
from millrace_cleaning.settings import BadValuePolicy, CleanConfig, ColumnConfig, NullPolicy
from millrace_cleaning.steps.kinds import Step
from millrace_cleaning.steps.recipe import resolve
from millrace_cleaning.uniqueness import check_columns

DIRT = 0.05
"""A column is of a type although this share of its values is not: those are dirt, made null and counted."""

MAX_CODES = 20
"""An integer target with at most so many values is a category, unless its owner says otherwise."""

_MAX_CATEGORY_CHARS = 40
_MIN_TEXT_WORDS = 4
_MIN_REPETITION = 0.2  # distinct values by rows, above which short strings are no categories


class PlannedColumn(Contract):
    """A column as it will be written."""

    name: str
    type: ColumnType
    role: Role
    shape: tuple[int, ...] | None = None
    vocabulary: tuple[str, ...] | None = Field(default=None, description="As given by the user; else found later.")
    unit: str = ""
    on_null: NullPolicy
    on_unparseable: BadValuePolicy
    is_added: bool = Field(default=False, description="Whether a step appends it; the source does not have it.")
    is_private: bool = Field(default=False, description="Whether its raw values are shown nowhere.")
    inferred: Inference | None = Field(default=None, description="What the type is based on, where nobody said it.")


class CleaningPlan(Contract):
    """What every part of a source is turned into."""

    columns: tuple[PlannedColumn, ...]
    steps: tuple[Step, ...] = Field(default=(), description="With the names of the columns that they work on.")
    warnings: tuple[str, ...] = ()

    def with_role(self, *roles: Role) -> tuple[PlannedColumn, ...]:
        return tuple(c for c in self.columns if c.role in roles)

    @property
    def source_columns(self) -> tuple[PlannedColumn, ...]:
        return tuple(c for c in self.columns if not c.is_added)


def make_plan(scans: Mapping[str, ColumnScan], *, config: CleanConfig) -> CleaningPlan:
    """Decide all columns.

    Raises:
        InvalidData: A column that the config names is missing, or the columns do not suit the task.
    """
    warnings = []
    if ROW_ID in scans:
        scans = {name: scan for name, scan in scans.items() if name != ROW_ID}
        warnings.append(f"The source's column {ROW_ID!r} is replaced: every row gets a {ROW_ID} of its own.")
    _check_names(scans, config)
    scans = {name: scan for name, scan in scans.items() if name not in config.drop}
    if not scans:
        raise errors.InvalidData("Every column is dropped.", remedy="Leave one.", field="with.drop")
    types = {name: _decide_type(name, scan, config) for name, scan in scans.items()}
    columns = []
    for name, scan in scans.items():
        role, warning = decide_role(name, types[name], scan, types=types, config=config)
        warnings += [warning] if warning else []
        if role == "target" and _is_guessed_category(name, types[name], scan, config):
            warnings.append(
                f"The target {name!r} is read as a category; if it is a quantity, say `columns: {{{name}: {{type: number}}}}`."
            )
        columns.append(_plan_column(name, types[name], role, scan, config))
        inferred = columns[-1].inferred
        doubt = warning_of(name, types[name], inferred) if inferred is not None and role != "ignore" else ""
        warnings += [doubt] if doubt else []
    roles = {c.name: (c.type, c.role) for c in columns}
    _check_time(types, config)
    check_task(config.task, roles, notes=warnings)
    steps, added = resolve(config.steps, roles)
    numbers = {name: scan.numbers for name, scan in scans.items() if scan.numbers is not None}
    steps = tuple(step.informed(numbers) for step in steps)
    units = {name: unit for step in steps for name, unit in step.added_units().items()}
    columns += [
        _added_column(name, type_, role, config, unit=units.get(name, "")) for name, (type_, role) in added.items()
    ]
    check_columns(config, [column.name for column in columns])
    return CleaningPlan(columns=tuple(columns), steps=steps, warnings=tuple(warnings))


def private_columns(config: CleanConfig) -> frozenset[str]:
    """Columns whose raw values nothing may remember."""
    return frozenset(step.column for step in config.steps if step.is_private)


def _check_names(scans: Mapping[str, ColumnScan], config: CleanConfig) -> None:
    reserved = next((name for name in (RANK, SPLIT) if name in scans), None)
    if reserved is not None:
        raise errors.InvalidData(
            f"The data has a column {reserved!r}, a name that Millrace keeps for itself.",
            remedy="Give it another name.",
        )
    asked = [("with.target", n) for n in config.target] + [("with.features", n) for n in config.features]
    asked += [("with.ignore", n) for n in config.ignore] + [(f"with.columns.{n}", n) for n in config.columns]
    asked += [("with.drop", n) for n in config.drop]
    asked += [("with.split.by", config.split.by), ("with.split.time", config.split.time)]
    for field, name in asked:
        if name and name not in scans:
            raise errors.InvalidData(
                f"The data has no column {name!r}; {errors.nearest(name, scans)}", field=field, column=name
            )


def _check_time(types: Mapping[str, ColumnType], config: CleanConfig) -> None:
    name = config.split.time
    if name and types[name] not in ("timestamp", "integer", "number"):
        raise errors.InvalidData(
            f"The split's time column {name!r} is of type {types[name]}, which has no order in time.",
            remedy="Use ISO 8601 timestamps or numbers.",
            field="with.split.time",
        )


def _asked(config: CleanConfig, name: str) -> ColumnConfig:
    return config.columns.get(name, ColumnConfig())


def _decide_type(name: str, scan: ColumnScan, config: CleanConfig) -> ColumnType:
    asked = _asked(config, name)
    if asked.type is not None:
        return asked.type
    if asked.vocabulary is not None:
        return "category"
    if asked.shape is not None:
        return "vector" if len(asked.shape) == 1 else "image"
    if name == config.split.time and _share(scan, "timestamp"):
        return "timestamp"
    if name in private_columns(config):
        return "text"
    found = _infer_type(scan)
    if name in config.target or asked.role == "target":
        return _target_type(found, scan, config.task)
    if found == "category" and name in _texts_of(config):
        return "text"
    return found


def _texts_of(config: CleanConfig) -> frozenset[str]:
    """Columns that are asked for where only a text will do."""
    of_task = config.features if config.task in ("text_classification", "language_modelling") else ()
    compared = (config.near_dedup.column,) if config.near_dedup is not None else ()
    of_steps = (s.column for s in config.steps if "text" in s.column_types and "category" not in s.column_types)
    return frozenset((*of_task, *compared, *of_steps))


def _target_type(found: ColumnType, scan: ColumnScan, task: str) -> ColumnType:
    """A target of a classification is a category whatever its values look like."""
    if task.endswith("_classification"):
        return "category"
    if task:
        return found
    if found == "boolean":
        return "category"
    is_coded = found in ("integer", "number") and not scan.has_more and len(scan.values) <= MAX_CODES
    if is_coded and all(value.lstrip("+-").isdigit() for value in scan.values):
        return "category"
    return found


def _is_guessed_category(name: str, type_: ColumnType, scan: ColumnScan, config: CleanConfig) -> bool:
    is_numeric = bool(scan.kinds.keys() & {"integer", "number"})
    return type_ == "category" and is_numeric and not config.task and _asked(config, name).type is None


_OF_ONE_KIND: tuple[ColumnType, ...] = ("boolean", "timestamp", "audio")


def _infer_type(scan: ColumnScan) -> ColumnType:
    if _share(scan, "integer") == 1:
        return "integer"
    for type_ in _OF_ONE_KIND:
        if _share(scan, type_) >= 1 - DIRT:
            return type_
    if _share(scan, "bytes", "audio") >= 1 - DIRT:
        return "image"
    if _share(scan, "integer") >= 1 - DIRT and not scan.kinds.get("number"):  # a fraction is no dirt
        return "integer"
    if _share(scan, "integer", "number") >= 1 - DIRT:
        return "number"
    if _share(scan, "list") == 1 and scan.length is not None:
        if scan.length[0] == scan.length[1] > 0:
            return "vector"
        return "tokens" if scan.whole else "json"
    if _share(scan, "json", "list") >= 1 - DIRT:
        return "json"
    return "category" if _looks_categorical(scan) else "text"


def _looks_categorical(scan: ColumnScan) -> bool:
    num = scan.rows - scan.nulls
    num_strings = scan.kinds.get("string", 0) or 1
    if scan.has_more or num == 0:
        return False
    is_short = scan.chars / num <= _MAX_CATEGORY_CHARS and scan.words / num_strings < _MIN_TEXT_WORDS
    return is_short and len(scan.values) <= max(MAX_CODES, _MIN_REPETITION * num)


def _share(scan: ColumnScan, *kinds: str) -> float:
    num = scan.rows - scan.nulls
    return sum(scan.kinds.get(kind, 0) for kind in kinds) / num if num else 0.0


def _plan_column(name: str, type_: ColumnType, role: Role, scan: ColumnScan, config: CleanConfig) -> PlannedColumn:
    asked = _asked(config, name)
    shape = asked.shape
    if shape is None and (type_ == "vector" or (type_ == "image" and _share(scan, "list"))):
        shape = _found_shape(name, type_, scan)
    return PlannedColumn(
        name=name,
        type=type_,
        role=role,
        shape=shape,
        vocabulary=asked.vocabulary,
        unit=asked.unit,
        on_null=asked.on_null or _null_policy(type_, role, config),
        on_unparseable=asked.on_unparseable or config.on_unparseable,
        is_private=name in private_columns(config),
        inferred=weigh(type_, scan) if _is_inferred(name, type_, scan, config) else None,
    )


def _is_inferred(name: str, type_: ColumnType, scan: ColumnScan, config: CleanConfig) -> bool:
    """Whether the type follows from the values alone, and not from what the owner said of the column or the task."""
    asked = _asked(config, name)
    is_said = asked.type is not None or asked.vocabulary is not None or asked.shape is not None
    return not is_said and name not in private_columns(config) and type_ == _infer_type(scan)


def _added_column(name: str, type_: ColumnType, role: Role, config: CleanConfig, *, unit: str) -> PlannedColumn:
    """A column that a step appends; what a row has none of is null."""
    policy = config.on_unparseable
    return PlannedColumn(
        name=name, type=type_, role=role, unit=unit, on_null="keep", on_unparseable=policy, is_added=True
    )


def _found_shape(name: str, type_: ColumnType, scan: ColumnScan) -> tuple[int, ...]:
    if type_ == "image":
        raise errors.InvalidData(
            f"The images in column {name!r} are lists of numbers, whose height and width are not known.",
            remedy=f"Say `columns: {{{name}: {{type: image, shape: [height, width, channels]}}}}`.",
            field=f"with.columns.{name}.shape",
        )
    low, high = scan.length or (0, 0)
    if not high:
        raise errors.InvalidData(
            f"Column {name!r} holds no lists of numbers, so it is no vector.", field=f"with.columns.{name}.type"
        )
    if low != high:
        raise errors.InvalidData(
            f"The lists in column {name!r} have between {low} and {high} numbers; a vector has one length.",
            remedy="Say which with `shape: [n]`; rows of other lengths become null.",
            field=f"with.columns.{name}.shape",
        )
    return (low,)


def _null_policy(type_: ColumnType, role: Role, config: CleanConfig) -> NullPolicy:
    if role == "target":
        return config.on_null_target
    if role in ("group", "time"):
        return "fail"
    is_input = role == "feature" and type_ in ("text", "image", "audio", "vector", "tokens")
    return "drop" if is_input else "keep"
