"""Fair shares: every free place is used, nobody has more than its share, everybody has its turn."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from millrace import errors
from millrace.settings import load_settings
from millrace_conductor.shares import Claim, divide, ideal_shares, let_in


def claims_of(rng: random.Random) -> dict[str, Claim]:
    """Tenants of all kinds: idle ones, greedy ones, ones that hold too much already."""
    return {
        f"t{n}": Claim(
            held=rng.choice([0, 0, 1, rng.randrange(12)]),
            waiting=rng.choice([0, 1, rng.randrange(20), 100_000]),
            weight=rng.choice([1.0, 1.0, 2.0, 0.25, 7.5]),
            luck=1.0 - rng.random(),
        )
        for n in range(rng.randrange(1, 9))
    }


@pytest.fixture(scope="module")
def cases() -> list[tuple[int, dict[str, Claim]]]:
    """Free places and claims of 500 moments."""
    made = random.Random(1)
    return [(made.randrange(30), claims_of(made)) for _ in range(500)]


def test_all_free_places_are_given_to_those_who_wait_and_no_more(cases: list[tuple[int, dict[str, Claim]]]) -> None:
    for free, claims in cases:
        given = divide(free, claims)
        assert sum(given.values()) == min(free, sum(c.waiting for c in claims.values()))
        assert all(0 < n <= claims[name].waiting for name, n in given.items())


def test_shares_are_within_one_of_the_ideal(cases: list[tuple[int, dict[str, Claim]]]) -> None:
    for free, claims in cases:
        given, ideals = divide(free, claims), ideal_shares(free, claims)
        after = {name: c.held + given.get(name, 0) for name, c in claims.items()}
        assert all(after[name] <= math.ceil(ideals[name] + 1e-9) for name in given)
        if all(c.held <= ideals[name] + 1e-9 for name, c in claims.items()):  # nobody holds a place that is another's
            assert all(abs(after[name] - ideals[name]) < 1 + 1e-9 for name in claims)


def test_the_ideal_gives_nobody_less_than_a_richer_one_who_could_give(
    cases: list[tuple[int, dict[str, Claim]]],
) -> None:
    for free, claims in cases:
        ideals = ideal_shares(free, claims)
        wanted = {name: c.held + c.waiting for name, c in claims.items()}
        places = free + sum(c.held for c in claims.values())
        assert sum(ideals.values()) == pytest.approx(min(places, sum(wanted.values())))
        richest = max(ideals[name] / c.weight for name, c in claims.items())
        short = [ideals[name] / c.weight for name, c in claims.items() if ideals[name] < wanted[name] - 1e-9]
        assert all(level == pytest.approx(richest) for level in short)


def served(weights: Sequence[float], *, places: int, rounds: int, backlog: Sequence[int]) -> Counter[int]:
    """How many tasks of each tenant are done when places are freed one at a time, at random."""
    rng = random.Random(7)
    held, done = Counter[int](), Counter[int]()
    for _ in range(rounds):
        claims = {
            str(n): Claim(held[n], backlog[n], weight, luck=1.0 - rng.random()) for n, weight in enumerate(weights)
        }
        for name, count in divide(places - held.total(), claims).items():
            held[int(name)] += count
        ended = rng.choice(sorted(held.elements()))
        held[ended] -= 1
        done[ended] += 1
    return done


def test_a_noisy_tenant_takes_no_more_than_its_half() -> None:
    done = served([1, 1], places=8, rounds=4000, backlog=[100_000, 5])
    assert done[1] / done.total() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("places", [1, 2, 3])
def test_nobody_starves_where_places_are_fewer_than_tenants(places: int) -> None:
    done = served([1, 1, 1, 1, 5], places=places, rounds=4000, backlog=[9] * 5)
    assert all(done[n] > 4000 * 0.05 for n in range(5))
    assert done[4] > max(done[n] for n in range(4))


def test_weights_are_kept_over_time() -> None:
    done = served([3, 1], places=16, rounds=4000, backlog=[100, 100])
    assert done[0] / done[1] == pytest.approx(3, rel=0.1)


def test_who_waits_for_nothing_leaves_its_share_to_the_others() -> None:
    assert divide(6, {"a": Claim(0, 100), "b": Claim(0, 0), "c": Claim(0, 1)}) == {"a": 5, "c": 1}


def test_who_holds_too_much_gets_nothing_until_the_others_have_caught_up() -> None:
    assert divide(3, {"a": Claim(9, 100), "b": Claim(0, 100), "c": Claim(1, 100)}) == {"b": 2, "c": 1}


def test_a_limit_lets_in_the_smallest_maximum_of_those_who_hold_it() -> None:
    assert let_in([4, 4, 4, 4, 4], held=0, smallest=None) == 4
    assert let_in([4, 4], held=1, smallest=1) == 0
    assert let_in([4, 1, 4], held=0, smallest=None) == 1
    assert let_in([1, 4], held=2, smallest=4) == 0


def test_the_operators_maximum_stands_in_for_the_stages() -> None:
    assert let_in([1, 1, 1], held=0, smallest=None, ruled=2) == 2
    assert let_in([9, 9], held=0, smallest=None, ruled=0) == 0


@pytest.mark.parametrize("text", ["a=2, b=0.5", '{"a": 2, "b": 0.5}'])
def test_weights_are_pairs_or_json(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_TENANT_WEIGHTS", text)
    assert load_settings().tenant_weights == {"a": 2.0, "b": 0.5}


@pytest.mark.parametrize("text", ["a", "a=x", "a=0", "a=nan", "=1", "{", '{"a": "b"}', "[1]"])
def test_other_weights_are_refused_by_their_variable(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_TENANT_WEIGHTS", text)
    with pytest.raises(errors.InvalidInput) as caught:
        load_settings()
    assert caught.value.field == "MILLRACE_TENANT_WEIGHTS"
