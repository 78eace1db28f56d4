"""Digits, and checksums as their issuers publish them."""

from __future__ import annotations

import string
from collections.abc import Callable
from random import Random


def digits_of(random: Random, num: int) -> str:
    return "".join(random.choice(string.digits) for _ in range(num))


def grouped(digits: str, *sizes: int, by: str = " ") -> str:
    parts, at = [], 0
    for size in sizes:
        parts.append(digits[at : at + size])
        at += size
    return by.join(parts)


def luhn_digit(body: str) -> str:
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(reversed(body)))
    return str(-total % 10)


def iban_of(country: str, bban: str) -> str:
    number = "".join(str(int(c, 36)) for c in bban + country + "00")
    return f"{country}{98 - int(number) % 97:02d}{bban}"


def verhoeff_digit(body: str) -> str:
    """From the dihedral group of ten elements."""

    def times(a: int, b: int) -> int:
        if a < 5:
            return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
        return 5 + (a - b) % 5 if b < 5 else (a - b) % 5

    def permuted(digit: int, place: int) -> int:
        for _ in range(place % 8):
            digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]
        return digit

    state = 0
    for place, digit in enumerate(reversed(body), start=1):
        state = times(state, permuted(int(digit), place))
    return next(str(d) for d in range(10) if times(d, state) == 0)


def weighted(body: str, weights: tuple[int, ...]) -> int:
    return sum(int(d) * w for d, w in zip(body, weights, strict=True))


def pattern(shape: str) -> Callable[[Random], str]:
    """`#` is a digit, `^` a digit from 2 to 9, `@` a capital, `%` a hexadecimal digit, all else itself."""
    of = {"#": "0123456789", "^": "23456789", "@": "ABCDEFGHJKLMNPRSTUVWXYZ", "%": "0123456789abcdef"}
    return lambda random: "".join(random.choice(of.get(c, c)) for c in shape)
