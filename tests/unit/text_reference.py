"""Slow references of the text rules, in plain Python on str: regular expressions, sets and counters, as datatrove has them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from millrace_cleaning.steps.text.characters import _AFFIXES, _CLOSERS, _CURRENCIES, _OPENINGS, _QUOTES
from millrace_cleaning.steps.text.punctuation import SYMBOLS
from millrace_cleaning.steps.text.tokens import UNITS, WHOLE

ABBREVIATIONS = set(WHOLE.split())
UNIT_WORDS = set(UNITS.split()) | ABBREVIATIONS
APOSTROPHES = "'’"


def is_icon(c: str) -> bool:
    return unicodedata.category(c) == "So"


def is_affix(c: str) -> bool:
    return c in _AFFIXES or c in _QUOTES or is_icon(c)


def is_lower(c: str) -> bool:
    return c.isalpha() and not c.isupper()


def is_upper(c: str) -> bool:
    return c.isalpha() and not c.islower()


def is_digit(c: str) -> bool:
    return c in "0123456789"


def words(text: str) -> list[str]:
    return [word for run in text.split() for word in cut(run)]


def cut(run: str) -> list[str]:
    before: list[str] = []
    after: list[str] = []
    while run and not is_whole(run):
        head = prefix(run)
        if head and is_whole(run[head:]):
            before.append(run[:head])
            run = run[head:]
            break
        tail = suffix(run[head:])
        if tail and is_whole(run[:-tail]):
            after.append(run[-tail:])
            run = run[:-tail]
            break
        if not head and not tail:
            break
        if head:
            before.append(run[:head])
        if tail:
            after.append(run[-tail:])
        run = run[head : len(run) - tail]
    return before + inside(run) + after[::-1]


def is_whole(run: str) -> bool:
    return bool(re.fullmatch(r"[a-z]\.", run)) or run in ABBREVIATIONS


def prefix(run: str) -> int:
    if is_affix(run[0]) or run[0] in _OPENINGS + _CURRENCIES or re.match(r"\+(?![0-9])", run):
        return 1
    dots = re.match(r"\.\.+", run)
    return dots.end() if dots else 0


def suffix(run: str) -> int:
    if not run:
        return 0
    last, previous = run[-1], run[-2:-1]
    if last in "sS" and previous and previous in APOSTROPHES:
        return 2
    if is_affix(last) or last in "—–":
        return 1
    if previous and is_digit(previous) and (last == "+" or last in _CURRENCIES):
        return 1
    if last == ".":
        dots = re.search(r"\.+$", run)
        assert dots is not None
        if len(dots[0]) > 1:
            return len(dots[0])
        if not previous:
            return 0
        plain = (is_digit(previous) or is_affix(previous)) and not is_icon(previous)
        if plain or is_lower(previous) or previous in "%+-":
            return 1
        return int(len(run) > 2 and is_upper(previous) and is_upper(run[-3]))
    unit = re.search(r"(?<=[0-9])[^0-9]{1,4}$", run)
    return len(unit[0]) if unit and unit[0] in UNIT_WORDS and (last.isalpha() or last == "%") else 0


def inside(run: str) -> list[str]:
    if not run or is_whole(run):
        return [run] if run else []
    if re.fullmatch(r"[Cc]annot", run):
        return [run[:3], run[3:]]
    short = re.fullmatch(rf"(.*[^\W\d_])(n[{APOSTROPHES}]t|[{APOSTROPHES}](?:m|d|re|ve|ll))", run, re.DOTALL)
    if short and short[1][-1].isalpha():
        return [short[1], short[2]]
    found = infixes(run)
    if not found or ADDRESS.fullmatch(run):
        return [run]
    pieces, at = [], 0
    for begin, end in found:
        pieces += [run[at:begin], run[begin:end]]
        at = end
    return [piece for piece in [*pieces, run[at:]] if piece]


HIGH = "\x80-\U0010ffff"
LABEL = rf"[A-Za-z0-9{HIGH}](?:[A-Za-z0-9_{HIGH}-]{{0,62}}[A-Za-z0-9{HIGH}])?"
ADDRESS = re.compile(
    rf"(?:[A-Za-z0-9_+.{HIGH}-]{{2,}}://)?(?:\S*@)?(?:{LABEL}\.)+[a-z{HIGH}]{{2,63}}(?::[0-9]{{2,5}})?(?:[/?#]\S*)?"
)


def infixes(run: str) -> list[tuple[int, int]]:
    found, i = [], 1
    while i < len(run):
        size = infix(run, i)
        if size:
            found.append((i, i + size))
        i += size or 1
    return found


def infix(run: str, i: int) -> int:
    c, before, after = run[i], run[i - 1], run[i + 1 : i + 2]
    dots = re.match(r"\.\.+", run[i:])
    if dots:
        return dots.end()
    if is_icon(c) or c == "…":
        return 1
    if not after:
        return 0
    if c in "+-*^" and is_digit(before) and (is_digit(after) or after == "-"):
        return 1
    if c == ".":
        return int((is_lower(before) or before in _QUOTES) and (is_upper(after) or after in _QUOTES))
    if c == ",":
        return int(before.isalpha() and after.isalpha())
    if not (before.isalpha() or is_digit(before)):
        return 0
    if c in ":<>=/":
        return int(after.isalpha())
    dashes = re.match(r"~|-{1,3}|—{1,2}|–{1,2}", run[i:])
    end = i + dashes.end() if dashes else 0
    return dashes.end() if dashes and run[end : end + 1].isalpha() else 0


def sentences(text: str) -> int:
    num, is_over = 0, True
    for word in words(text):
        closes = word in _CLOSERS
        if num == 0 or (is_over and not closes and not all(unicodedata.category(c)[0] == "P" for c in word)):
            num, is_over = num + 1, closes
        else:
            is_over = is_over or closes
    return num


def gopher(text: str, stops: Sequence[str]) -> list[int]:
    found, lines = words(text), text.splitlines()
    plain = [word for word in found if not set(word) <= set(SYMBOLS)]
    return [
        len(found), len(plain), sum(map(len, plain)), sum(any(c.isalpha() for c in w) for w in found),
        len(set(stops) & set(found)), text.count("#"), text.count("...") + text.count("…"), len(lines),
        sum(line.lstrip().startswith(("•", "-")) for line in lines),
        sum(line.rstrip().endswith(("...", "…")) for line in lines),
    ]  # fmt: skip


def repeated(pieces: Sequence[str]) -> tuple[int, int, int]:
    seen: set[str] = set()
    num = chars = 0
    for piece in pieces:
        if piece in seen:
            num, chars = num + 1, chars + len(piece)
        seen.add(piece)
    return len(pieces), num, chars


def repetition(text: str) -> list[int]:
    return [*repeated(re.split("\n+", text)), *repeated(re.split("\n{2,}", text.strip()))]


def top_ngram(text: str, size: int) -> int:
    found = words(text)
    grams = Counter(tuple(found[i : i + size]) for i in range(len(found) - size + 1))
    if not grams:
        return 0
    gram, times = grams.most_common(1)[0]
    return len(" ".join(gram)) * times


def repeated_ngrams(text: str, size: int) -> int:
    found, seen, total, i = words(text), set(), 0, 0
    while i < len(found) - size + 1:
        gram = tuple(found[i : i + size])
        if gram in seen:
            total += sum(map(len, gram))
            i += size
        else:
            seen.add(gram)
            i += 1
    return total


def fineweb(text: str, terminals: str, short: int) -> list[int]:
    lines = [line for line in text.split("\n") if line.strip()]
    return [
        len(lines), sum(line.endswith(tuple(terminals)) for line in lines), sum(len(line) <= short for line in lines),
        repeated(lines)[2],
    ]  # fmt: skip


def c4(text: str, policies: Sequence[str]) -> tuple[str, str]:
    """Return what stays of a text, and why it goes."""
    kept, num = [], 0
    for given in text.splitlines():
        line = given.strip()
        num_words = len(line.split())
        if any(len(word) > 1000 for word in line.split()):
            continue
        line = re.sub(r"\[[0-9]*]|\[edit]|\[citation needed]", "", line)
        if not line.endswith((".", "?", "!", '"', "'")) or line.endswith("...") or num_words < 3:
            continue
        low = line.lower()
        if "lorem ipsum" in low:
            return "", "lorem_ipsum"
        if "javascript" in low:
            continue
        if "{" in line:
            return "", "curly_bracket"
        if any(policy in low for policy in policies):
            continue
        num += sentences(line)
        kept.append(line)
    return "\n".join(kept).strip(), "" if num >= 5 else "min_sentences"
