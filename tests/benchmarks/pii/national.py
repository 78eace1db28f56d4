"""Numbers by which states know people, with right checksums."""

from __future__ import annotations

import string
from random import Random

from benchmarks.pii.checks import digits_of, grouped, verhoeff_digit, weighted


def us_ssn(random: Random) -> str:
    area = random.choice((random.randint(1, 665), random.randint(667, 899)))
    number = f"{area:03d}{random.randint(1, 99):02d}{random.randint(1, 9999):04d}"
    return random.choice((grouped(number, 3, 2, 4, by="-"),) * 3 + (grouped(number, 3, 2, 4), number))


def us_itin(random: Random) -> str:
    number = f"9{digits_of(random, 2)}{random.choice((50, 65, 70, 88, 90, 92, 94, 99))}{digits_of(random, 4)}"
    return grouped(number, 3, 2, 4, by="-")


def uk_nino(random: Random) -> str:
    prefix = random.choice(("AB", "CE", "HJ", "JK", "PR", "SW", "WX", "YZ"))
    number = prefix + digits_of(random, 6) + random.choice("ABCD")
    return random.choice((number, grouped(number, 2, 2, 2, 2, 1), grouped(number, 2, 2, 2, 2, 1), number.lower()))


def uk_nhs(random: Random) -> str:
    while True:
        body = random.choice("469") + digits_of(random, 8)
        check = 11 - weighted(body, (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
        if check != 10:
            number = body + str(check % 11)
            return random.choice((number, grouped(number, 3, 3, 4), grouped(number, 3, 3, 4, by="-")))


def de_idnr(random: Random) -> str:
    while True:
        digits = random.sample(string.digits, 9)
        digits.insert(random.randint(0, 9), random.choice(digits))
        if digits[0] != "0":
            break
    product = 10
    for d in digits:
        total = (int(d) + product) % 10 or 10
        product = total * 2 % 11
    number = "".join(digits) + str((11 - product) % 10)
    return random.choice((number, grouped(number, 2, 3, 3, 3), grouped(number, 2, 3, 3, 3)))


def fr_nir(random: Random) -> str:
    department = random.choice((*range(1, 20), *range(21, 96)))  # 20 became 2A and 2B
    body = f"{random.choice('12')}{random.randint(20, 99)}{random.randint(1, 12):02d}{department:02d}"
    body += f"{random.randint(1, 989):03d}{random.randint(1, 999):03d}"
    number = f"{body}{97 - int(body) % 97:02d}"
    return random.choice((number, grouped(number, 1, 2, 2, 2, 3, 3, 2)))


def es_dni(random: Random) -> str:
    letters = "TRWAGMYFPDXBNJZSQVHLCKE"
    if random.random() < 0.4:
        body = digits_of(random, 7)
        first = random.choice("XYZ")
        letter = letters[int(str("XYZ".index(first)) + body) % 23]
        return random.choice((f"{first}{body}{letter}", f"{first}-{body}-{letter}"))
    body = digits_of(random, 8)
    letter = letters[int(body) % 23]
    return random.choice((f"{body}{letter}", f"{body}-{letter}", f"{body[:2]}.{body[2:5]}.{body[5:]}-{letter}"))


_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
"""What a letter counts at an odd place; a digit counts as the letter of its rank."""


def it_codicefiscale(random: Random) -> str:
    letters = "".join(random.choice("BCDFGLMNPRSTVZ") for _ in range(6))
    day = random.randint(1, 28) + random.choice((0, 40))
    born = f"{random.randint(30, 99)}{random.choice('ABCDEHLMPRST')}{day:02d}"
    body = f"{letters}{born}{random.choice('ABCDEFGHIL')}{random.randint(100, 999)}"
    odd = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", (*_ODD[:10], *_ODD), strict=True))
    total = sum(odd[c] if i % 2 == 0 else int(c) if c.isdigit() else ord(c) - 65 for i, c in enumerate(body))
    number = body + chr(65 + total % 26)
    return random.choice((number, number, number.lower(), grouped(number, 3, 3, 5, 5)))


def nl_bsn(random: Random) -> str:
    while True:
        body = random.choice("12345") + digits_of(random, 7)
        check = weighted(body, (9, 8, 7, 6, 5, 4, 3, 2)) % 11
        if check != 10:
            number = body + str(check)
            return random.choice((number, number, grouped(number, 4, 2, 3, by="."), grouped(number, 3, 3, 3)))


def pl_pesel(random: Random) -> str:
    month = random.randint(1, 12)
    body = f"{random.randint(40, 99)}{month:02d}{random.randint(1, 28):02d}{digits_of(random, 4)}"
    return body + str(-weighted(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10)


def br_cpf(random: Random) -> str:
    number = digits_of(random, 9)
    for _ in range(2):
        total = sum(int(d) * w for d, w in zip(number, range(len(number) + 1, 1, -1), strict=True))
        number += str(total * 10 % 11 % 10)
    return random.choice((f"{number[:3]}.{number[3:6]}.{number[6:9]}-{number[9:]}",) * 3 + (number,))


def in_aadhaar(random: Random) -> str:
    body = random.choice("23456789") + digits_of(random, 10)
    number = body + verhoeff_digit(body)
    return random.choice((grouped(number, 4, 4, 4), grouped(number, 4, 4, 4), number))
