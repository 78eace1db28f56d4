"""A simulated world: conductors, workers, model servers and clients, what fails among them, and when all is at rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from millrace import errors
from millrace.ledger.ledger import Ledger
from millrace.settings import Settings
from millrace.testing.faults import FaultPoint, Faults
from millrace.testing.faulty import FaultyBus, FaultyDatabase, FaultyStore
from millrace.testing.simulation.attempts import Attempt
from millrace.testing.simulation.broker import Broker, MemoryBus
from millrace.testing.simulation.clients import Clients
from millrace.testing.simulation.clock import EPOCH, Clock
from millrace.testing.simulation.conductors import SimulatedConductor
from millrace.testing.simulation.database import new_ledger
from millrace.testing.simulation.pipelines import CLASSES, LEASE_S, SERVICES, TENANTS, random_run
from millrace.testing.simulation.process import Process, Steps, die
from millrace.testing.simulation.store import MemoryStore
from millrace.testing.simulation.striking import Striking
from millrace.testing.simulation.workers import Offer, SimulatedServer, SimulatedWorker

HEARTBEAT_S = 1.5
NUM_CONDUCTORS = 2
SUBMIT_WITHIN_S = 12.0
FAULTS_FOR_S = 25.0
CHAOS_EVERY_S = 1.0
LATE_S = (0.5, 10.0)

_TOO_MANY_TASKS = (
    "SELECT limit_key, COUNT(*) FROM tasks WHERE limit_key <> '' AND status IN ('dispatched', 'running')"
    " GROUP BY tenant, limit_key HAVING COUNT(*) > 1"
)
_TOO_MANY_RUNS = (
    "SELECT pipeline, COUNT(*) FROM runs WHERE status IN ('running', 'paused') AND started_at IS NOT NULL"
    " GROUP BY tenant, pipeline HAVING COUNT(*) > MIN(max_runs)"
)

_CRASHES = frozenset(p for p in FaultPoint if "CRASH" in p.name)


@dataclass(slots=True)
class _Host:
    """Where a worker runs, and the next one when it has died."""

    offer: Offer
    worker: SimulatedWorker | None = None
    num_workers: int = 0


class World:
    """Everything that one seed makes. `run` lets it happen until it is at rest, or until it should long have been."""

    def __init__(self, clock: Clock, seed: int, *, focus: FaultPoint | None, num_runs: int) -> None:
        self.clock = clock
        self.random = Random(seed)
        self.settings = Settings(home=Path("/simulated"), lease_s=LEASE_S, heartbeat_s=HEARTBEAT_S)
        self.striking = Striking(Random(seed + 1), self.clock, focus=focus, until=EPOCH + FAULTS_FOR_S)
        self.database = new_ledger()
        self.stores = {tenant: MemoryStore(tenant, self.clock) for tenant in TENANTS}
        self.broker = Broker(self.clock, self.random)
        self._num_late = 0
        self._failures: dict[str, int] = {}
        self._conductors: list[SimulatedConductor] = []
        self._hosts = [
            _Host(Offer((service,), resource_class, slots=2))
            for service in SERVICES for resource_class in CLASSES for _ in range(2 if resource_class == "cpu" else 1)
        ]  # fmt: skip
        for number in range(NUM_CONDUCTORS):
            self._start_conductor(number)
        for host in self._hosts:
            self._start_worker(host, ())
        for tenant in TENANTS:
            self._start_server(tenant)
        self.clients = self._start_clients(num_runs)
        self.excesses: list[str] = []
        chaos = Process(self.clock, "chaos")
        chaos.spawn(self._chaos())
        chaos.spawn(self._count())

    def run(self, until_s: float) -> None:
        """Go on until all is at rest after the last fault, or until so many seconds have passed."""
        next_look = EPOCH + FAULTS_FOR_S
        while self.clock.now < EPOCH + until_s:
            self.clock.step()
            if self.clock.now >= next_look:
                next_look = self.clock.now + CHAOS_EVERY_S
                if self._is_at_rest():
                    return

    def store_of(self, tenant: str) -> MemoryStore:
        return self.stores[tenant]

    def later(self, work: Callable[[], object]) -> None:
        """Do it some seconds from now: what was confirmed is not lost, even if the broker is away just then."""
        self._num_late += 1

        def do() -> None:
            self._num_late -= 1
            try:
                work()
            except errors.Unavailable:
                self.later(work)

        self.clock.after(self.random.uniform(*LATE_S), do)

    def _is_at_rest(self) -> bool:
        """Nothing is left to do, waits in a queue, or is on its way: what was confirmed may not have arrived yet."""
        waits = self.database.read(
            "SELECT (SELECT COUNT(*) FROM runs WHERE status IN ('queued', 'running')) + (SELECT COUNT(*) FROM inbox)"
            " + (SELECT COUNT(*) FROM outbox)"
        )
        queues = self.broker.queues.values()
        is_said = all(not q.ready and not q.num_unacknowledged for q in queues)
        return is_said and waits == [(0,)] and not self.clients.num_open and not self._num_late

    # --- starting

    def _faults(self, process: Process) -> Faults:  # noqa: ARG002
        return Faults(self.striking, die, self.later)

    def _start_conductor(self, number: int) -> None:
        process = Process(self.clock, f"conductor-{number}")
        faults = self._faults(process)
        conductor = SimulatedConductor(
            process, self.settings, database=FaultyDatabase(self.database, faults),
            bus=FaultyBus(MemoryBus(self.broker, process), faults),
            store_of=lambda tenant: FaultyStore(self.stores[tenant], faults),
        )  # fmt: skip
        self._conductors.append(conductor)

        def come_again() -> None:
            self._conductors.remove(conductor)
            self.clock.after(self.random.uniform(0.3, 3.0), lambda: self._start_conductor(number))

        process.on_death.append(come_again)

    def _start_worker(self, host: _Host, left: tuple[Attempt, ...]) -> None:
        host.num_workers += 1
        index = self._hosts.index(host)
        process = Process(self.clock, f"worker-{index}-{host.num_workers}")
        faults = self._faults(process)
        worker = host.worker = SimulatedWorker(
            process, self.broker, FaultyBus(MemoryBus(self.broker, process), faults),
            lambda tenant: FaultyStore(self.stores[tenant], faults), self.striking, offer=host.offer,
            failures=self._failures, heartbeat_s=HEARTBEAT_S, left=left,
        )  # fmt: skip

        def come_again() -> None:
            left = tuple(worker.attempts) if self.random.random() < 0.5 else ()  # the host itself may be another
            self.clock.after(self.random.uniform(0.3, 3.0), lambda: self._start_worker(host, left))

        process.on_death.append(come_again)

    def _start_server(self, tenant: str) -> None:
        process = Process(self.clock, f"server-{tenant}")
        faults = self._faults(process)
        store = FaultyStore(self.stores[tenant], faults)
        server = SimulatedServer(process, FaultyBus(MemoryBus(self.broker, process), faults), store)
        process.spawn(server.steps())
        process.on_death.append(lambda: self.clock.after(1.0, lambda: self._start_server(tenant)))

    def _start_clients(self, num_runs: int) -> Clients:
        process = Process(self.clock, "clients")
        faults = Faults(lambda point: point not in _CRASHES and self.striking(point), die, self.later)
        bus = FaultyBus(MemoryBus(self.broker, process), faults)
        clients = Clients(Ledger(FaultyDatabase(self.database, faults)), bus, self.random)
        clients.num_open = num_runs
        for _ in range(num_runs):
            planned = random_run(self.random)
            delay_s = self.random.uniform(0.0, SUBMIT_WITHIN_S)
            process.after(delay_s, lambda planned=planned: process.spawn(clients.submit(planned)))  # type: ignore[misc]  # bound now
        return clients

    # --- what happens to whole processes and servers

    def _chaos(self) -> Steps:
        while self.clock.now < EPOCH + FAULTS_FOR_S:
            yield CHAOS_EVERY_S
            for conductor in list(self._conductors):
                if self.striking(FaultPoint.CONDUCTOR_KILLED):
                    conductor.process.kill()
                if self.striking(FaultPoint.CONDUCTOR_SUSPENDED):
                    conductor.process.suspend(LEASE_S * self.random.uniform(0.5, 3.0))
            for worker in self._live_workers():
                self._trouble(worker)
            if self.striking(FaultPoint.BROKER_OUTAGE):
                self.broker.is_away = True
                self.clock.after(self._outage_s(), self.broker.come_back)
            for point in (FaultPoint.DATABASE_OUTAGE, FaultPoint.STORE_OUTAGE):
                if self.striking(point):
                    self.striking.begin_outage(point, until=self.clock.now + self._outage_s())

    def _count(self) -> Steps:
        """Look now and then whether more is under way than limits allow."""
        while True:
            yield CHAOS_EVERY_S
            for what, sql in (("tasks hold", _TOO_MANY_TASKS), ("runs are open of", _TOO_MANY_RUNS)):
                self.excesses += [f"{count} {what} {name}" for name, count in self.database.read(sql)]

    def _trouble(self, worker: SimulatedWorker) -> None:
        if self.striking(FaultPoint.WORKER_KILLED):
            worker.process.kill()
        if self.striking(FaultPoint.WORKER_DRAINED):
            worker.process.call(worker.drain)
        if self.striking(FaultPoint.WORKER_SUSPENDED):
            worker.process.suspend(LEASE_S * self.random.uniform(0.5, 2.0))
            if self.random.random() < 0.5:
                worker.lose_connection()
        if self.striking(FaultPoint.WORKER_UNHEARD):
            worker.is_unheard = True
            self.clock.after(LEASE_S * self.random.uniform(0.5, 2.0), lambda: setattr(worker, "is_unheard", False))

    def _live_workers(self) -> Iterator[SimulatedWorker]:
        return (host.worker for host in self._hosts if host.worker is not None and host.worker.process.is_alive)

    def _outage_s(self) -> float:
        return self.random.uniform(1.0, 15.0)
