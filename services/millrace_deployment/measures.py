"""What the model server tells Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class Measures:
    """Counters of one server, in a registry of its own so that two servers can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "millrace_requests", "Answered requests.", ("endpoint", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "millrace_request_seconds", "From the request's last byte to its answer.", ("endpoint", "route"),
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.batch_rows = Histogram(
            "millrace_batch_rows", "Rows that one call of a model took.", ("endpoint",),
            buckets=_ROWS, registry=self.registry,
        )  # fmt: skip
        self.tokens = Counter(
            "millrace_generated_tokens", "Generated pieces of text.", ("endpoint",), registry=self.registry
        )
        self.generation = Gauge(
            "millrace_endpoint_generation", "Generation of the endpoint that answers.", ("endpoint",),
            registry=self.registry,
        )  # fmt: skip
        self.queued_rows = Gauge(
            "millrace_queued_rows", "Rows that wait for the model.", ("endpoint",), registry=self.registry
        )
