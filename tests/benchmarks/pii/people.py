"""How people are reached, what they pay with, and when they were born."""

from __future__ import annotations

import string
from random import Random

from benchmarks.pii.checks import digits_of, grouped, iban_of, luhn_digit

FIRST = ("anna", "bob", "carla", "dmitri", "eva", "finn", "grace", "hugo", "ines", "jörg", "kate", "li", "mara", "nils")
LAST = (
    "smith",
    "meyer",
    "rossi",
    "garcia",
    "novak",
    "tanaka",
    "okafor",
    "jensen",
    "dubois",
    "kumar",
    "oconnor",
    "silva",
)
HOSTS = (
    "example.com",
    "mail.example.org",
    "firma.de",
    "uni-bonn.example.de",
    "shop.co.uk",
    "beispiel.at",
    "acme.io",
    "dom.museum",
)


def email(random: Random) -> str:
    first, last, number = random.choice(FIRST), random.choice(LAST), random.randint(1, 999)
    local = random.choice(
        (
            f"{first}.{last}",
            f"{first}{number}",
            f"{first[0]}{last}",
            f"{first}_{last}",
            f"{first}.{last}+news",
            f"{last}-{first}{number}",
        )
    )
    if random.random() < 0.2:
        local = local.title()
    return f"{local}@{random.choice(HOSTS)}"


def phone(random: Random) -> str:
    def d(num: int) -> str:
        return digits_of(random, num)

    def n() -> str:
        return random.choice("23456789")

    def few() -> str:
        return random.choice("234568")

    us = random.choice(("212", "415", "312", "617", "206", "305", "713", "404"))
    exchange = f"{n()}{random.choice('023456789')}{d(1)}"
    return random.choice(
        (
            f"({us}) {exchange}-{d(4)}", f"{us}-{exchange}-{d(4)}", f"{us}.{exchange}.{d(4)}", f"+1 {us} {exchange} {d(4)}",
            f"+1-{us}-{exchange}-{d(4)}", f"+1{us}{exchange}{d(4)}", f"1-{us}-{exchange}-{d(4)}",
            f"+49 30 {n()}{d(6)}", f"030 {n()}{d(6)}", f"0171 {n()}{d(6)}", f"+49 (0)89 {n()}{d(6)}", f"+49171{n()}{d(6)}",
            f"089/{n()}{d(6)}", f"+44 20 7946 0{d(3)}", f"020 7946 0{d(3)}", f"07400 {n()}{d(5)}", f"+44 7400 {n()}{d(5)}",
            f"01 42 {n()}{d(1)} {d(2)} {d(2)}", f"06.12.{n()}{d(1)}.{d(2)}.{d(2)}", f"+33 6 12 {n()}{d(1)} {d(2)} {d(2)}",
            f"+34 612 {n()}{d(2)} {d(3)}", f"912 {n()}{d(2)} {d(3)}", f"+39 06 698{d(1)} {d(4)}", f"+39 347 {n()}{d(2)} {d(4)}",
            f"+31 20 {n()}{d(6)}", f"06-{few()}{d(7)}",
            f"+48 22 {n()}{d(2)} {d(2)} {d(2)}",
            f"+55 11 9{n()}{d(3)}-{d(4)}", f"(11) 9{n()}{d(3)}-{d(4)}", f"+91 98{d(3)} {d(5)}", f"0049 30 {n()}{d(6)}",
            f"+49-40-{n()}{d(6)}", f"+44 7911 12{d(4)}", f"+353 1 {random.choice('24678')}{d(2)} {d(4)}",
            f"+46 70 {d(3)} {d(2)} {d(2)}",
            f"+43 1 {n()}{d(6)}", f"+86 138 {d(4)} {d(4)}", f"+90 532 {d(3)} {d(2)} {d(2)}", f"0176/{n()}{d(6)}",
            f"040-{n()}{d(6)}",
            f"07400 {d(3)} {d(3)}", f"+91-98{d(3)}-{d(5)}", f"04.76.{d(2)}.{d(2)}.{d(2)}",
            f"+81 3-{n()}{d(3)}-{d(4)}", f"+61 2 9{d(3)} {d(4)}", f"+41 44 {n()}{d(2)} {d(2)} {d(2)}",
        )
    )  # fmt: skip


