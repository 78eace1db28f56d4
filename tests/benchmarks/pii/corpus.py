"""A labelled set of texts with personal data and look-alikes, made from a seed.

Nothing here comes from the detector: numbers, checksums and sentences are made anew, from the published rules. What a label
says is what a person would mark: the whole datum, with the parentheses and blanks that belong to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

from benchmarks.pii import national, people, technical
from benchmarks.pii.decoys import DECOYS

Make = Callable[[Random], str]

KINDS: Mapping[str, Make] = {
    make.__name__: make
    for make in (
        people.email, people.phone, people.iban, people.card, people.birth_date, people.passport, technical.ipv4, technical.ipv6,
        technical.mac, technical.crypto, technical.secret, technical.credentials, national.us_ssn, national.us_itin,
        national.uk_nino, national.uk_nhs, national.de_idnr, national.fr_nir, national.es_dni, national.it_codicefiscale,
        national.nl_bsn, national.pl_pesel, national.br_cpf, national.in_aadhaar,
    )
}  # fmt: skip
"""Makers of data, by kind."""

SENTENCES: Mapping[str, tuple[str, ...]] = {
    "email": (
        "From: {}",
        "mail={};",
        "{} schrieb:",
        "Write to {} today.",
        "E-mail: {}",
        "Contact <{}> or come by.",
        "Sie erreichen mich unter {}.",
        "mailto:{}",
        "cc {}; thanks",
    ),
    "phone": (
        "You can reach us under {}.",
        "Mobil: {}",
        "WhatsApp {}",
        "support line {} (24h)",
        "Call me at {} after six.",
        "Tel. {}",
        "My number is {}.",
        "Rufen Sie {} an.",
        "Phone: {}, ask for Kim.",
        "Fax {}!",
        "({})",
    ),
    "iban": (
        "Überweisen Sie auf {}!",
        "acct {}, ref 12",
        "Please transfer to {} by Friday.",
        "IBAN: {}",
        "Konto {}, danke.",
        "The account {} is ours.",
        "IBAN {} BIC COBADEFF",
    ),
    "card": (
        "Visa {} exp 12/27 cvv 123",
        "pan={}&x=1",
        "My card is {}, valid thru next year.",
        "Kreditkarte {}.",
        "Charged to {} yesterday.",
        "card={}",
        "Paid with {} (chip).",
    ),
    "ipv4": (
        "src={} dst=",
        "[{}] GET /",
        "from {}:443",
        "Login from {} was refused.",
        "host {} is down",
        "client {}:",
        "Seen at {}, twice.",
        "ping {}",
    ),
    "ipv6": (
        "addr={}",
        "from [{}]:443",
        "Login from {} was refused.",
        "host {} is down",
        "address {} answered",
        "Seen at [{}] twice.",
    ),
    "mac": ("({})", "ether {} txqueuelen 1000", "The interface {} is up.", "MAC {}", "lease for {} ends", "hwaddr={}"),
    "us_ssn": ("SS# {}", "My SSN is {}.", "Social security number: {}", "SSN {} on file."),
    "us_itin": ("ITIN {} is on the form.", "His taxpayer number is {}."),
    "uk_nino": ("National insurance number {}.", "NI no. {}", "Her NINO is {}, I think."),
    "uk_nhs": ("NHS number {}.", "The NHS no. is {}", "nhs: {}"),
    "de_idnr": ("Steuer-ID: {}", "Meine Steueridentifikationsnummer lautet {}.", "IdNr. {}"),
    "fr_nir": ("Numéro de sécurité sociale : {}", "NIR {}", "Mon numéro est le {}."),
    "es_dni": ("DNI {}", "Mi NIE es {}.", "Con documento {}, residente en Madrid."),
    "it_codicefiscale": ("Codice fiscale: {}", "C.F. {}", "Il codice è {}."),
    "nl_bsn": ("BSN {}", "Mijn burgerservicenummer is {}.", "bsn: {}"),
    "pl_pesel": ("PESEL {}", "Numer PESEL: {}.", "pesel={}"),
    "br_cpf": ("CPF {}", "CPF: {}.", "O CPF do cliente é {}."),
    "in_aadhaar": ("Aadhaar {}", "Aadhaar number: {}.", "My aadhaar is {}, verified."),
    "crypto": ("Send it to {}.", "wallet {}", "BTC/ETH: {}"),
    "secret": ("key = {}", "export TOKEN={}", "The token is {} for now.", '"{}"'),
    "credentials": ("postgres://{}/orders", "See ftp://{}/pub.", "redis://{}:6379"),
    "birth_date": (
        "Geb. {} in Bonn",
        "nacida el {}",
        "née le {} à Lyon",
        "Birthdate {}",
        "She was born on {}.",
        "Date of birth: {}",
        "DOB {}",
        "Geburtsdatum: {}",
        "geboren am {}",
        "birthday {}",
        "nato il {}",
    ),
    "passport": ("{}", "Scanned:\n{}", "MRZ {}"),
}

PLAIN = (
    "The committee met in the afternoon and agreed on most of the points that were still open.",
    "Nobody had expected the bridge to be finished before winter, least of all those who built it.",
    "There are two ways to read this result, and both of them are compatible with what we measured.",
    "Der Zug kam mit einiger Verspätung an, aber das Konzert hatte zum Glück noch nicht begonnen.",
    "She kept the letters in a box under the stairs, tied with a ribbon that had once been blue.",
    "A good summary says what was done, why it was done, and what remains to be decided by others.",
    "Les premières pluies avaient transformé le chemin en ruisseau, et personne ne voulait sortir.",
    "We replaced the pump, cleaned the filter, and ran the machine for an hour without any load.",
    "If the answer seems obvious, it is worth asking once more whether the question was the right one.",
    "El mercado abre temprano; conviene llegar antes de que el sol caliente demasiado las piedras.",
    "Most of the time the cheapest repair is to leave the thing alone until it tells you what it needs.",
    "The children had drawn a map of the garden, with every tree in its place and a dragon at the gate.",
)


@dataclass
class Labelled:
    """A text, and (first character, one past the last, kind) of each datum in it."""

    text: str = ""
    labels: list[tuple[int, int, str]] = field(default_factory=list)

    def add(self, before: str, datum: str = "", kind: str = "", after: str = "") -> None:
        self.text += before
        if datum:
            self.labels.append((len(self.text), len(self.text) + len(datum), kind))
        self.text += datum + after


def corpus(seed: int, *, per_kind: int, per_decoy: int) -> list[Labelled]:
    """Texts of 4 to 9 sentences: plain ones, data of every kind, and look-alikes, all shuffled."""
    random = Random(seed)
    jobs = [(kind, "") for kind in KINDS for _ in range(per_kind)]
    jobs += [("", decoy) for decoy in DECOYS for _ in range(per_decoy)]
    random.shuffle(jobs)
    texts = []
    while jobs:
        made = Labelled()
        for _ in range(random.randint(2, 4)):
            made.add(random.choice(PLAIN) + random.choice((" ", " ", "\n", "\n\n")))
            if jobs:
                kind, decoy = jobs.pop()
                if kind:
                    before, _, after = random.choice(SENTENCES[kind]).partition("{}")
                    made.add(before, KINDS[kind](random), kind, after + " ")
                else:
                    made.add(DECOYS[decoy](random) + " ")
        texts.append(made)
    return texts


def plain_text(seed: int, *, num_chars: int) -> str:
    """Text without anything that looks like personal data."""
    random = Random(seed)

    def sentences() -> Iterator[str]:
        total = 0
        while total < num_chars:
            sentence = random.choice(PLAIN)
            total += len(sentence) + 1
            yield sentence

    return " ".join(sentences())
