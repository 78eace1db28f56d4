"""Lines of passports that machines read, and dates of birth."""

from __future__ import annotations

import re
from datetime import date

from millrace_cleaning.steps.pii.prefilter import BIRTH, LINES
from millrace_cleaning.steps.pii.settings import PiiConfig
from millrace_cleaning.steps.pii.shapes import Group, Shape, Span

_WEIGHTS = (7, 3, 1)
_ALPHABET = {char: i for i, char in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")} | {"<": 0}

_MONTHS = (
    r"(?:jan|feb|mar|apr|may|mai|maj|jun|jul|aug|ago|août|aou|sep|set|oct|okt|out|ott|nov|dec|dez|dic|déc|mär|mrz|maa|mag|"
    r"fév|avr|ene|abr|giu|lug|gen|dze|sty|lut|kwi|cze|lip|sie|wrz|paź|lis|gru|mei|fev|juin|juil)[^\W\d_]{0,8}"
)
_WORD = (
    r"(?:born|birth(?:day|date)?|bday|d\.?o\.?b\.?|geboren|geb\.?|geburts(?:datum|tag)|geboortedatum|née?|naissance|nacid[oa]|"
    r"nacimiento|nac\.?|nat[oa]|nascita|nascid[oa]|nascimento|ur\.|urodz(?:on[ya]|enia))"
)
_DATE = re.compile(
    rf"(?:[0-9]{{1,2}}(?:st|nd|rd|th|\.|er)?(?:(?: of| de)? |-){_MONTHS}[.,]?(?:(?: de| del)? |-)(?:19|20)[0-9]{{2}}"
    rf"|{_MONTHS}\.? [0-9]{{1,2}}(?:st|nd|rd|th)?,? (?:19|20)[0-9]{{2}}"
    r"|(?P<year>(?:19|20)[0-9]{2})[./-](?P<month>[0-9]{1,2})[./-](?P<day>[0-9]{1,2})"
    r"|(?P<one>[0-9]{1,2})[./-] ?(?P<other>[0-9]{1,2})[./-] ?(?P<last>(?:19|20)?[0-9]{2}))(?![0-9])",
    re.IGNORECASE,
)


def _birth_date(text: str, span: Span, config: PiiConfig) -> Span | None:
    """The pattern found a word about birth and what is near it; the first date there is meant, if there is such a day."""
    del config
    found = _DATE.search(text, *span)
    if found is None:
        return None
    if found["year"]:
        possible = _is_day(found["year"], found["month"], found["day"])
    elif found["one"]:
        year = found["last"] if len(found["last"]) == 4 else "20" + found["last"]
        possible = _is_day(year, found["one"], found["other"]) or _is_day(year, found["other"], found["one"])
    else:
        possible = True
    return found.span() if possible else None


def _is_day(year: str, month: str, day: str) -> bool:
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True


def _passport(text: str, span: Span, config: PiiConfig) -> Span | None:
    """Whether the check digits of number, date of birth and expiry are right (ICAO 9303)."""
    del config
    lines = text[slice(*span)].split()
    if len(lines) == 3:
        fields = [(lines[0][5:14], lines[0][14]), (lines[1][0:6], lines[1][6]), (lines[1][8:14], lines[1][14])]
    else:
        fields = [(lines[1][0:9], lines[1][9]), (lines[1][13:19], lines[1][19]), (lines[1][21:27], lines[1][27])]
    return span if all(_check_digit(value) == digit for value, digit in fields) else None


def _check_digit(value: str) -> str:
    return str(sum(_ALPHABET[char] * _WEIGHTS[i % 3] for i, char in enumerate(value)) % 10)


PASSPORTS = Group(
    LINES,
    r"(?<![A-Z0-9<])(?=[PVIAC][A-Z<])",
    (
        Shape(
            "passport",
            r"(?:[A-Z0-9<]{44}\s{1,2}[A-Z0-9<]{44}|[A-Z0-9<]{36}\s{1,2}[A-Z0-9<]{36}|[A-Z0-9<]{30}(?:\s{1,2}[A-Z0-9<]{30}){2})"
            r"(?:(?![A-Z0-9<])|(?=<[/a-z]))",  # a tag may follow the last line
            _passport,
        ),
    ),
)
BIRTHS = Group(
    BIRTH,
    r"(?<![^\W\d_])(?=[bdgnuBDGNU])",
    (Shape("birth_date", rf"(?i:{_WORD})(?![^\W\d_])[^0-9]{{0,48}}[0-9].{{0,24}}", _birth_date),),
)
