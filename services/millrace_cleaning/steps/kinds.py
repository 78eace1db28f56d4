"""All kinds of step: each family's, in one union that tells them apart by `step`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from millrace import errors
from millrace.contracts.loading import spec_error
from millrace_cleaning.steps.audio.settings import STEPS as AUDIO
from millrace_cleaning.steps.images.settings import STEPS as IMAGES
from millrace_cleaning.steps.pii.settings import STEPS as PII
from millrace_cleaning.steps.settings import StepConfig
from millrace_cleaning.steps.table.settings import STEPS as TABLE
from millrace_cleaning.steps.text.settings import STEPS as TEXT

FAMILIES: tuple[tuple[type[StepConfig], ...], ...] = (PII, TABLE, IMAGES, AUDIO, TEXT)
"""Each family of steps adds its own here."""

KINDS: Mapping[str, type[StepConfig]] = {
    get_args(kind.model_fields["step"].annotation)[0]: kind for family in FAMILIES for kind in family
}


class _AnyKind:
    """Lets pydantic choose the class by `step`; in JSON Schema it is a union with a discriminator."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        choices = {name: handler.generate_schema(kind) for name, kind in KINDS.items()}
        union = core_schema.tagged_union_schema(choices, discriminator="step")
        return core_schema.no_info_before_validator_function(_chosen, union)


Step = Annotated[StepConfig, _AnyKind()]
"""One step of a recipe, of any kind."""


def _chosen(value: object) -> object:
    """Validate with the class that `step` names. Pydantic's own union would put the name into the path of a fault."""
    if isinstance(value, StepConfig):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a step such as {{step: {next(iter(KINDS))}}}, found {type(value).__name__}")
    name = value.get("step")
    if not isinstance(name, str) or name not in KINDS:
        found = "`step` is missing" if name is None else f"there is no step {str(name)[:80]!r}"
        raise ValueError(f"{found}; {errors.nearest(str(name or ''), KINDS)}")
    kind = KINDS[name]
    unknown = next((key for key in value if key not in kind.model_fields), None)
    if unknown is not None:
        raise ValueError(
            f"the step {name} has no field {str(unknown)[:80]!r}; {errors.nearest(str(unknown), kind.model_fields)}"
        )
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise _known_fields(kind, error) from None


def _known_fields(kind: type[StepConfig], error: ValidationError) -> ValidationError:
    """Say of an unknown field which ones there are here: from outside, only a step's common fields can be seen."""
    fault = next((f for f in error.errors(include_url=False) if f["type"] == "extra_forbidden"), None)
    if fault is None:
        return error
    unknown = InitErrorDetails(type="extra_forbidden", loc=fault["loc"], input=fault["input"])
    message = spec_error(kind, ValidationError.from_exception_data(error.title, [unknown])).message
    said = PydanticCustomError("value_error", "{message}", {"message": message})
    return ValidationError.from_exception_data(error.title, [{**unknown, "type": said}])
