"""A second labelled set, which the detector's rules were not made from: other words, layouts, makers and look-alikes.

It was written before any rule was read, and its first result stands in `unseen_first_sight.json`. Who mends a rule after a
look at its errors has seen it: the first figure stays the honest one. Half of the data stand in sentences, half in the
layouts of files and forms, which are the same for all kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from benchmarks.pii.corpus import Labelled, Make
from benchmarks.pii.unseen_data import MAKERS
from benchmarks.pii.unseen_decoys import DECOYS

LAYOUTS = (
    '{{"{key}": "{}", "active": true}}',
    "{key}: {}\nstatus: open",
    "<dt>{key}</dt><dd>{}</dd>",
    "| {key} | {} |",
    "{key}\t{}\t-",
    "{key};{};n/a",
    "level=info event=updated {key}={} took=12ms",
    "* {key} -> {}",
    "<field name='{key}'>{}</field>",
    "{key} = '{}'",
    "   {key} ........ {}",
    "{key}:{}",
)
"""How files and forms hold a field."""

FIELDS: Mapping[str, tuple[str, ...]] = {
    "email": ("contact", "e_mail", "Reply-To", "user", "correo"),
    "phone": ("phone_number", "Telefon", "mobile", "téléphone", "cell", "telefono", "tel_no", "Handy"),
    "iban": ("iban", "bank_account", "Kontoverbindung", "rekening", "payee"),
    "card": ("card_number", "cc", "PAN", "Kartennummer", "payment_card", "tarjeta"),
    "birth_date": ("birth_date", "dob", "date_of_birth", "Geburtstag", "fecha de nacimiento", "Date de naissance"),
    "ipv4": ("remote_addr", "client_ip", "x-forwarded-for", "peer", "IP"),
    "ipv6": ("remote_addr", "ip6", "peer", "source address"),
    "mac": ("hwaddr", "mac_address", "BSSID", "ether"),
    "crypto": ("wallet", "btc_address", "payout", "deposit address"),
    "secret": ("api_key", "token", "Authorization", "SECRET", "credential"),
    "us_ssn": ("ssn", "SSN", "social_security_number", "Social Security #"),
    "us_itin": ("itin", "ITIN", "taxpayer id"),
    "uk_nino": ("nino", "NI number", "national_insurance"),
    "uk_nhs": ("nhs_number", "NHS No", "NHS"),
    "de_idnr": ("steuer_id", "Steuer-IdNr.", "Identifikationsnummer", "tax_id"),
    "fr_nir": ("nir", "num_secu", "N° de sécurité sociale", "INSEE"),
    "es_dni": ("dni", "NIF", "NIE", "documento"),
    "it_codicefiscale": ("codice_fiscale", "CF", "cod. fisc."),
    "nl_bsn": ("bsn", "BSN-nummer", "burgerservicenummer"),
    "pl_pesel": ("pesel", "PESEL", "nr PESEL"),
    "br_cpf": ("cpf", "CPF/MF", "cpf_cliente"),
    "in_aadhaar": ("aadhaar", "Aadhaar No", "aadhaar_number"),
}
"""What a field of each kind is called."""

SENTENCES: Mapping[str, tuple[str, ...]] = {
    "email": (
        '"Kovac, Ana" <{}> wrote on Monday:', "ping me ({}) when the build is green", "Bei Fragen: {}.", "— sent by {}",
        "forwarded to {}, nobody answered", "Escríbenos a {}!", "<a href='mailto:{}'>mail us</a>", "To: {}\nSubject: lunch",
    ),
    "phone": (
        "Ring {} before noon, please.", "Reachable at {} most evenings", "text {} or knock", "Unter {} ist immer jemand da.",
        "Appelez le {} pour un rendez-vous.", "☎ {}", "Llámame al {}, por favor.", "T: {} | W: example.org",
        "Mein Handy: {}", "emergency contact {} (his sister)", "Chiamare il {}.", "Proszę dzwonić pod {}.",
    ),
    "iban": (
        "Send the deposit to {} before you move in.", "Bankverbindung {}", "Payable to: {}", "virement sur le compte {}",
        "We got your money from {}.", "Rekeningnummer {} t.n.v. Jansen",
    ),
    "card": (
        "I paid with {} and it was declined twice.", "Card on file: {}", "the number is {}", "Karte {}, gültig bis 09/29",
        "charge {} for the room", "numéro de carte {}",
    ),
    "birth_date": (
        "Born: {}", "Patient, born {}, came in limping.", "D.O.B. {}", "né le {}", "geboren {} in Graz?", "nata il {}",
        "nacido el {}", "geboren op {}", "ur. {}", "date of birth is {}", "Geburtsdatum {}", "data de nascimento: {}",
        "His birthday is {}.",
    ),
    "ipv4": (
        "the attacker came from {} at night", "{} - - [12/Mar/2024:06:25:24 +0000]",
        "sshd: Failed password for root from {} port 22",
        "banned {}", "http://{}/admin was open", "resolver {}#53 timed out",
    ),
    "ipv6": (
        "traceroute to {}, 30 hops max", "http://[{}]:8080/", "neighbour {} is stale", "sshd: Accepted key from {} port 50122",
        "Their router has {}.",
    ),
    "mac": (
        "The printer's hardware address is {}.", "wlan0 HWaddr {}", "DHCPACK to {} via eth0", "station {} associated",
    ),
    "crypto": ("Donations: {}", "the ransom note says {}", "I moved it all to {} yesterday", "bitcoin:{}?amount=0.1"),
    "secret": (
        "oops, I pushed {} to the repo", "curl -H 'Authorization: Bearer {}' https://api.example.com",
        "he pasted {} into the chat",
        "-e API_KEY={} \\", "use `{}` until Friday",
    ),
    "credentials": (
        "mongodb+srv://{}/shop?retryWrites=true", "DATABASE_URL=mysql://{}/crm", "git clone https://{}/team/app.git",
        "amqp://{}:5672/%2f", "sftp://{}/upload fails", 'dsn: "postgresql+psycopg://{}/app"',
    ),
    "passport": ("{}", "MRZ\n{}\n", "<pre>{}</pre>", "The scanner read:\n\n{}\n"),
    "us_ssn": ("The applicant gave {} as her social.", "social security {}", "SSN ending? no, the whole: {}", "soc sec no {}"),
    "us_itin": ("Filed under ITIN {}.", "Her individual taxpayer identification number: {}"),
    "uk_nino": ("Quote {} when you ring HMRC.", "my NI is {}", "National Insurance: {}"),
    "uk_nhs": ("Patient's NHS number: {}", "NHS no. {}, referred by the GP"),
    "de_idnr": ("Ihre steuerliche Identifikationsnummer: {}", "Steuer-ID {} liegt vor", "IdNr {}"),
    "fr_nir": ("Assurée n° {}", "numéro de sécu : {}", "immatriculée sous le {}"),
    "es_dni": ("con DNI número {}", "provista de N.I.F. {}", "titular del NIE {}"),
    "it_codicefiscale": ("nato a Torino, c.f. {}", "il codice fiscale {} risulta valido", "intestato a {}"),
    "nl_bsn": ("met burgerservicenummer {}", "het BSN van de cliënt: {}"),
    "pl_pesel": ("legitymujący się numerem PESEL {}", "PESEL: {}, zamieszkały w Gdyni"),
    "br_cpf": ("inscrito no CPF sob o nº {}", "portadora do CPF {}"),
    "in_aadhaar": ("linked with Aadhaar {}", "Aadhaar card no. {}"),
}  # fmt: skip

FILLER = (
    "Thanks again for the quick turnaround, the customer was impressed.",
    "I looked through the shelves twice and could not find the second volume.",
    "Wir treffen uns wie immer um halb acht vor dem Kino.",
    "2 eggs, 150 g of flour, a pinch of salt; rest for 30 minutes.",
    "The tests pass locally, but the pipeline still complains about formatting.",
    "Il faudra penser à fermer les volets avant de partir.",
    "Refunds take 5-10 working days, weekends not counted.",
    "My flight leaves at 18:40 from gate B22, so let us keep it short.",
    "El tren de las 9:15 suele llegar con retraso.",
    "Agenda: budget 2025, hiring, the leaking roof on floor 3.",
)


def unseen(seed: int, *, per_kind: int, per_decoy: int) -> list[Labelled]:
    """Texts of a few lines each: fillers, data of every kind, and look-alikes, shuffled."""
    random = Random(seed)
    jobs: list[tuple[str, Make]] = [(kind, MAKERS[kind]) for kind in MAKERS for _ in range(per_kind)]
    jobs += [("", make) for make in DECOYS.values() for _ in range(per_decoy)]
    random.shuffle(jobs)
    texts = []
    while jobs:
        made = Labelled()
        for kind, make in [jobs.pop() for _ in range(min(len(jobs), random.randint(1, 4)))]:
            made.add(random.choice(FILLER) + "\n")
            if kind:
                before, after = _around(random, kind)
                made.add(before, make(random), kind, after + "\n")
            else:
                made.add(make(random) + "\n")
        texts.append(made)
    return texts


def _around(random: Random, kind: str) -> tuple[str, str]:
    """What stands before and after a datum."""
    if kind in FIELDS and random.random() < 0.5:
        layout = random.choice(LAYOUTS).format("\0", key=random.choice(FIELDS[kind]))
    else:
        layout = random.choice(SENTENCES[kind]).replace("{}", "\0")
    before, _, after = layout.partition("\0")
    return before, after
