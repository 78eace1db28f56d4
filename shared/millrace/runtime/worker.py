"""`millrace worker SERVICE...`: a process that consumes commands and supervises attempts, a thread each."""

from __future__ import annotations

import argparse
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import structlog

from millrace import errors
from millrace.bus import Bus
from millrace.bus.connect import connect
from millrace.contracts.events import AttemptFailed, ErrorInfo
from millrace.contracts.graph import FUNCTIONS_SERVICE
from millrace.contracts.ids import new_id
from millrace.contracts.stages import installed_kinds
from millrace.runtime.announcer import Announcer
from millrace.runtime.children import Children
from millrace.runtime.consumption import Consumption
from millrace.runtime.devices import WorkerProcess, worker_plan
from millrace.runtime.digests import WorkerCode
from millrace.runtime.executor import Executor
from millrace.runtime.holdings import Holdings
from millrace.runtime.launcher import Launcher
from millrace.runtime.signals import on_stop_signal
from millrace.runtime.workdirs import Record, bury_dead, own_workdir
from millrace.settings import Settings, load_settings
from millrace.store import Store
from millrace.store.connect import open_store

log = structlog.get_logger()

ALL = "all"
YIELD_S = 5.0
"""How long handing attempts back may take after the grace: killing them, and the broker's confirms."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# OpenMP's threads wait for each other by spinning. On cores that others use too, a training took ten times as long so.
_WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}


class Worker:
    """One worker process's whole life. `run` blocks; `stop` may be set from anywhere."""

    def __init__(
        self, settings: Settings, services: Sequence[str], process: WorkerProcess, *, bus: Bus | None = None
    ) -> None:
        self.id = new_id("wrk")
        self.stop = threading.Event()
        self.is_ready = threading.Event()
        self._settings = settings
        self._services = tuple(services)
        self._process = process
        self._bus = bus or connect(settings.broker)
        self._digests = WorkerCode(services)
        self._fault: Exception | None = None
        self._announce = threading.Event()
        self._is_idle = threading.Event()

    def run(self) -> None:
        """Consume until `stop` is set, then drain: running attempts get their grace, then they are handed back.

        Raises:
            Unauthorized: Broker or store refuse the credentials. While they do not answer, the worker waits for them.
        """
        settings, process = self._settings, self._process
        try:
            self._bus.check()
        except errors.Unavailable as error:
            log.warning("broker_awaited", reason=str(error))
        try:
            open_store(settings, tenant=settings.tenant).check()
        except errors.Unavailable as error:
            log.warning("store_awaited", reason=str(error))
        num_threads = threads_per_attempt(os.cpu_count() or 1, process.slots)
        env = {**_thread_limits(num_threads), **process.env}
        launcher = Launcher(env=env, warm_s=settings.warm_s, max_idle=2 * process.slots)

        @lru_cache(maxsize=16)
        def store_of(tenant: str) -> Store:
            return open_store(settings, tenant=tenant)

        with own_workdir(settings.home, self.id) as workdir:
            announcer = Announcer(self._bus, self.id)
            children = Children(
                settings, resource_class=process.resource_class, num_threads=num_threads, bus=self._bus,
                launcher=launcher, holdings=Holdings(), workdir=workdir.path,
            )  # fmt: skip
            executor = Executor(
                settings, worker_id=self.id, announcer=announcer, children=children, store_of=store_of, workdir=workdir,
                digests=self._digests, beat=self._announce.set,
            )  # fmt: skip
            consumption = Consumption(
                settings.broker, self._services, process.resource_class, name=self.id, slots=process.slots,
                deliver=executor.deliver,
            )  # fmt: skip
            threads = [
                threading.Thread(target=self._beat, args=(executor, consumption, launcher), name="heartbeat"),
                threading.Thread(target=self._listen, args=(executor,), name="control"),
                threading.Thread(target=self._drain, args=(executor, consumption), name="drain"),
                threading.Thread(target=executor.say_starts, name="starts"),
            ]
            for thread in threads:
                thread.start()
            try:
                bury_dead(settings.home, lambda record: self._report(announcer, record), buried=self._bid_farewell)
                consumption.run()
            finally:
                self.stop.set()
                self._is_idle.set()
                self._announce.set()
                executor.close()
                for thread in threads:
                    thread.join(timeout=YIELD_S)
                launcher.close()
                self._bus.close()
        if self._fault is not None:
            raise self._fault
        log.info("worker_stopped", worker=self.id)

    def _report(self, announcer: Announcer, record: Record) -> bool:
        """Say of a holder in a worker that was killed that it is lost; a lease of silence would say so much later."""
        about = record.subject
        log.warning("attempt_lost", run=about.run_id, stage=about.stage, attempt=about.holder.attempt_id)
        lost = errors.WorkerLost(
            f"Worker {about.holder.worker} was killed.",
            remedy="Another attempt follows by itself; see the worker's host if it happens again.",
        )
        data = AttemptFailed(**dict(about), error=ErrorInfo.model_validate(errors.to_payload(lost)))
        return announcer.publish(data, tenant=record.tenant, traceparent=record.traceparent)

    def _bid_farewell(self, worker_id: str) -> None:
        """Say in a dead worker's place that it offers nothing: until its lease ended, its code and slots would count."""
        last = {"worker_id": worker_id, "host": socket.gethostname(), "services": [], "classes": {}, "busy": {}}
        self._bus.signal(f"worker.{worker_id}.heartbeat", {**last, "holders": [], "code": {}})

    def wake(self) -> None:
        """Look at `stop` now."""
        self._announce.set()

    def _beat(self, executor: Executor, consumption: Consumption, launcher: Launcher) -> None:
        """Say that this process lives, and who holds what; now and then, and whenever asked."""
        while not consumption.is_ready.wait(timeout=1):
            if self._is_idle.is_set():
                return
        self.is_ready.set()
        try:
            _ = (
                self._digests.by_kind
            )  # not before commands are taken: what was lost with a killed worker waits for them
        except Exception as error:  # a worker that cannot say what it runs must not go on unheard
            self._fault = error
            consumption.shut_down()
            return
        log.info("worker_ready", worker=self.id, services=self._services, resource_class=self._process.resource_class)
        while not self._is_idle.is_set():
            self._bus.signal(f"worker.{self.id}.heartbeat", self._heartbeat(executor))
            launcher.let_idle_go()
            self._announce.wait(self._settings.heartbeat_s)
            self._announce.clear()
        self._bus.signal(f"worker.{self.id}.heartbeat", self._heartbeat(executor))

    def _heartbeat(self, executor: Executor) -> dict[str, Any]:
        holders = executor.holders
        offered = 0 if self.stop.is_set() else self._process.slots
        return {
            "worker_id": self.id,
            "host": socket.gethostname(),
            "services": list(self._services),
            "classes": {self._process.resource_class: offered},
            "busy": {self._process.resource_class: len(holders)},
            "holders": holders,
            "code": dict(self._digests.by_kind),
        }

    def _listen(self, executor: Executor) -> None:
        def on_signal(_key: str, payload: Mapping[str, Any]) -> None:
            executor.stop(payload.get("stop", ()))
            executor.hold(payload.get("hold", ()))
            executor.take_back(payload.get("yield", ()))
            if payload.get("announce"):
                self._announce.set()

        self._bus.listen([f"control.worker.{self.id}", "control.all"], on_signal, stop=self._is_idle)

    def _drain(self, executor: Executor, consumption: Consumption) -> None:
        self.stop.wait()
        if self._is_idle.is_set():
            return
        log.info("worker_draining", worker=self.id, attempts=len(executor.holders))
        executor.drain()
        consumption.stop_taking()
        self._announce.set()
        if not executor.wait_idle(self._settings.grace_s):
            executor.yield_all()
            if not executor.wait_idle(YIELD_S):
                executor.abandon()
                executor.wait_idle(YIELD_S)
        executor.abandon()
        self._is_idle.set()
        consumption.shut_down()


