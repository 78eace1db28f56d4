"""The documents agree with the code: settings, routes, error codes, words, links."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML

from millrace import errors
from millrace.contracts.stages import installed_kinds
from millrace.settings import Settings
from millrace_cleaning.settings import CleanConfig
from millrace_cleaning.steps.kinds import KINDS as STEPS
from millrace_deployment.app import App
from millrace_deployment.measures import Measures
from millrace_deployment.registry import Registry
from millrace_gateway.app import create_api
from millrace_gateway.settings import GatewaySettings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def settings_table(fields: dict[str, FieldInfo]) -> str:
    """The table of docs/operations.md; a failing test prints the one to put there."""
    rows = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for name, field in fields.items():
        rows.append(f"| `MILLRACE_{name.upper()}` | {shown(field.default)} | {field.description} |")
    return "\n".join(rows)


def shown(default: Any) -> str:
    assert default is not PydanticUndefined
    text = default.get_secret_value() if isinstance(default, SecretStr) else str(default)
    return f"`{text}`" if text else "empty"


def section(path: Path, heading: str) -> str:
    """The text under a heading, up to the next heading of any level."""
    _, _, rest = path.read_text().partition(f"{heading}\n")
    assert rest, f"{path.name} has no {heading!r}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def requests_of(text: str) -> set[tuple[str, str]]:
    return set(re.findall(r"^\| `(GET|POST|PUT|DELETE) (/\S*)` \|", text, flags=re.MULTILINE))


def test_every_setting_is_documented_with_its_default() -> None:
    text = (DOCS / "operations.md").read_text()
    own = {name: field for name, field in GatewaySettings.model_fields.items() if name not in Settings.model_fields}
    for table in (settings_table(Settings.model_fields), settings_table(own)):
        assert table in text


def test_every_route_of_the_gateway_is_documented() -> None:
    routes = {(m.upper(), path) for path, methods in create_api().openapi()["paths"].items() for m in methods}
    assert requests_of(section(DOCS / "http-api.md", "## Gateway")) == routes


def test_every_documented_route_of_the_model_server_is_routed() -> None:
    app = App(Registry(clock=lambda: datetime.now(UTC)), Measures(), is_ready=lambda: True, url="http://127.0.0.1:8471")
    documented = requests_of(section(DOCS / "http-api.md", "## Model server"))
    assert len(documented) == 13
    for method, path in documented:
        assert method in app.methods(path.replace("{name}", "reviews")), path


def test_every_error_code_that_an_answer_may_have_is_documented() -> None:
    table = section(DOCS / "http-api.md", "## Errors")
    rows = re.findall(r"^\| (`[^|]+`) \| (\d+) \|", table, flags=re.MULTILINE)
    documented = {code: int(status) for codes, status in rows for code in re.findall(r"`(\w+)`", codes)}
    tree = [errors.InvalidInput, errors.Conflict, errors.Unauthorized, errors.Unavailable, errors.ResourceExhausted]
    tree += [errors.InvalidSpec, errors.InvalidData, errors.NotFound, errors.DeadlineExceeded]
    assert documented == {cls.code: cls.http_status for cls in tree} | {"wrong_method": 405, "too_large": 413}


def test_the_glossary_knows_every_stage_kind_and_defines_no_word_twice() -> None:
    text = (DOCS / "glossary.md").read_text()
    words = [word for row in re.findall(r"^\| ([a-z][^|]*) \|", text, flags=re.MULTILINE) for word in row.split(", ")]
    assert len(words) == len(set(words))
    kinds = {name for name, kind in installed_kinds().items() if not kind.module.startswith("millrace.testing")}
    assert kinds <= set(re.findall(r"`(\w+)`", text))


@pytest.mark.parametrize(
    "path", sorted(p.relative_to(ROOT).as_posix() for p in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
)
def test_links_within_the_project_lead_somewhere(path: str) -> None:
    text = (ROOT / path).read_text()
    targets = [t.split("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t]
    assert [t for t in targets if t and not ((ROOT / path).parent / t).exists()] == []


def test_the_changelog_knows_this_version() -> None:
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert version is not None
    assert f"## [{version[1]}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_step_of_a_recipe_is_documented_with_its_extra() -> None:
    text = section(DOCS / "cleaning.md", "## Steps")
    for name, kind in STEPS.items():
        line = next((line for line in text.splitlines() if f"`{name}`" in line), None)
        assert line is not None, f"docs/cleaning.md has no step {name!r}"
        assert line.rstrip("| ").endswith(f"`{kind.extra}`") == bool(kind.extra), line


def test_the_example_of_a_recipe_is_one() -> None:
    text = (DOCS / "cleaning.md").read_text()
    spec = YAML(typ="safe").load(text.split("```yaml", 1)[1].split("```", 1)[0])
    CleanConfig.model_validate(spec["stages"]["clean"]["with"])
