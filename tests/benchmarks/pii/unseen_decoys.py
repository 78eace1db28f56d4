"""Look-alikes of the second set: numbers and words of other trades, and data whose checksum fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from benchmarks.pii.checks import digits_of, grouped, iban_of, luhn_digit, pattern

Make = Callable[[Random], str]


def _say(sentences: str, of: Make) -> Make:
    """One of the sentences, which | divides, with what is made in the place of {}."""
    return lambda random: random.choice(sentences.split("|")).replace("{}", of(random))


def _imei(random: Random) -> str:
    body = "35" + digits_of(random, 12)
    return body + luhn_digit(body)


def _wrong_card(random: Random) -> str:
    body = random.choice(("4", "52", "6011")).ljust(6, "7") + digits_of(random, 9)
    return grouped(body + str((int(luhn_digit(body)) + 5) % 10), 4, 4, 4, 4)


def _wrong_iban(random: Random) -> str:
    right = iban_of("DE", digits_of(random, 18))
    wrong = f"DE{(int(right[2:4]) + 11) % 97:02d}{right[4:]}"
    return grouped(wrong, 4, 4, 4, 4, 4, 2)


def _cnpj(random: Random) -> str:
    raw = digits_of(random, 8)
    return f"{raw[:2]}.{raw[2:5]}.{raw[5:]}/0001-{digits_of(random, 2)}"


def _past_date(random: Random) -> str:
    return f"{random.randint(1, 28)} {random.choice(('March', 'May', 'October'))} {random.randint(1930, 2009)}"


def _score(random: Random) -> str:
    return " ".join(f"{random.randint(0, 6)}-{random.randint(0, 7)}" for _ in range(random.randint(2, 5)))


DECOYS: Mapping[str, Make] = {
    "serial number of a phone": _say("IMEI {}|the handset ({}) was returned", _imei),
    "card that fails": _say("test card {} is refused|pan {} bad", _wrong_card),
    "iban that fails": _say("typo in {}?|IBAN {} rejected", _wrong_iban),
    "company number": _say("CNPJ {}|empresa inscrita no CNPJ {}", _cnpj),
    "cas number": _say("ethanol (CAS {})|reagent {}", pattern("^###-##-#")),
    "object id": _say("OID {}|snmpget {}", pattern("1.3.6.1.4.1.^##.1.#")),
    "windows build": _say("Windows {}|build {}", pattern("10.0.1####.^##")),
    "netmask": _say("netmask {}", lambda r: r.choice(("255.255.255.0", "255.255.0.0", "0.0.0.0"))),
    "loopback": _say("listening on {}|bind {}", lambda r: r.choice(("127.0.0.1", "::1", "[::]", "localhost:8080"))),
    "patent": _say("US Patent {} B2|see {}", pattern("7,###,###")),
    "docket": _say("Case {}|No. {} (S.D.N.Y.)", pattern("1:2#-cv-0####")),
    "citation": _say("{}", pattern("4## U.S. ###, ##^ (19##)")),
    "verse": _say("Gen {}|Matt {}", lambda r: f"{r.randint(1, 50)}:{r.randint(1, 40)}-{r.randint(1, 40)}"),
    "tennis": _say("won {} on clay", _score),
    "colour": _say("color: {};|background {}", pattern("#%%%%%%")),
    "rgb": _say("rgb({})", lambda r: ", ".join(str(r.randint(0, 255)) for _ in range(3))),
    "svg path": _say('<path d="{}"/>', pattern("M1#.^#4 ##.7^1L^.## 1##.4c-1.2#.3#-4.#")),
    "dimensions": _say("box {} mm", lambda r: " x ".join(str(r.randint(100, 2400)) for _ in range(3))),
    "issn": _say("ISSN {}", pattern("^###-####")),
    "container": _say("container {} is at the port", pattern("@@@U ###### #")),
    "vehicle": _say("VIN {}", pattern("WVW@@@1@@8@######")),
    "flight": _say("on {}", pattern("LH #### / UA ####")),
    "postcode": _say("to {}|at {}", pattern("@@^ ^@@")),
    "code of a drug": _say("NDC {}", pattern("####-####-##")),
    "lottery": _say("drawn: {}", lambda r: " ".join(f"{n:02d}" for n in sorted(r.sample(range(1, 50), 6)))),
    "exif date": _say("DateTimeOriginal {}", pattern("202^:0^:1# 1#:2#:3#")),
    "event date": _say("The bridge opened on {}.|published {}|Founded {}, closed since.", _past_date),
    "fediverse handle": _say(
        "follow {}", lambda r: f"@{r.choice(('nina', 'kofi'))}@{r.choice(('hachyderm', 'fosstodon'))}"
    ),
    "maven": _say("implementation '{}'", pattern("com.acme:tools-@@:^.##.#")),
    "docker image": _say("docker pull {}", pattern("registry.local/app@sha256:%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%")),
    "npm scope": _say("npm install {}", pattern("@types/node@1^.#.#")),
    "short hash": _say("reverted in {}|fixup {}", pattern("%%%%%%%%%%%%")),
    "etag": _say('ETag: "{}"', pattern("%%%%%%%%%%%%%%%%-%%%%%%%%")),
    "haskell type": _say("{}", lambda r: r.choice(("xs :: [Int]", "f :: a -> b", "fe80 :: Word", "bad::face()"))),
    "css": _say("{}", lambda r: r.choice(("a::before {}", "li::marker", "::selection", ".cafe::after"))),
    "clock with frames": _say("timecode {}", pattern("0#:1#:2#:0#")),
    "digits of pi": _say("pi is {}", pattern("3.14159265358979#^##")),
    "big integer": _say("n = {}|mod {}", pattern("^####################")),
    "thousands": _say("population {}|{} visitors", pattern("^#.###.###")),
    "swiss amount": _say("CHF {}", pattern("^'###'###.##")),
    "invoice of a year": _say("Rechnung {}|RE-Nr. {}", pattern("2024-0####")),
    "parcel": _say("Sendungsnummer {}|parcel {}", pattern("003404341###########")),
    "case of a court": _say("Az. {}", pattern("12 O ##/2#")),
    "standard": _say("per {}", pattern("ISO 8601-1:2019, DIN EN 1###-2")),
    "licence": _say("licence key {}", pattern("@@@@@-#####-@@@@@-@####")),
    "template of a url": _say("{}", lambda r: r.choice(("https://{user}:{pass}@host/db", "ftp://<user>@<host>"))),
    "placeholder": _say("set token to {}", lambda r: r.choice(("xxxxxxxxxxxxxxxxxxxx", "<your-token>", "${TOKEN}"))),
    "frequency": _say("tune to {} kHz", pattern("^ ### ###")),
    "chess": pattern("1. e4 e5 ^. Nf3 Nc6 3. Bb5 a6"),
    "range of pages": _say("pp. {}", pattern("1##^-1##^")),
}