def main(argv: Sequence[str]) -> int:
    """Run a worker for some services; for more than one resource class, one process each under a supervisor."""
    parser = argparse.ArgumentParser(prog="millrace worker", description=__doc__)
    parser.add_argument("services", nargs="+", metavar="SERVICE", help=f"Of: {', '.join([ALL, *known_services()])}.")
    parser.add_argument("--classes", default="", help="cpu, gpu or cpu,gpu; by default what this host has.")
    arguments = parser.parse_args(argv)
    settings: Settings = load_settings()
    services = expand_services(arguments.services)
    plan = worker_plan(slots=settings.slots, classes=[c for c in arguments.classes.split(",") if c])
    if len(plan) > 1:
        from millrace.runtime.supervisor import Supervisor, worker_processes

        return Supervisor(worker_processes(services, plan), home=settings.home).run()
    worker = Worker(settings, services, plan[0])
    with on_stop_signal(worker.stop, then=worker.wake):
        worker.run()
    return 0


def threads_per_attempt(num_cores: int, slots: int) -> int:
    """Twice an even share of the cores: seldom do all slots compute at once, and a run's stages follow each other.

    The number does not depend on who else is busy, so that equal attempts on a host give equal bytes.
    """
    return min(num_cores, max(1, 2 * num_cores // slots))


def known_services() -> list[str]:
    """Services of installed stage kinds, and `functions`."""
    return sorted({kind.service for kind in installed_kinds().values()} | {FUNCTIONS_SERVICE})


def expand_services(names: Sequence[str]) -> list[str]:
    """Check names of services; `all` is every one.

    Raises:
        InvalidInput: No installed stage kind has such a service.
    """
    known = known_services()
    for name in names:
        if name not in (ALL, *known):
            raise errors.InvalidInput(
                f"No service {name!r}; {errors.nearest(name, [ALL, *known])}",
                remedy=f"Install it: pip install 'millrace[{name}]'.",
                field="SERVICE",
            )
    return known if ALL in names else list(dict.fromkeys(names))


def _thread_limits(num_threads: int) -> dict[str, str]:
    """Caps and manners of the libraries' own thread pools, read when they are imported; what the user has set stays."""
    limits = {**dict.fromkeys(_THREAD_VARIABLES, str(num_threads)), **_WAITING}
    return {name: value for name, value in limits.items() if name not in os.environ}
