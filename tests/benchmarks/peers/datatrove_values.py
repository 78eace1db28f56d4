"""What datatrove measures of a document for a rule, and the words that it cuts it into, in its own environment.

Argument: a JSONL file of rules and texts. datatrove's filters only say yes or no: the quotients are formed here as its filters
form them, by its own functions.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable

from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter
from datatrove.pipeline.filters.gopher_quality_filter import STOP_WORDS
from datatrove.pipeline.filters.gopher_repetition_filter import (
    find_all_duplicate,
    find_duplicates,
    find_top_duplicate,
    get_n_grams,
)
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION, split_into_sentences, split_into_words


def words(text: str) -> list[str]:
    return split_into_words(text, "eng")


def mean_length(text: str) -> float:
    sizes = [len(word) for word in plain(text)]
    return sum(sizes) / len(sizes)


def plain(text: str) -> list[str]:
    return [word for word in words(text) if any(char not in PUNCTUATION_SET for char in word)]


def filled(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def share(of: list[str], holds: Callable[[str], bool]) -> float:
    return sum(map(holds, of)) / len(of)


def repeats(text: str, by: str, *, of_chars: bool) -> float:
    pieces = re.split(by, text)
    num, chars = find_duplicates(pieces)
    return chars / len(text) if of_chars else num / len(pieces)


def num_sentences(text: str) -> int:
    """Of the lines that C4's other rules leave."""
    document = Document(text=text, id="")
    C4QualityFilter(min_num_sentences=-1, filter_lorem_ipsum=False, filter_curly_bracket=False).filter(document)
    return sum(len(split_into_sentences(line, "eng")) for line in document.text.split("\n") if line)


def is_refused(text: str, **rule: bool) -> float:
    rules = {"filter_lorem_ipsum": False, "filter_curly_bracket": False, "min_num_sentences": -1, **rule}
    return float(C4QualityFilter(**rules).filter(Document(text=text, id="")) is not True)


MEASURES: dict[str, Callable[[str], float]] = {
    "gopher_quality.min_words": lambda text: len(plain(text)),
    "gopher_quality.min_mean_word_length": mean_length,
    "gopher_quality.max_mean_word_length": mean_length,
    "gopher_quality.max_hash_ratio": lambda text: text.count("#") / len(words(text)),
    "gopher_quality.max_ellipsis_ratio": lambda text: (text.count("...") + text.count("…")) / len(words(text)),
    "gopher_quality.max_bullet_lines": lambda text: share(
        text.splitlines(), lambda line: line.lstrip().startswith(("•", "-"))
    ),
    "gopher_quality.max_ellipsis_lines": lambda text: share(
        text.splitlines(), lambda line: line.rstrip().endswith(("...", "…"))
    ),
    "gopher_quality.min_alphabetic_words": lambda text: share(words(text), lambda word: any(map(str.isalpha, word))),
    "gopher_quality.min_stop_words": lambda text: len(set(STOP_WORDS) & set(words(text))),
    "gopher_repetition.max_duplicate_lines": lambda text: repeats(text, "\n+", of_chars=False),
    "gopher_repetition.max_duplicate_line_chars": lambda text: repeats(text, "\n+", of_chars=True),
    "gopher_repetition.max_duplicate_paragraphs": lambda text: repeats(text.strip(), "\n{2,}", of_chars=False),
    "gopher_repetition.max_duplicate_paragraph_chars": lambda text: repeats(text, "\n{2,}", of_chars=True),
    **{
        f"gopher_repetition.max_top_ngram_chars.{n}": lambda text, n=n: (
            find_top_duplicate(get_n_grams(words(text), n)) / len(text)
        )
        for n in (2, 3, 4)
    },
    **{
        f"gopher_repetition.max_duplicate_ngram_chars.{n}": lambda text, n=n: (
            find_all_duplicate(words(text), n) / len(text)
        )
        for n in range(5, 11)
    },
    "c4_quality.min_sentences": num_sentences,
    "c4_quality.lorem_ipsum": lambda text: is_refused(text, filter_lorem_ipsum=True),
    "c4_quality.curly_bracket": lambda text: is_refused(text, filter_curly_bracket=True),
    "fineweb_quality.min_punctuated_lines": lambda text: share(
        filled(text), lambda line: line.endswith(tuple(TERMINAL_PUNCTUATION))
    ),
    "fineweb_quality.max_short_lines": lambda text: share(filled(text), lambda line: len(line) <= 30),
    "fineweb_quality.max_duplicate_line_chars": lambda text: (
        find_duplicates(filled(text))[1] / len(text.replace("\n", ""))
    ),
    "fineweb_quality.max_newline_ratio": lambda text: text.count("\n") / len(words(text)),
}


def main() -> None:
    found = []
    with open(sys.argv[1], encoding="utf-8") as lines:
        for asked in map(json.loads, lines):
            text = asked["text"]
            found.append({"value": MEASURES[asked["rule"]](text), "words": words(text)})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
