"""Terms of blocklists that come as files: an input of the stage, so that a worker opens no path, and a cache key knows them."""

from __future__ import annotations

from pydantic import ValidationError

from millrace import errors
from millrace.runtime.stage import Artifact, Inputs
from millrace_cleaning.settings import CleanConfig
from millrace_cleaning.steps.settings import StepConfig
from millrace_cleaning.steps.text.settings import BlocklistConfig

PORT = "terms"
MAX_FILE_BYTES = 8 * 2**20
"""More than the longest list of the longest terms that people have."""


def with_terms(config: CleanConfig, inputs: Inputs) -> CleanConfig:
    """The configuration with the terms of each file that a blocklist names put into it.

    Raises:
        InvalidData: The input is not bound, has no such file, or the file is no list of terms.
    """
    steps = tuple(_filled(step, inputs.get(PORT), f"with.steps.{index}") for index, step in enumerate(config.steps))
    return config.model_copy(update={"steps": steps}) if steps != config.steps else config


def _filled(step: StepConfig, lists: Artifact | None, field: str) -> StepConfig:
    if not isinstance(step, BlocklistConfig) or not step.terms_from:
        return step
    if lists is None:
        raise errors.InvalidData(
            f"The step reads its terms from {step.terms_from!r}, and the stage's input `{PORT}` is not bound.",
            remedy=f"Say `inputs: {{{PORT}: $params.NAME}}` of the stage, and give the file as a parameter of type dataset.",
            field=f"{field}.terms_from",
        )
    given = {**step.model_dump(), "terms": (*step.terms, *_read(lists, step.terms_from, f"{field}.terms_from"))}
    try:
        return BlocklistConfig.model_validate({**given, "terms_from": ""})
    except ValidationError as error:
        said = str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
        raise errors.InvalidData(f"{step.terms_from}: {said}.", field=f"{field}.terms_from") from None


def _read(lists: Artifact, path: str, field: str) -> list[str]:
    known = {file.path: file.size_bytes for file in lists.manifest.files}
    if path not in known:
        raise errors.InvalidData(f"The input `{PORT}` has no file {path!r}; {errors.nearest(path, known)}", field=field)
    if known[path] > MAX_FILE_BYTES:
        raise errors.InvalidData(
            f"{path} has {known[path]} bytes; a list of terms has at most {MAX_FILE_BYTES}.", field=field
        )
    try:
        text = lists.read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise errors.InvalidData(
            f"{path} is not UTF-8 text (byte {error.start}).", remedy="Save it as UTF-8, a term a line.", field=field
        ) from None
    return [line.strip() for line in text.splitlines() if line.strip()]
