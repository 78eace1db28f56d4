"""Look-alikes: what a careless detector takes for personal data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from benchmarks.pii.checks import digits_of, grouped
from benchmarks.pii.national import br_cpf, es_dni, fr_nir, it_codicefiscale
from benchmarks.pii.people import LAST, birth_date, card, iban

Make = Callable[[Random], str]


def _flipped(make: Make) -> Make:
    """A datum whose last digit is another one, so that its checksum fails."""

    def made(random: Random) -> str:
        text = make(random)
        at = max(i for i, c in enumerate(text) if c.isdigit())
        return text[:at] + str((int(text[at]) + random.choice((3, 4))) % 10) + text[at + 1 :]

    return made


def _said(*sentences: str, of: Make) -> Make:
    return lambda random: random.choice(sentences).replace("{}", of(random))


def _hex(num: int) -> Make:
    return lambda random: "".join(random.choice("0123456789abcdef") for _ in range(num))


def _isbn(random: Random) -> str:
    body = "978" + digits_of(random, 9)
    check = -sum(int(d) * (1, 3)[i % 2] for i, d in enumerate(body)) % 10
    return random.choice((f"{body[:3]}-{body[3]}-{body[4:7]}-{body[7:12]}-{check}", f"{body}{check}"))


def _wrong_pesel(random: Random) -> str:
    return f"{digits_of(random, 2)}{random.randint(1, 12):02d}{random.randint(32, 99)}{digits_of(random, 5)}"


def _uuid(random: Random) -> str:
    raw = _hex(32)(random)
    return grouped(raw, 8, 4, 4, 4, 12, by="-")


DECOYS: Mapping[str, Make] = {
    "card with a wrong digit": _said("Card {} was declined.", "Number {}.", of=_flipped(card)),
    "iban with a wrong digit": _said("IBAN {}", "To {} please.", of=_flipped(iban)),
    "codice fiscale of a wrong letter": _said(
        "Codice {}.", of=lambda r: it_codicefiscale(r).replace(" ", "")[:15] + "1"
    ),
    "dni with a wrong digit": _said("DNI {}", of=_flipped(es_dni)),
    "nir with a wrong digit": _said("NIR {}", of=_flipped(lambda r: fr_nir(r).replace(" ", ""))),
    "cpf with a wrong digit": _said("CPF {}", of=_flipped(br_cpf)),
    "pesel of an impossible day": _said("PESEL {}", of=_wrong_pesel),
    "impossible ssn": _said(
        "Form {} is new.", of=lambda r: f"{r.choice(('000', '666'))}-{digits_of(r, 2)}-{digits_of(r, 4)}"
    ),
    "order number": _said(
        "Order {} shipped.",
        "Order no. {}",
        "order #{}",
        of=lambda r: r.choice("89") + digits_of(r, r.choice((7, 9, 11))),
    ),
    "order with hyphens": _said(
        "Order {} shipped.", of=lambda r: f"{r.randint(100, 999)}-{digits_of(r, 7)}-{digits_of(r, 7)}"
    ),
    "ticket": _said(
        "See ticket {}.",
        "Case {}",
        of=lambda r: f"{r.choice(('ABC', 'OPS', 'INC'))}-{digits_of(r, r.choice((4, 6, 8)))}",
    ),
    "version": _said(
        "Version {} is out.",
        "v{}",
        "release {}",
        "firmware {}",
        of=lambda r: ".".join(str(r.randint(0, 40)) for _ in range(4)),
    ),
    "semantic version": _said(
        "Use {} or later.", of=lambda r: f"{r.randint(0, 9)}.{r.randint(0, 40)}.{r.randint(0, 99)}-rc.{r.randint(1, 9)}"
    ),
    "date": _said("Due {}.", "On {} we met.", of=birth_date),
    "timestamp": _said(
        "At {} it failed.",
        of=lambda r: f"2024-0{r.randint(1, 9)}-1{r.randint(0, 9)}T1{r.randint(0, 9)}:23:30.{digits_of(r, 6)}Z",
    ),
    "unix time": _said("ts={}", "epoch {} ms", of=lambda r: "17" + digits_of(r, r.choice((8, 11)))),
    "isbn": _said("ISBN {}", "Read ISBN {} first.", of=_isbn),
    "md5": _said("md5 {}", of=_hex(32)),
    "sha1": _said("commit {}", of=_hex(40)),
    "sha256": _said("digest sha256:{}", of=_hex(64)),
    "uuid": _said("id {}", of=_uuid),
    "float": _said("loss {}", "x = {}", of=lambda r: f"{r.choice('0123')}.{digits_of(r, r.choice((8, 12, 16, 17)))}"),
    "coordinates": _said(
        "at {}", of=lambda r: f"{r.randint(10, 89)}.{digits_of(r, 6)}, -{r.randint(10, 99)}.{digits_of(r, 6)}"
    ),
    "price": _said(
        "It costs {}.", of=lambda r: f"${r.randint(1, 99)},{digits_of(r, 3)},{digits_of(r, 3)}.{digits_of(r, 2)}"
    ),
    "phone-like id": _said(
        "Part {} fits.", "SKU {}", "serial {}", of=lambda r: f"{digits_of(r, 4)}-{digits_of(r, 4)}-{digits_of(r, 2)}"
    ),
    "range of years": _said("In {} it grew.", of=lambda r: f"19{digits_of(r, 2)}-20{r.randint(10, 24)}"),
    "private address": _said(
        "host {} is local",
        of=lambda r: f"{r.choice(('10.0', '192.168', '172.16'))}.{r.randint(0, 9)}.{r.randint(1, 254)}",
    ),
    "scope of C++": _said(
        "call {} here", of=lambda r: r.choice(("std::vector", "abc::def", "Face::Add", "a::b::c", "fs::path"))
    ),
    "time": _said("at {} sharp", of=lambda r: f"{r.randint(10, 23)}:{r.randint(10, 59)}:{r.randint(10, 59)}"),
    "fingerprint": _said("fingerprint {}", of=lambda r: ":".join(_hex(2)(r) for _ in range(20))),
    "image at scale": _said("see {}", of=lambda r: f"{r.choice(('icon', 'logo'))}@{r.randint(2, 3)}x.png"),
    "clone": _said(
        "git clone {}", of=lambda r: f"git@{r.choice(('code', 'git'))}.example.com:team/{r.choice(LAST)}.git"
    ),
    "decorator": _said("{}", of=lambda r: r.choice(("@app.route", "@pytest.fixture", "@staticmethod", "a @ b.mean"))),
    "package": _said("npm i {}", of=lambda r: f"lodash@{r.randint(1, 4)}.{r.randint(0, 20)}.{r.randint(0, 20)}"),
    "key of no make": _said("cache key {}", of=lambda r: "sk-" + "-".join(r.choice(LAST) for _ in range(4))),
    "file name": _said("open {}", of=lambda r: f"IMG_2023{r.randint(10, 12)}{r.randint(10, 28)}_{digits_of(r, 6)}.jpg"),
    "tracking number": _said("Tracking 1Z{}", of=lambda r: "999AA1" + digits_of(r, 10)),
    "table row": _said("{}", of=lambda r: "  ".join(str(r.randint(100, 9999)) for _ in range(6))),
    "doi": _said(
        "doi:{}", of=lambda r: f"10.1{digits_of(r, 3)}/s{digits_of(r, 5)}-0{digits_of(r, 2)}-{digits_of(r, 5)}"
    ),
    "shift": _said("if (A<<2 | B<<{})", of=lambda r: str(r.randint(3, 9))),
    "invoice": _said("Invoice {} is open.", of=lambda r: f"{digits_of(r, 4)}-{digits_of(r, 4)}-{digits_of(r, 4)}"),
    "article": _said("EAN {}", of=lambda r: digits_of(r, 13)),
    "quantity": _said(
        "{} units", "{} people", of=lambda r: f"{r.randint(100, 999)} {digits_of(r, 3)} {digits_of(r, 3)}"
    ),
    "groups of five": _said("{}", of=lambda r: f"{digits_of(r, 5)} {digits_of(r, 5)} {digits_of(r, 5)}"),
    "section": _said("see section {}", of=lambda r: ".".join(str(r.randint(1, 9)) for _ in range(4))),
    "zip code": _said("zip {}", of=lambda r: f"{digits_of(r, 5)}-{digits_of(r, 4)}"),
    "positions": _said("chr1:{}", of=lambda r: f"{digits_of(r, 8)}-{digits_of(r, 8)}"),
    "span of days": _said("{}", of=lambda r: f"2023-11-{r.randint(10, 28)} to 2024-01-{r.randint(10, 28)}"),
    "certificate": lambda r: "-----BEGIN CERTIFICATE-----\n" + _hex(60)(r) + "\n-----END CERTIFICATE-----",
    "url": _said("see {}", of=lambda r: f"https://shop.example.com/item/{digits_of(r, 8)}?ref={digits_of(r, 6)}"),
    "percentage": _said("rose by {}", of=lambda r: f"{r.randint(1, 99)}.{digits_of(r, 4)}%"),
}
