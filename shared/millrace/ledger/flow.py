"""What waits and what is at work, by resource class, for those who look on."""

from __future__ import annotations

from collections import Counter

from millrace.contracts.flow import QueuesView, QueueView
from millrace.ledger.database import Database
from millrace.ledger.limits import list_limits
from millrace.ledger.workers import live_workers, slots_of

Class = tuple[str, str]


def queues_of(database: Database, tenant: str, *, seen_after: float) -> QueuesView:
    """A tenant's queues; of other tenants only how many places they hold.

    Args:
        seen_after: Workers whose last word is older offer nothing.
    """
    slots = slots_of(live_workers(database, seen_after=seen_after))
    own, others = Counter[tuple[Class, str]](), Counter[Class]()
    for service, resource_class, num in database.read(
        "SELECT service, resource_class, COUNT(*) FROM tasks WHERE status = 'pending' AND tenant = ?"
        " GROUP BY service, resource_class",
        (tenant,),
    ):
        own[(str(service), str(resource_class)), "pending"] = int(num)
    for service, resource_class, owner, status, num in database.read(
        "SELECT service, resource_class, tenant, status, COUNT(*) FROM tasks WHERE status IN ('dispatched', 'running')"
        " GROUP BY service, resource_class, tenant, status"
    ):
        place = (str(service), str(resource_class))
        if owner == tenant:
            own[place, str(status)] = int(num)
        else:
            others[place] += int(num)
    places = sorted(slots.keys() | others.keys() | {place for place, _ in own})
    return QueuesView(
        queues=tuple(
            QueueView(
                service=place[0], resource_class=place[1],
                slots=slots.get(place, 0), pending=own[place, "pending"], dispatched=own[place, "dispatched"],
                running=own[place, "running"], others_held=others[place],
            )
            for place in places
        ),
        saturated=tuple(v for v in list_limits(database, tenant) if v.waiting and v.max is not None and v.held >= v.max),
    )  # fmt: skip
