"""Settings that every process reads once, from `MILLRACE_*` variables; a service adds its own in its package."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from millrace import errors
from millrace.contracts.faults import said
from millrace.contracts.ids import DEFAULT_TENANT, Name


class Settings(BaseSettings):
    """Where things are. Unset URLs mean the embedded factory under `home`."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_", frozen=True, extra="ignore")

    home: Path = Field(default=Path("~/.millrace"), description="State of the embedded factory, caches and logs.")
    tenant: Name = Field(default=DEFAULT_TENANT, description="Whose data this process works on.")
    broker_url: str = Field(
        default="", description="amqp://user:password@host:port/vhost; empty: SQLite under home.", repr=False
    )
    database_url: str = Field(
        default="", description="postgresql://user:password@host:port/name; empty: SQLite under home.", repr=False
    )
    store_url: str = Field(
        default="", description="s3+http://host:port/bucket or s3+https://...; empty: a directory under home."
    )
    store_access_key: str = Field(default="", description="S3 access key.")
    store_secret_key: SecretStr = Field(default=SecretStr(""), description="S3 secret key.")
    store_region: str = Field(default="us-east-1", description="S3 region; sent always, so that no lookup is made.")
    pii_key: SecretStr = Field(
        default=SecretStr(""),
        description="Key of the reversible tokens that the step `pii` makes, at least 32 characters; cleaning workers alone "
        "need it.",
    )
    gateway_host: str = Field(
        default="127.0.0.1", description="Address the gateway binds; loopback unless said otherwise."
    )
    gateway_port: int = Field(default=8470, ge=0, le=65535, description="Port of the gateway; 0 takes a free one.")
    serve_host: str = Field(default="127.0.0.1", description="Address the model server binds.")
    serve_port: int = Field(default=8471, ge=0, le=65535, description="Port of the model server; 0 takes a free one.")
    serve_url: str = Field(
        default="", description="How others reach this model server; empty: http://host:port as bound."
    )
    metrics_port: int = Field(
        default=0, ge=-1, le=65535, description="Port of this process's Prometheus endpoint; 0: a free one; -1: none."
    )
    slots: int = Field(
        default=2,
        ge=1,
        le=256,
        description="CPU attempts at once in one worker; two, as one core each is usual on a laptop.",
    )
    tenant_weights: Annotated[Mapping[str, float], NoDecode] = Field(
        default={},
        description="Shares of the slots, such as `reviews=2,search=1` or JSON, read by conductors; a tenant that is not "
        "named weighs 1.",
    )
    lease_s: float = Field(
        default=30.0, gt=0, description="Silence after which an attempt is lost; long enough for a slow disk."
    )
    heartbeat_s: float = Field(
        default=5.0, gt=0, description="How often a worker says that it lives; six chances a lease."
    )
    warm_s: float = Field(
        default=60.0, ge=0, description="How long an idle zygote or child stays; a torch one holds about 250 MB."
    )
    reuse: bool = Field(
        default=True,
        description="Whether a child goes on to further short attempts of its kind and tenant; false: a fork for each, which "
        "costs ten times as much.",
    )
    cache_max_bytes: int = Field(
        default=50 * 10**9,
        ge=0,
        description="How much of what attempts fetched a host keeps under home, beyond what they use now; 0: all. Several "
        "runs' data and models fit.",
    )
    grace_s: float = Field(
        default=20.0, ge=0, description="How long attempts may go on after SIGTERM; then they are handed back."
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="Address the Prometheus endpoint binds; 0.0.0.0 in a container."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is logged; libraries are heard from warning on."
    )
    log_format: Literal["json", "console"] = Field(default="json", description="json for machines, console for people.")
    gc_grace_s: float = Field(
        default=86400.0,
        gt=0,
        description="How long nothing is collected that was stored or touched; the same in all processes. A day: twice the "
        "longest outage between storing and announcing that loses nothing.",
    )
    gc_interval_s: float = Field(
        default=86400.0, ge=0, description="How often conductors collect garbage; 0: only `millrace gc` does."
    )
    gc_runs_days: float = Field(
        default=30.0, ge=0, description="How long an ended run keeps its events and tasks; 0: for ever."
    )
    gc_cache_days: float = Field(
        default=30.0, ge=0, description="How long a cached answer stays that nobody uses; 0: for ever."
    )
    gc_uploads_days: float = Field(
        default=30.0, ge=0, description="How long an upload stays that no run was given; 0: for ever."
    )
    gc_dead_letters_days: float = Field(
        default=90.0, ge=0, description="How long dead letters stay, with their evidence; 0: for ever."
    )
    otel_endpoint: str = Field(default="", description="OTLP/HTTP endpoint for traces; empty: none are exported.")

    @field_validator("home")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("tenant_weights", mode="before")
    @classmethod
    def _weights(cls, value: object) -> object:
        return _parsed_weights(value) if isinstance(value, str) else value

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, value: str) -> str:
        return _scheme(value, ("amqp", "amqps", "embedded"))

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str) -> str:
        return _scheme(value, ("postgresql", "sqlite"))

    @field_validator("store_url")
    @classmethod
    def _store(cls, value: str) -> str:
        return _scheme(value, ("s3+http", "s3+https", "file"))

    @property
    def broker(self) -> str:
        """The broker's URL; `embedded:///path` is a directory with the SQLite transport's files."""
        return self.broker_url or f"embedded://{self.home / 'bus'}"

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite://{self.home / 'ledger.sqlite'}"

    @property
    def store(self) -> str:
        return self.store_url or f"file://{self.home / 'store'}"

    @property
    def is_embedded(self) -> bool:
        return not self.broker_url and not self.database_url and not self.store_url


def _scheme(value: str, allowed: tuple[str, ...]) -> str:
    if value and urlsplit(value).scheme not in allowed:
        raise ValueError(f"expected a URL that starts with {' or '.join(f'{s}://' for s in allowed)}")
    return value


def _parsed_weights(text: str) -> dict[str, float]:
    if text.lstrip().startswith("{"):
        try:
            pairs = list(json.loads(text).items())
        except ValueError:
            raise ValueError("expected pairs such as reviews=2,search=1, or a JSON object") from None
    else:
        pairs = [tuple(part.split("=", 1)) for part in text.split(",") if part.strip()]
    weights = {}
    for pair in pairs:
        try:
            name, weight = str(pair[0]).strip(), float(pair[1])
        except (IndexError, TypeError, ValueError):
            raise ValueError(f"expected tenant=weight with a number, found {'='.join(map(str, pair))!r}") from None
        if not name or not 0 < weight < math.inf:
            raise ValueError(f"expected a tenant and a weight greater than 0, found {name}={weight:g}")
        weights[name] = weight
    return weights


S = TypeVar("S", bound=Settings)


def load_settings(cls: type[S] = Settings) -> S:  # type: ignore[assignment]  # the default is the bound itself
    """Read the environment once, into Settings or a service's own subclass of it.

    Raises:
        InvalidInput: A variable has a wrong value; the message names it and never repeats a secret.
    """
    try:
        return cls()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = "MILLRACE_" + "_".join(str(part) for part in first["loc"]).upper()
        raise errors.InvalidInput(said(first), field=name, remedy="Correct or unset the variable.") from None
