"""Making what is served equal what is desired: reads the endpoints' refs, loads what is new, swaps, reports.

The refs are the truth; a signal only says that it is worth a look. So a lost signal, a broker that is away and a server
that starts late all come right by the next look.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog
from pydantic import ValidationError

from millrace import errors
from millrace.contracts.events import EndpointDesired, ErrorInfo
from millrace.store import Store
from millrace_deployment.registry import Registry, Served
from millrace_deployment.reporting import Reporter

REF_PREFIX = "endpoints/"
LOOK_EVERY_S = 2.0
MAX_LOAD_ATTEMPTS = 5
"""Of a load that failed for a reason that may pass, such as a store that is away."""

Load = Callable[[EndpointDesired], Served]

log = structlog.get_logger()


class Reconciler:
    """Follows the desired state of all endpoints of one tenant. One thread; models are loaded one at a time.

    Args:
        load: Fetches, verifies, loads and warms a model; may take minutes.
        retire: Told the model that was replaced, which may still have requests to answer.
    """

    def __init__(
        self, store: Store, registry: Registry, reporter: Reporter, *, load: Load, retire: Callable[[Served], None]
    ) -> None:
        self._store = store
        self._registry = registry
        self._reporter = reporter
        self._load = load
        self._retire = retire
        self._wake = threading.Event()
        self._attempts: dict[tuple[str, int], int] = {}
        self._refused: set[str] = set()
        self.has_looked = threading.Event()

    def wake(self) -> None:
        """Look now: a signal said that something changed."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Look at once, on every wake, and every two seconds until told to stop."""
        while not stop.is_set():
            try:
                self.look()
            except errors.MillraceError as error:
                log.warning("endpoints_unreadable", reason=error.message)
            except Exception:  # a fault of one look must not end the server; the next look is in two seconds
                log.exception("reconciliation_failed")
            self._wake.wait(LOOK_EVERY_S)
            self._wake.clear()

    def look(self) -> None:
        """Read every endpoint's ref and act on those that are newer than what is known.

        Raises:
            Unavailable, Unauthorized: The store does not answer; what is served goes on.
        """
        for name in list(self._store.list_refs(REF_PREFIX)):
            desired = self._read(name)
            if desired is not None and self._is_due(desired):
                self._reconcile(desired)
        self.has_looked.set()

    def _read(self, ref_name: str) -> EndpointDesired | None:
        ref = self._store.read_ref(ref_name)
        if ref is None:
            return None
        try:
            return EndpointDesired.received(ref.target)
        except ValidationError:
            if ref.nonce not in self._refused:
                self._refused.add(ref.nonce)
                log.error("endpoint_ref_refused", ref=ref_name)
            return None

    def _is_due(self, desired: EndpointDesired) -> bool:
        known = self._registry.generation(desired.name)
        if desired.generation > known:
            return True
        return desired.generation == known and 0 < self._attempts.get((desired.name, known), 0) < MAX_LOAD_ATTEMPTS

    def _reconcile(self, desired: EndpointDesired) -> None:
        self._registry.expect(desired)
        if desired.release == 0 or desired.model is None:
            self._swap(desired, None)
            self._reporter.report(desired, "stopped")
            return
        try:
            served = self._load(desired)
        except Exception as error:  # whatever a model does on loading, the server goes on and says so
            self._failed(desired, error)
            return
        self._swap(desired, served)
        self._reporter.report(desired, "ready")

    def _swap(self, desired: EndpointDesired, served: Served | None) -> None:
        self._attempts.pop((desired.name, desired.generation), None)
        replaced = self._registry.install(desired, served)
        log.info("endpoint_swapped", endpoint=desired.name, generation=desired.generation, release=desired.release)
        if replaced is not None:
            self._retire(replaced)

    def _failed(self, desired: EndpointDesired, error: Exception) -> None:
        """Say that it failed; if it may pass, only after the last of several attempts."""
        key = (desired.name, desired.generation)
        info = _info(error, desired)
        attempts = self._attempts[key] = self._attempts.get(key, 0) + 1
        if info.code == "stage_failed":
            log.exception("model_load_failed", endpoint=desired.name, generation=desired.generation, exc_info=error)
        else:
            log.warning("model_load_failed", endpoint=desired.name, reason=info.message, attempt=attempts)
        self._registry.fail(desired, info)
        if not info.retryable:
            self._attempts.pop(key)
        if not info.retryable or attempts == MAX_LOAD_ATTEMPTS:
            self._reporter.report(desired, "failed", info)


def _info(error: Exception, desired: EndpointDesired) -> ErrorInfo:
    if isinstance(error, errors.MillraceError):
        return ErrorInfo.model_validate(errors.to_payload(error))
    digest = desired.model.digest[:12] if desired.model else ""
    return ErrorInfo(
        code="stage_failed",
        message=f"Model {digest} could not be loaded ({type(error).__name__}).",
        remedy="The model server's log has the cause.",
    )