def iban(random: Random) -> str:
    country, bban = random.choice(
        (
            ("DE", digits_of(random, 18)), ("FR", digits_of(random, 10) + "00M" + digits_of(random, 8) + digits_of(random, 2)),
            ("GB", "NWBK" + digits_of(random, 14)), ("NL", "ABNA" + digits_of(random, 10)), ("ES", digits_of(random, 20)),
            ("IT", random.choice(string.ascii_uppercase) + digits_of(random, 22)), ("AT", digits_of(random, 16)),
            ("CH", digits_of(random, 17)), ("PL", digits_of(random, 24)), ("BE", digits_of(random, 12)),
            ("SE", digits_of(random, 20)),
            ("NO", digits_of(random, 11)), ("DK", digits_of(random, 14)), ("FI", digits_of(random, 14)),
            ("PT", digits_of(random, 21)),
            ("CZ", digits_of(random, 20)), ("IE", "AIBK" + digits_of(random, 14)), ("LU", digits_of(random, 16)),
            ("SA", digits_of(random, 20)), ("GR", digits_of(random, 23)), ("RO", "BTRL" + digits_of(random, 16)),
            ("HU", digits_of(random, 24)),
        )
    )  # fmt: skip
    number = iban_of(country, bban)
    grouped = " ".join(number[i : i + 4] for i in range(0, len(number), 4))
    return random.choice((number, grouped, grouped, number.lower(), grouped.replace(" ", "-")))


def card(random: Random) -> str:
    prefix, size = random.choice(
        (("4", 16), ("51", 16), ("55", 16), ("2221", 16), ("34", 15), ("37", 15), ("6011", 16), ("3528", 16))
    )
    body = prefix + digits_of(random, size - 1 - len(prefix))
    number = body + luhn_digit(body)
    if size == 15:
        return random.choice((number, grouped(number, 4, 6, 5), grouped(number, 4, 6, 5, by="-")))
    return random.choice((number, grouped(number, 4, 4, 4, 4), grouped(number, 4, 4, 4, 4, by="-")))


def birth_date(random: Random) -> str:
    day, month, year = random.randint(1, 28), random.randint(1, 12), random.randint(1930, 2010)
    names = (
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    )
    name = names[month - 1]
    return random.choice(
        (
            f"{day:02d}/{month:02d}/{year}", f"{day:02d}.{month:02d}.{year}", f"{year}-{month:02d}-{day:02d}",
            f"{day} {name} {year}",            f"{name} {day}, {year}", f"{day} {name[:3]} {year}",
            f"{day}th of {name}, {year}", f"{day}-{month}-{year}",
        )
    )  # fmt: skip


def passport(random: Random) -> str:
    def check(value: str) -> str:
        return str(sum((0 if c == "<" else int(c, 36)) * (7, 3, 1)[i % 3] for i, c in enumerate(value)) % 10)

    number = random.choice(string.ascii_uppercase) + digits_of(random, 8)
    birth = f"{random.randint(30, 99)}{random.randint(1, 12):02d}{random.randint(1, 28):02d}"
    expiry = f"{random.randint(27, 36)}{random.randint(1, 12):02d}{random.randint(1, 28):02d}"
    name = f"P<UTO{random.choice(LAST).upper()}<<{random.choice(FIRST[:9]).upper()}".ljust(44, "<")
    own = "<" * 14
    fields = (
        number + check(number) + "UTO" + birth + check(birth) + random.choice("MF") + expiry + check(expiry) + own + "0"
    )
    whole = check(fields[:10] + fields[13:20] + fields[21:43])
    return f"{name}\n{fields}{whole}"
