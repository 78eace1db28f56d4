"""Text that is on the machine, cut into documents, and noise: for each rule a set of documents of which it removes a part."""

from __future__ import annotations

import gzip
import os
import pydoc_data.topics
import random
import re
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

CHARS = 4_000
"""Of a document, about: it ends with a paragraph."""

DOCUMENTS = (".txt", ".md", ".rst", "")
"""Suffixes of documentation; a man page's is a number."""


def documents(size_bytes: int, *, seed: int = 0) -> list[str]:
    """Return documents of so many bytes together, or all that there are, shuffled. None occurs twice."""
    found = list(dict.fromkeys(cut for text in _texts() for cut in _cut(text)))
    random.Random(seed).shuffle(found)
    taken, total = [], 0
    for text in found:
        if total >= size_bytes:
            break
        taken.append(text)
        total += len(text.encode())
    return taken


def noise(rule: str, base: list[str], num: int, *, seed: int = 0) -> list[str]:
    """Return documents made from others such that a rule removes some of them: they are evenly bad, from not at all to 1."""
    draw = random.Random(f"{rule}{seed}")
    return [NOISE[rule](draw.choice(base), (i + draw.random()) / num, draw) for i in range(num)]


def _texts() -> Iterator[str]:
    yield from pydoc_data.topics.topics.values()
    yield from _docstrings(Path(sysconfig.get_path("stdlib")))
    for folder in (Path("/usr/share/doc"), Path("/usr/share/man"), Path(sysconfig.get_path("purelib"))):
        for root, folders, names in os.walk(folder):
            folders.sort()
            for name in sorted(names):
                path = Path(root, name)
                plain = name.removesuffix(".gz")
                suffix = Path(plain).suffix
                is_page = folder.name == "man" and suffix[1:2].isdigit()
                if is_page or (suffix in DOCUMENTS and path.is_file()):
                    yield _read(path)


def _read(path: Path) -> str:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return content.decode()
    except (OSError, UnicodeDecodeError):
        return ""


