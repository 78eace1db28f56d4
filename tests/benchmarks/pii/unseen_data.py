"""Data of the second set: of countries, makes and spellings that the first has not, or has otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from benchmarks.pii import national
from benchmarks.pii.checks import digits_of, grouped, iban_of, luhn_digit, pattern
from benchmarks.pii.corpus import Make
from benchmarks.pii.unseen_keys import crypto, secret

PHONES = (
    "+47 912 ## ###", "+45 20 12 ## ##", "+358 40 ### ####", "+32 470 ## ## ##", "+420 603 ### ###", "+30 694 ### ####",
    "+351 912 ### ###", "+52 55 5^## ####", "+54 9 11 5^##-####", "+27 82 ^## ####", "+64 21 ^## ###", "+65 9123 ####",
    "+82 10-^###-####", "+972 54-^##-####", "+7 916 ^##-##-##", "+380 67 ^## ## ##", "+971 50 ^## ####", "+234 803 ^## ####",
    "+36 30 ^## ####", "+40 722 ### ###", "+385 91 ^## ####", "+421 905 ### ###", "+386 41 ^## ###", "+372 5^## ####",
    "+352 621 ^## ###", "+62 812-^###-####", "+66 81 ^## ####", "0047 912 ## ###", "+452012####", "+358-40-###-####",
    "(503)^58-####", "503 ^58 ####", "(646) ^58 ####", "+1 (503) ^58-####", "+1.503.^58.####", "1 (800) ^58-####",
    "0161 496 0###", "(0131) 496 0###", "+44(0)161 496 0###", "07911 12####", "+44 (0) 7911 12####",
    "0151-2345 6###", "(089) ^## ### ##", "+49 221 ^## ## ##", "+49.30.^######", "0221 / ^#####", "+49 (151) 2345 6###",
    "01-42-3#-##-##", "+33(0)1 42 3# ## ##", "06 12 3# ## ##", "+33.6.12.3#.##.##", "93 412 ## ##", "+34 93 412 ## ##",
    "06 6982 ####", "347 ^######", "+39 02 ^### ####", "(020) ^2# ## ##", "06 1^ ^# ## ##", "+31 (0)20 ^2# ## ##",
    "601 ### ###", "22 ^2# ## ##", "+48 601-###-###", "(21) 3^##-####", "21 9^###-####", "+55 (21) 9^###-####",
    "98765 #####", "022-2^## ####", "+91 (22) 2^## ####",
)  # fmt: skip
IBANS = {
    "MT": "MALT#######################", "CY": "#" * 24, "EE": "#" * 16, "LV": "BANK#############", "LT": "#" * 16,
    "SI": "#" * 15, "SK": "#" * 20, "HR": "#" * 17, "BG": "BNBG##############", "IS": "#" * 22, "LI": "#" * 17,
    "TR": "#" * 22, "AE": "#" * 19, "IL": "#" * 19, "UA": "#" * 25, "DE": "#" * 18, "GB": "LOYD##############",
    "NL": "RABO##########", "FR": "#" * 23, "ES": "#" * 20,
}  # fmt: skip
CARDS = (
    ("65", 16), ("644", 16), ("6221", 16), ("36", 14), ("3056", 14), ("4", 16), ("2720", 16), ("54", 16), ("37", 15),
    ("3589", 16),
)  # fmt: skip
HOSTS = (
    "posteo.net", "lists.debian.example", "xn--mnchen-3ya.de", "3m.example", "cs.univ-lyon.fr", "correo.com.mx", "b.travel",
    "münchen-tours.de", "mail.gov.in", "students.unibo.it",
)  # fmt: skip
NAMES = ("zoe", "ibrahim", "o'neil", "yuki", "marta.k", "r2d2", "j.p.morris", "sven-erik", "lena_b", "petr")
MONTHS = {
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "it": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
    "en": "January February March April May June July August September October November December",
}


def email(random: Random) -> str:
    local = random.choice(NAMES) + random.choice(("", "", "", str(random.randint(1, 99)), "+shop", ".ext", "=x"))
    address = f"{local}@{random.choice(HOSTS)}"
    return address.upper() if random.random() < 0.15 else address


def phone(random: Random) -> str:
    return pattern(random.choice(PHONES))(random)


def iban(random: Random) -> str:
    country = random.choice(sorted(IBANS))
    number = iban_of(country, pattern(IBANS[country])(random))
    spaced = " ".join(number[i : i + 4] for i in range(0, len(number), 4))
    return random.choice((number, spaced, spaced, spaced.replace(" ", "\u00a0"), number.lower()))


def card(random: Random) -> str:
    prefix, size = random.choice(CARDS)
    body = prefix + digits_of(random, size - 1 - len(prefix))
    number = body + luhn_digit(body)
    sizes = {14: (4, 6, 4), 15: (4, 6, 5), 16: (4, 4, 4, 4)}[size]
    return random.choice((number, *(grouped(number, *sizes, by=by) for by in (" ", "-", "\u00a0"))))


def birth_date(random: Random) -> str:
    day, month, year = random.randint(1, 28), random.randint(1, 12), random.randint(1935, 2009)
    name = {language: names.split()[month - 1] for language, names in MONTHS.items()}
    return random.choice(
        (
            f"{day}. {name['de']} {year}", f"{day} {name['fr']} {year}", f"{day} de {name['es']} de {year}",
            f"{day} {name['it']} {year}", f"{day} {name['nl']} {year}", f"{name['en'][:3]} {day}, {year}",
            f"{name['en'][:3]}. {day}, {year}", f"{day}/{month}/{year}", f"{month:02d}/{day:02d}/{year % 100:02d}",
            f"{day}.{month}.{year}", f"{year}/{month:02d}/{day:02d}", f"{day:02d}-{name['en'][:3]}-{year}",
            f"{year}-{month:02d}-{day:02d}", f"{day}. {month}. {year}",
        )
    )  # fmt: skip


def ipv4(random: Random) -> str:
    first = random.choice((1, 5, 34, 66, 77, 118, 142, 178, 199, 217))
    return f"{first}.{random.randint(0, 255)}.{random.randint(0, 255)}.{random.randint(0, 255)}"


def ipv6(random: Random) -> str:
    head = random.choice(("2001:41d0", "2a01:4f8", "2804:14c", "240e:3b7"))
    return pattern(
        random.choice((f"{head}::1", f"{head}:%%%:%%%%::2", f"{head}:%:^%:^%%%:%%%%:%%%%:^%%%", f"{head}:0:0:0:0:0:^%"))
    )(random)


def mac(random: Random) -> str:
    pairs = [f"{random.choice((0x00, 0x18, 0x5C, 0xB8, 0xF0)):02x}", *(pattern("%%")(random) for _ in range(5))]
    joined = random.choice((":", "-", ":")).join(pairs)
    return random.choice(
        (joined, joined.upper(), "".join(pairs[:2]) + "." + "".join(pairs[2:4]) + "." + "".join(pairs[4:]))
    )


def credentials(random: Random) -> str:
    user = random.choice(("root", "svc_backup", "deploy-bot", "zoe%40corp", "admin"))
    password = pattern(random.choice(("hunter^", "p%40ss%%##", "Sommer20^#!", "^k_%%%%-%%%%", "changeme")))(random)
    return f"{user}:{password}@{random.choice(('10.2.3.4', 'mysql-01.corp.example', 'cluster0.ab1cd.mongodb.net', 'localhost'))}"


def passport(random: Random) -> str:
    """Of a passport two lines of 44, of an identity card three of 30."""
    state = random.choice(("D<<", "FRA", "NLD", "GBR", "USA"))
    number = pattern("@@#######")(random)
    birth, expiry = (
        f"{random.randint(40, 99)}0{random.randint(1, 9)}1{random.randint(0, 9)}",
        f"3{random.randint(0, 5)}1127",
    )
    sex = random.choice("MF<")
    if random.random() < 0.5:
        own = (digits_of(random, 8) if random.random() < 0.5 else "").ljust(14, "<")
        own += _icao(own) if own.strip("<") else "<"
        fields = number + _icao(number) + state + birth + _icao(birth) + sex + expiry + _icao(expiry) + own
        name = f"P<{state}LINDQVIST<<MAJA<ELIN".ljust(44, "<")
        return f"{name}\n{fields}{_icao(fields[:10] + fields[13:20] + fields[21:43])}"
    first = f"I<{state}{number}{_icao(number)}".ljust(30, "<")
    second = f"{birth}{_icao(birth)}{sex}{expiry}{_icao(expiry)}{state}".ljust(29, "<")
    second += _icao(first[5:] + second[:7] + second[8:15] + second[18:29])
    return f"{first}\n{second}\n{'LINDQVIST<<MAJA<ELIN'.ljust(30, '<')}"


def _icao(value: str) -> str:
    return str(sum((0 if c == "<" else int(c, 36)) * (7, 3, 1)[i % 3] for i, c in enumerate(value)) % 10)


def us_ssn(random: Random) -> str:
    number = f"{random.randint(1, 665):03d}{random.randint(1, 99):02d}{random.randint(1, 9999):04d}"
    return random.choice((grouped(number, 3, 2, 4, by="-"), grouped(number, 3, 2, 4), grouped(number, 3, 2, 4, by="-")))


def us_itin(random: Random) -> str:
    number = f"9{digits_of(random, 2)}{random.choice((51, 63, 72, 83, 91, 95, 98))}{digits_of(random, 4)}"
    return random.choice((grouped(number, 3, 2, 4, by="-"), grouped(number, 3, 2, 4)))


def uk_nino(random: Random) -> str:
    number = random.choice(("AA", "EL", "KX", "MZ", "NR", "RT", "TE")) + digits_of(random, 6) + random.choice("ABCD")
    return random.choice(
        (number, grouped(number, 2, 2, 2, 2, 1), grouped(number, 2, 6, 1), grouped(number, 2, 2, 2, 2, 1, by="-"))
    )


def fr_nir(random: Random) -> str:
    """Of somebody born on Corsica as often as not, whose department has a letter."""
    letter = random.choice(("", "A", "B"))
    body = f"{random.choice('12')}{random.randint(30, 99)}{random.randint(1, 12):02d}"
    rest = f"{random.randint(1, 400):03d}{random.randint(1, 999):03d}"
    counted = int(f"{body}{ {'': '75', 'A': '19', 'B': '18'}[letter] }{rest}")
    number = f"{body}{'2' + letter if letter else '75'}{rest}{97 - counted % 97:02d}"
    return random.choice((number, grouped(number, 1, 2, 2, 2, 3, 3, 2), grouped(number, 13, 2)))


def es_dni(random: Random) -> str:
    number = digits_of(random, 8)
    letter = "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23]
    return random.choice((f"{number}{letter}", f"{number} {letter}", f"{number}-{letter}", f"{number}{letter.lower()}"))


def it_codicefiscale(random: Random) -> str:
    number = national.it_codicefiscale(random).replace(" ", "").upper()
    return random.choice((number, number, number.lower(), grouped(number, 6, 5, 4, 1)))


def pl_pesel(random: Random) -> str:
    """Of this century, whose months are counted from 21."""
    body = f"{random.randint(0, 20):02d}{random.randint(21, 32)}{random.randint(1, 28):02d}{digits_of(random, 4)}"
    return body + str(-sum(int(d) * w for d, w in zip(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3), strict=True)) % 10)


def in_aadhaar(random: Random) -> str:
    number = national.in_aadhaar(random).replace(" ", "")
    return grouped(number, 4, 4, 4, by=random.choice((" ", "-", "")))


MAKERS: Mapping[str, Make] = {
    make.__name__: make
    for make in (
        email, phone, iban, card, birth_date, passport, ipv4, ipv6, mac, crypto, secret, credentials, us_ssn, us_itin, uk_nino,
        national.uk_nhs, national.de_idnr, fr_nir, es_dni, it_codicefiscale, national.nl_bsn, pl_pesel, national.br_cpf,
        in_aadhaar,
    )
}  # fmt: skip
"""Makers of data, by kind. Three kinds have one spelling in the world and come from the first set's."""
