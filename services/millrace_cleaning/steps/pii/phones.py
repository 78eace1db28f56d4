"""Telephone numbers, as phonenumbers knows them. A number without + has to be written like one, or a word has to say so."""

from __future__ import annotations

import re
from collections.abc import Iterator

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberFormat

from millrace_cleaning.steps.pii.prefilter import EIGHT, PLUS
from millrace_cleaning.steps.pii.settings import PiiConfig
from millrace_cleaning.steps.pii.shapes import IBAN_HEAD, Group, Shape, Span, digits_of, is_near

_WORDS = re.compile(
    r"(?<![^\W\d_])(?:(?:tele)?phone|tel|fax|call(?: me| us)?|ring|mobile?|cell|handy|whatsapp|sms|text|dial|telefon[oea]?|"
    r"☎|✆|📞|📱|ll[áa]m[ae](?:me|nos|r)?|appelez|chiam(?:are|ami|ate)|zadzwoń|dzwonić|ligue|bel(?:len)?|anrufen|"
    r"teléfono|téléphone|telefoon|celular|cellulare|móvil|movil|portable|komórka|rufen sie|reach|contact)(?![^\W\d_])"
    r"(?:(?![.!?;]\s|\n\n)[^0-9]){0,20}$",
    re.IGNORECASE,
)
"""A word that says so, shortly before and in the same sentence."""
_NO_PHONE = re.compile(
    r"(?:isbn|issn|ean|order|invoice|ticket|tracking|version|serial|sku|ndc|case|ref(?:erence)?|doi|article|part|zip|postal)"
    r"(?: ?(?:no|nr|number|id|code))?[.:# ]{0,3}$",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?:(?:19|20)[0-9]{2}[./-][0-9]{1,2}[./-][0-9]{1,2}|[0-9]{1,2}[./-][0-9]{1,2}[./-](?:19|20)[0-9]{2})(?![0-9])"
)
_AMERICAN = re.compile(r"(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}")
_SSN = re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{4}(?![0-9])")
_ZIP = re.compile(r"[0-9]{5}-[0-9]{4}(?![0-9])")
_GROUPS = re.compile(r"[0-9]+")
_WITHOUT_ZERO = ("US", "ES", "PL")
"""Regions whose numbers never begin with 0."""
_MORE = re.compile(r" {1,3}(?:[0-9A-Fa-f]{2,4}|[0-9]{5,})(?![A-Za-z0-9])")
_THOUSANDS = re.compile(r"[0-9]{3} [0-9]{3} [0-9]{3}")
_NUMBER = re.compile(
    r"(?<![^\W\d_])(?:number|no|nr|nummer|número|numero|numéro|numer)(?![^\W\d_])[^0-9]{0,12}$", re.IGNORECASE
)
"""What makes of 612 345 678 a telephone number in Spain, and no quantity."""
_SEPARATORS = re.compile(r"[^0-9]+")
_TAIL = re.compile(r" +\(?[0-9]+$")
_MAX_TAILS = 3


def _international(text: str, span: Span, config: PiiConfig) -> Span | None:
    del config
    start, _ = span
    if text[start] == "0" and is_near(text, start, IBAN_HEAD):
        return None
    for end in _ends(text, span):
        written = text[start:end]
        number = _parsed("+" + written[2:] if written.startswith("00") else written, None)
        if number is not None and phonenumbers.is_valid_number(number):
            return start, end
    return None


def _national(text: str, span: Span, config: PiiConfig) -> Span | None:
    start, _ = span
    if _NO_PHONE.search(text, max(0, start - 32), start) or _DATE.match(text, start) or is_near(text, start, IBAN_HEAD):
        return None
    is_said = is_near(text, start, _WORDS)
    if _ZIP.match(text, start) and text[max(0, start - 3) : start - 1].isupper():
        return None  # CA 94025-1234
    if not is_said and (_SSN.match(text, start) or text[max(0, start - 2) : start].strip(" -/").isdigit()):
        return None  # another number, or the later part of a longer one
    for end in _ends(text, span):
        written = text[start:end]
        if not is_said and (_is_other(written) or _MORE.match(text, end)):
            continue
        if not is_said and _THOUSANDS.fullmatch(written) and not is_near(text, start, _NUMBER):
            continue
        if any(_is_of(written, region, is_said=is_said) for region in config.phone_regions):
            return start, end
    return None


def _is_of(written: str, region: str, *, is_said: bool) -> bool:
    """Whether it is a number of the region, written with or without the care that is asked for where nothing says so."""
    starts_so = written.startswith(("0", "(0"))
    if not is_said and (
        (starts_so and region in _WITHOUT_ZERO) or (region == "US" and not _AMERICAN.fullmatch(written))
    ):
        return False
    number = _parsed(written, region)
    if number is None or number.country_code != phonenumbers.country_code_for_region(region):
        return False
    if not phonenumbers.is_valid_number_for_region(number, region):
        return False
    groups = _GROUPS.findall(written)
    if is_said or region == "US" or (starts_so and 2 <= len(groups[0]) <= 5):
        return True
    return groups == _usual_groups(number) or [len(group) for group in groups] == [3, 3, 3]


def _is_other(written: str) -> bool:
    """Whether it looks like a plain number, a decimal fraction, a row of a table, bytes, or a number with dots and hyphens."""
    groups = _GROUPS.findall(written)
    if "(" in written[1:]:
        return True  # 076 (1923): what has a parenthesis of its own stands first
    if max(map(len, groups)) <= 2 and (len(groups) != 5 or groups[0][0] != "0" or groups[0] == "00"):
        return True  # only France writes pairs, five of them
    by = set(_SEPARATORS.findall(written.replace("(", "").replace(") ", " ").replace(")", " ").replace(" / ", "/")))
    return len(groups) < 2 or any(len(s) > 1 for s in by) or ("." in by and (len(groups) < 3 or "-" in by))


def _usual_groups(number: PhoneNumber) -> list[str]:
    return _GROUPS.findall(phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL))


def _ends(text: str, span: Span) -> Iterator[int]:
    """The match's end, and ends without the last groups of digits: they may belong to what follows."""
    start, end = span
    if text[start] == "(" and ")" not in text[start:end]:
        return  # the parenthesis is around it, and none of it
    for _ in range(_MAX_TAILS + 1):
        yield end
        tail = _TAIL.search(text, start, end)
        if tail is None or len(digits_of(text[start : tail.start()])) < 7:
            return
        end = tail.start()


def _parsed(written: str, region: str | None) -> PhoneNumber | None:
    try:
        return phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException:
        return None


INTERNATIONAL = Group(
    PLUS,
    r"(?<![A-Za-z0-9+])(?<![0-9][.,:/-])(?=\+|00[1-9])",
    (Shape("phone", r"(?:\+ ?|00)[1-9](?:[ .()/-]{0,3}[0-9]){6,14}(?![A-Za-z0-9])(?!\.[0-9])", _international),),
)
NATIONAL = Group(
    EIGHT,
    r"(?<![A-Za-z0-9+_.,#@$€£])(?<![0-9][.,:\-/])(?<![-/][0-9(])(?<![A-Za-z]-)(?=\(?[0-9])",
    (
        Shape(
            "phone",
            r"\(?[0-9](?:(?: / |[ ./()-]{0,2})[0-9]){6,13}(?![A-Za-z0-9_%])(?![.,:-][0-9])(?!-[A-Za-z])",
            _national,
        ),
    ),
)