def _docstrings(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.py")):
        yield "\n\n".join(re.findall(r'"""(.+?)"""', _read(path), re.DOTALL))


def _cut(text: str) -> Iterator[str]:
    part: list[str] = []
    size = 0
    for paragraph in re.split(r"\n{2,}", text):
        part.append(paragraph[: 4 * CHARS])
        size += len(part[-1])
        if size >= CHARS:
            yield "\n\n".join(part)
            part, size = [], 0
    if size > 400:
        yield "\n\n".join(part)


STOPS = {"the", "be", "to", "of", "and", "that", "have", "with"}


def _prose(text: str, num_words: int) -> list[str]:
    """Plain words of a document, as often as it takes for so many."""
    words = re.findall(r"[A-Za-z]{2,}", text) or ["word"]
    return (words * (num_words // len(words) + 1))[:num_words]


def _sentences(text: str, num: int, draw: random.Random) -> list[str]:
    words = _prose(text, 14 * num)
    draw.shuffle(words)
    return [" ".join(words[14 * i : 14 * i + 14]).capitalize() + "." for i in range(num)]


def _few_words(text: str, bad: float, draw: random.Random) -> str:
    return " ".join(text.split()[: 20 + int(70 * bad)])


def _long_words(text: str, bad: float, draw: random.Random) -> str:
    words = _prose(text, 400)
    return " ".join(word + "izationally" * (draw.random() < 0.9 * bad) for word in words)


def _short_words(text: str, bad: float, draw: random.Random) -> str:
    return " ".join(w[: 2 if draw.random() < 0.5 * bad else 4] for w in _prose(text, 300))


def _marked(mark: str) -> Callable[[str, float, random.Random], str]:
    def make(text: str, bad: float, draw: random.Random) -> str:
        return " ".join(w + (f" {mark}" if draw.random() < 0.2 * bad else "") for w in _prose(text, 400))

    return make


def _lines(prefix: str, suffix: str, low: float, high: float) -> Callable[[str, float, random.Random], str]:
    """Sentences a line each, of which a share between low and high has a prefix and another end."""

    def make(text: str, bad: float, draw: random.Random) -> str:
        share = low + (high - low) * bad
        lines = _sentences(text, 40, draw)
        return "\n".join(prefix + s[:-1] + suffix if draw.random() < share else s for s in lines)

    return make


def _numbers(text: str, bad: float, draw: random.Random) -> str:
    return " ".join(w if draw.random() > 0.37 * bad else str(draw.randrange(10**4)) for w in _prose(text, 400))


def _no_stops(text: str, bad: float, draw: random.Random) -> str:
    words = [w for w in _prose(text, 400) if w not in STOPS]
    return " ".join([*words, *draw.sample(sorted(STOPS), int(4 * bad))])


def _same(between: str, num: int, most: int) -> Callable[[str, float, random.Random], str]:
    """So many sentences, of which one stands so often at most."""

    def make(text: str, bad: float, draw: random.Random) -> str:
        parts = _sentences(text, num, draw)
        return between.join(parts[: num - int(most * bad)] + [parts[0]] * int(most * bad))

    return make


def _same_phrase(num_words: int, most: float) -> Callable[[str, float, random.Random], str]:
    """A phrase between other words, as the given share of the text at most."""

    def make(text: str, bad: float, draw: random.Random) -> str:
        words = [f"{w}{draw.choice('aeiou')}{draw.choice('rstln')}{draw.choice('aeiou')}" for w in _prose(text, 400)]
        phrase = " ".join(words[:num_words])
        every = max(1, int(num_words / max(most * bad, 0.02)) - num_words)
        return " ".join(w + (f" {phrase}" if i % every == 0 else "") for i, w in enumerate(words))

    return make


def _few_sentences(text: str, bad: float, draw: random.Random) -> str:
    return "\n".join(_sentences(text, 2 + int(7 * bad), draw))


def _with(sign: str) -> Callable[[str, float, random.Random], str]:
    def make(text: str, bad: float, draw: random.Random) -> str:
        lines = _sentences(text, 12, draw)
        if bad > 0.6:
            lines[draw.randrange(12)] = f"Here is {sign} in a sentence."
        return "\n".join(lines)

    return make


def _short_lines(text: str, bad: float, draw: random.Random) -> str:
    lines = _sentences(text, 40, draw)
    return "\n".join(s[:20] + "." if draw.random() < 0.4 + 0.46 * bad else s for s in lines)


def _many_lines(text: str, bad: float, draw: random.Random) -> str:
    words = _prose(text, 300)
    step = 2 + int(5 * bad)
    return "\n".join(" ".join(words[i : i + step]) for i in range(0, 300, step))


def _once_more(text: str, bad: float, draw: random.Random) -> str:
    lines = _sentences(text, 80, draw)
    return "\n".join(lines + lines[: int(1.8 * bad)])


NOISE: dict[str, Callable[[str, float, random.Random], str]] = {
    "gopher_quality.min_words": _few_words,
    "gopher_quality.min_mean_word_length": _short_words,
    "gopher_quality.max_mean_word_length": _long_words,
    "gopher_quality.max_hash_ratio": _marked("#"),
    "gopher_quality.max_ellipsis_ratio": _marked("..."),
    "gopher_quality.max_bullet_lines": _lines("- ", ".", 0.75, 1.0),
    "gopher_quality.max_ellipsis_lines": _lines("", "...", 0.1, 0.5),
    "gopher_quality.min_alphabetic_words": _numbers,
    "gopher_quality.min_stop_words": _no_stops,
    "gopher_repetition.max_duplicate_lines": _same("\n", 40, 25),
    "gopher_repetition.max_duplicate_line_chars": _same("\n", 40, 16),
    "gopher_repetition.max_duplicate_paragraphs": _same("\n\n", 20, 12),
    "gopher_repetition.max_duplicate_paragraph_chars": _same("\n\n", 20, 8),
    "gopher_repetition.max_top_ngram_chars.2": _same_phrase(2, 0.4),
    "gopher_repetition.max_top_ngram_chars.3": _same_phrase(3, 0.34),
    "gopher_repetition.max_top_ngram_chars.4": _same_phrase(4, 0.28),
    "gopher_repetition.max_duplicate_ngram_chars.5": _same_phrase(5, 0.3),
    "gopher_repetition.max_duplicate_ngram_chars.6": _same_phrase(6, 0.29),
    "gopher_repetition.max_duplicate_ngram_chars.7": _same_phrase(7, 0.28),
    "gopher_repetition.max_duplicate_ngram_chars.8": _same_phrase(8, 0.265),
    "gopher_repetition.max_duplicate_ngram_chars.9": _same_phrase(9, 0.235),
    "gopher_repetition.max_duplicate_ngram_chars.10": _same_phrase(10, 0.225),
    "c4_quality.min_sentences": _few_sentences,
    "c4_quality.lorem_ipsum": _with("Lorem Ipsum"),
    "c4_quality.curly_bracket": _with("a { bracket"),
    "fineweb_quality.min_punctuated_lines": _lines("", "", 0.72, 1.0),
    "fineweb_quality.max_short_lines": _short_lines,
    "fineweb_quality.max_duplicate_line_chars": _once_more,
    "fineweb_quality.max_newline_ratio": _many_lines,
}
"""By rule: what makes a document bad in its sense, the more the nearer `bad` is to 1."""
