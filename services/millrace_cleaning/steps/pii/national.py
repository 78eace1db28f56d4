"""Numbers by which states know people. Those that a random number is likely to pass are taken only where a word says what they
are."""

from __future__ import annotations

import re
from collections.abc import Callable

from stdnum.br import cpf
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.us import ssn

from millrace_cleaning.steps.pii.prefilter import EIGHT, SIX
from millrace_cleaning.steps.pii.settings import PiiConfig, PiiKind
from millrace_cleaning.steps.pii.shapes import END, START, Confirm, Group, Shape, Span, is_near

_AMERICAN = "[0-9]{3}([ -])[0-9]{2}\\1[0-9]{4}"
_OMOCODE = "[0-9LMNPQRSTUVlmnpqrstuv]"


def _words(*stems: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z])(?:{'|'.join(stems)})", re.IGNORECASE)


_SPANISH = _words("dni", "nif", "nie(?![a-z])", r"d\.n\.i", r"n\.i\.[ef]", "documento")


def _checked(is_valid: Callable[[str], bool], *, separators: str = " -./") -> Confirm:
    table = str.maketrans("", "", separators)

    def confirm(text: str, span: Span, config: PiiConfig) -> Span | None:
        del config
        return span if is_valid(text[slice(*span)].translate(table).upper()) else None

    return confirm


def _said(is_valid: Callable[[str], bool], words: re.Pattern[str], *, shown: str = "") -> Confirm:
    """Valid, and a word before it says what it is, unless it is written in its own way (`shown`)."""
    checked = _checked(is_valid)
    own_way = re.compile(shown) if shown else None

    def confirm(text: str, span: Span, config: PiiConfig) -> Span | None:
        if own_way is not None and own_way.fullmatch(text, *span) and not _is_in_list(text, span):
            return checked(text, span, config)
        return checked(text, span, config) if is_near(text, span[0], words) else None

    return confirm


def _is_in_list(text: str, span: Span) -> bool:
    """Whether digits stand one blank or hyphen away on either side: then groups are no number of their own."""
    before, after = text[max(0, span[0] - 2) : span[0]], text[span[1] : span[1] + 2]
    return bool(re.fullmatch(r"[0-9][ -]", before) or re.fullmatch(r"[ -][0-9]", after))


def _is_nino(number: str) -> bool:
    prefix = number[:2]
    is_issued = prefix[0] not in "DFIQUV" and prefix[1] not in "DFIOQUV"
    return is_issued and prefix not in ("BG", "GB", "NK", "KN", "TN", "NT", "ZZ")


def _is_itin(number: str) -> bool:
    """Whether the group is one that the IRS gives out (since 2013 also 50 to 65, which python-stdnum does not know)."""
    group = int(number[3:5])
    return 50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or group >= 94


def _is_nir(number: str) -> bool:
    month = int(number[3:5])
    return (1 <= month <= 12 or 20 <= month <= 42 or month >= 50) and nir.is_valid(number)


def _number(kind: PiiKind, pattern: str, confirm: Confirm) -> Shape:
    return Shape(kind, f"(?:{pattern}){END}", confirm)


NUMBERS = Group(
    EIGHT,
    START + r"(?=[0-9])",
    (
        _number(
            "us_ssn",
            r"[0-9]{3}[ -]?[0-9]{2}[ -]?[0-9]{4}",
            _said(ssn.is_valid, _words("ssn", "ss ?(?:#|no|num)", "soc(?:ial|\\.)?[ _]?sec"), shown=_AMERICAN),
        ),
        _number(
            "us_itin",
            r"9[0-9]{2}[ -]?[0-9]{2}[ -]?[0-9]{4}",
            _said(_is_itin, _words("itin", "taxpayer"), shown=_AMERICAN),
        ),
        _number("uk_nhs", r"[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}", _said(nhs.is_valid, _words("nhs", "national health"))),
        _number(
            "de_idnr",
            r"[1-9][0-9](?:[ /][0-9]{3}){3}|[1-9][0-9]{10}",
            _said(
                idnr.is_valid,
                _words("steuer", "id-?nr", "identifikation", "tax[ _]?id", "tin"),
                shown="[0-9]{2}([ /])[0-9]{3}\\1[0-9]{3}\\1[0-9]{3}",
            ),
        ),
        _number(
            "fr_nir",
            r"[1-478][0-9]{4}(?:[0-9]{2}|2[ABab])[0-9]{6} ?[0-9]{2}"
            r"|[1-478] [0-9]{2} [0-9]{2} (?:[0-9]{2}|2[ABab]) [0-9]{3} [0-9]{3} [0-9]{2}",
            _said(_is_nir, _words("nir(?![a-z])", "s[ée]cu", "insee", "assur", "immatricul"), shown="[12].+"),
        ),
        _number("es_dni", r"[0-9]{8}-?[A-Za-z]|[0-9]{2}\.[0-9]{3}\.[0-9]{3}-?[A-Za-z]", _checked(dni.is_valid)),
        _number("es_dni", r"[0-9]{8} [A-Za-z]", _said(dni.is_valid, _SPANISH)),
        _number(
            "nl_bsn",
            r"[0-9]{9}|[0-9]{4}[. ][0-9]{2}[. ][0-9]{3}|[0-9]{3}[. ][0-9]{3}[. ][0-9]{3}",
            _said(bsn.is_valid, _words("bsn", "burgerservice", "sofi")),
        ),
        _number("pl_pesel", r"[0-9]{11}", _said(pesel.is_valid, _words("pesel"))),
        _number(
            "br_cpf",
            r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}|[0-9]{9}-?[0-9]{2}",
            _said(
                cpf.is_valid, _words("cpf", "cadastro", "contribuinte"), shown=r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}"
            ),
        ),
        _number(
            "in_aadhaar",
            r"[2-9][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}",
            _said(aadhaar.is_valid, _words("aadha+r", "uidai", "uid"), shown="[0-9]{4} [0-9]{4} [0-9]{4}"),
        ),
    ),
)

LETTERED = Group(
    SIX,
    r"(?<![A-Za-z0-9])(?=[A-Za-z]{2}[ -]?[0-9]|[A-Za-z]{3} ?[A-Za-z]{3} ?[0-9L-V]|[XYZxyz]-?[0-9])",
    (
        _number("uk_nino", r"[A-Za-z]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[A-Da-d]", _checked(_is_nino)),
        _number(
            "it_codicefiscale",
            rf"[A-Za-z]{{3}} ?[A-Za-z]{{3}} ?{_OMOCODE}{{2}}[A-Za-z]{_OMOCODE}{{2}} ?[A-Za-z]{_OMOCODE}{{3}} ?[A-Za-z]",
            _checked(codicefiscale.is_valid),
        ),
        _number("es_dni", r"[XYZxyz]-?[0-9]{7}-?[A-Za-z]", _checked(nie.is_valid)),
    ),
)
