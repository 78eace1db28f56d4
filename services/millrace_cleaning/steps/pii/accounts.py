"""Numbers of bank accounts and payment cards."""

from __future__ import annotations

from stdnum import iban, luhn

from millrace_cleaning.steps.pii.prefilter import SIX, TEN, TOKEN
from millrace_cleaning.steps.pii.settings import PiiConfig
from millrace_cleaning.steps.pii.shapes import END, IBAN_HEAD, START, Group, Shape, Span, digits_of, is_near

_ISSUERS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (400000, 499999, (16, 19)),  # Visa
    (510000, 559999, (16,)), (222100, 272099, (16,)),  # Mastercard
    (340000, 349999, (15,)), (370000, 379999, (15,)),  # American Express
    (601100, 601199, (16, 19)), (644000, 659999, (16, 19)),  # Discover
    (352800, 358999, (16, 19)),  # JCB
    (300000, 305999, (14,)), (309000, 309999, (14,)), (360000, 369999, (14,)), (380000, 399999, (14,)),  # Diners Club
    (620000, 629999, (16, 17, 18, 19)),  # UnionPay
    (501800, 501899, (16,)), (502000, 502099, (16,)), (503800, 503899, (16,)), (589300, 589399, (16,)),  # Maestro
    (630400, 630499, (16,)), (675900, 676399, (16,)),
    (220000, 220499, (16,)), (508500, 508999, (16,)), (606900, 607999, (16,)), (652100, 653199, (16,)),  # Mir, RuPay
)  # fmt: skip
"""First and last of the leading six digits, and how many digits there are in all."""

_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28, "CH": 21,
    "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27,
    "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26,
    "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27,
    "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23,
    "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
}  # fmt: skip


def _card(text: str, span: Span, config: PiiConfig) -> Span | None:
    del config
    number = digits_of(text[slice(*span)])
    if is_near(text, span[0], IBAN_HEAD):
        return None
    head = int(number[:6])
    is_issued = any(low <= head <= high and len(number) in sizes for low, high, sizes in _ISSUERS)
    return span if is_issued and luhn.is_valid(number) else None


def _iban(text: str, span: Span, config: PiiConfig) -> Span | None:
    """An IBAN ends where its country says, so that the words after it are none of it."""
    del config
    start, limit = span
    length = _IBAN_LENGTHS.get(text[start : start + 2].upper(), 0)
    end = start
    while length and end < limit:
        length -= text[end].isalnum()
        end += 1
    if length or text[end : end + 1].isalnum():
        return None
    number = text[start:end].replace(" ", "").replace("-", "")
    return (start, end) if iban.is_valid(number, check_country=False) else None


CARDS = Group(
    TEN,
    START + r"(?=[0-9]{4})",
    (
        Shape(
            "card",
            r"(?:[0-9]{13,19}|[0-9]{4}(?:[ -][0-9]{4}){3}(?:[ -]?[0-9]{3})?|3[0-9]{3}[ -][0-9]{6}[ -][0-9]{4,5})" + END,
            _card,
        ),
    ),
)
IBANS = Group(
    SIX | TOKEN,
    r"(?<![A-Za-z0-9])(?=[A-Za-z]{2}[0-9]{2})",
    (Shape("iban", r"[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}", _iban),),
)
