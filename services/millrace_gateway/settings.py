"""The gateway's own settings, beside those that every process reads."""

from __future__ import annotations

from pydantic import Field

from millrace.settings import Settings


class GatewaySettings(Settings):
    """Limits and rhythms of the HTTP API."""

    gateway_max_body_bytes: int = Field(
        default=8 * 2**20, ge=1024, description="Largest JSON body; a spec of 4 MiB fits twice."
    )
    gateway_max_upload_bytes: int = Field(
        default=256 * 2**30, ge=1024, description="Largest upload; bounds the disk that one request can fill."
    )
    gateway_threads: int = Field(
        default=16, ge=2, le=256, description="Blocking calls to ledger and store at once; uploads have as many more."
    )
    gateway_poll_s: float = Field(
        default=1.0, gt=0, le=60, description="How soon a stream sees a new event when no signal announced it."
    )
    gateway_stream_heartbeat_s: float = Field(
        default=10.0, gt=0, le=300, description="Silence after which a stream says that it lives; below proxies' 60 s."
    )
    gateway_stream_backlog: int = Field(
        default=512, ge=1, description="Signals kept for one slow reader; the oldest are dropped first."
    )
    gateway_proxy_timeout_s: float = Field(
        default=120.0, gt=0, description="Longest wait for a model server; a long generation fits."
    )
    gateway_hosts: str = Field(
        default="",
        description="Comma-separated host names that requests may name. Empty: any, except that a gateway bound to "
        "loopback takes loopback names only, which keeps web pages that rebind DNS away.",
    )
