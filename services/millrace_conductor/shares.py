"""Fair shares as pure functions: how the free places of a resource class are divided among tenants, and what a limit lets in.

A tenant's share is weighted max-min over the places it holds: nobody has more than another could use in proportion to
its weight, and what one does not use the others get.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """What a tenant asks of a resource class.

    Attributes:
        held: Places that its dispatched and running tasks have.
        waiting: Tasks that could take a place now.
        weight: Greater than 0.
        luck: In (0, 1], drawn anew for each division; decides who gets a place that is nobody's by right.
    """

    held: int
    waiting: int
    weight: float = 1.0
    luck: float = 1.0


def divide(free: int, claims: Mapping[str, Claim]) -> dict[str, int]:
    """Give every free place to a tenant that waits, and return how many each gets; those who get none are left out.

    A tenant first gets the whole places of its ideal share; the places that are left go by a lottery in which the
    fraction that a share lacks is the chance. So even where places are fewer than tenants each has its turn.

    Returns:
        As many as wait, or as are free. None of those who get some then holds more than its ideal share rounded up.
    """
    ideals = ideal_shares(free, claims)
    seats = [_seat(claim, ideals[name], 0, name) for name, claim in claims.items() if claim.waiting > 0]
    heapq.heapify(seats)
    given: dict[str, int] = {}
    left = min(free, sum(c.waiting for c in claims.values()))
    while left > 0:
        name = heapq.heappop(seats)[-1]
        given[name] = given.get(name, 0) + 1
        left -= 1
        if given[name] < claims[name].waiting:
            heapq.heappush(seats, _seat(claims[name], ideals[name], given[name], name))
    return given


def ideal_shares(free: int, claims: Mapping[str, Claim]) -> dict[str, float]:
    """The weighted max-min division, in fractions, of all places that are free or held by these tenants.

    Nobody's share is above what it holds and waits for; held places are not taken away, so a tenant may hold more.
    """
    places = float(max(free, 0) + sum(c.held for c in claims.values()))
    ideals: dict[str, float] = {}
    open_weight = sum(c.weight for c in claims.values())
    for name, claim in sorted(claims.items(), key=lambda item: (item[1].held + item[1].waiting) / item[1].weight):
        share = min(float(claim.held + claim.waiting), places * claim.weight / open_weight)
        ideals[name] = share
        places -= share
        open_weight -= claim.weight
    return ideals


def let_in(candidates: Iterable[int], *, held: int, smallest: int | None, ruled: int | None = None) -> int:
    """How many tasks at the head of a limit's lane may start now, in order and without overtaking.

    Args:
        candidates: The maximum that each one's own stage names.
        held: How many tasks hold the key.
        smallest: The least maximum that those name; None if nobody holds it.
        ruled: The operator's maximum, which stands in for all of them.
    """
    num = 0
    for own in candidates:
        smallest = own if smallest is None else min(own, smallest)
        if held + num >= (smallest if ruled is None else ruled):
            break
        num += 1
    return num


def _seat(claim: Claim, ideal: float, given: int, name: str) -> tuple[int, float, float, str]:
    """The order in which a tenant's next place is given: by right, then by lot, then for want of anyone better."""
    had = claim.held + given
    if had + 1 <= ideal:
        return 0, (had + 1) / claim.weight, -claim.luck, name
    lacking = ideal - had
    if lacking > 0:  # of several exponential clocks the first rings with a chance in proportion to its rate
        return 1, -math.log(claim.luck) / lacking, -claim.luck, name
    return 2, (had + 1) / claim.weight, -claim.luck, name
