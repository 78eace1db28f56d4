"""What a user may say about text. Imports pydantic alone. Every threshold has the default that was published with its rule.

Words are those that spaCy's English tokenizer finds, without its lists of emoticons (see words.py). A limit of null switches
its rule off. A null text is judged by no rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from millrace.contracts.schema import ColumnType, Role
from millrace.contracts.shorthand import OneOrMore
from millrace_cleaning.steps.settings import StepConfig
from millrace_cleaning.steps.text.punctuation import TERMINALS

MAX_TERMS = 100_000
MAX_TERM_CHARS = 200
MAX_PHRASE_WORDS = 8

GOPHER_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
C4_POLICY_PHRASES = (
    "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies",
)  # fmt: skip


def _checked_terms(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(value) > MAX_TERMS:
        raise ValueError(f"expected at most {MAX_TERMS:,} terms, found {len(value):,}")
    for term in value:
        if not term.strip() or len(term) > MAX_TERM_CHARS:
            raise ValueError(f"{term[:40]!r}: a term has 1 to {MAX_TERM_CHARS} characters that are no spaces")
    return value


Terms = Annotated[tuple[str, ...], OneOrMore(), AfterValidator(_checked_terms)]
"""One word or phrase, or a list of them."""

Fraction = Annotated[float, Field(ge=0, le=1)]


def _checked_sizes(value: Mapping[int, float]) -> Mapping[int, float]:
    for size in value:
        if not 2 <= size <= 20:
            raise ValueError(f"n-grams of {size} words; expected 2 to 20")
    return dict(sorted(value.items()))


Limits = Annotated[Mapping[int, Fraction], AfterValidator(_checked_sizes)]
"""A limit for each size of n-gram."""


class TextStep(StepConfig):
    """A step about one text column."""

    extra: ClassVar[str] = "text"


class RepairTextConfig(TextStep):
    """Mend text: wrongly decoded bytes, Unicode's composed form, line endings; control and invisible characters go."""

    runs_in: ClassVar[str] = "millrace_cleaning.steps.text.repair"
    is_changing: ClassVar[bool] = True

    step: Literal["repair_text"]
    mojibake: bool = Field(default=True, description="Undo wrong decoding, such as `â€™` for an apostrophe, by ftfy.")
    normalize: Literal["NFC", "none"] = Field(
        default="NFC", description="NFC: letters and their accents become one character each."
    )
    line_endings: bool = Field(default=True, description="CR LF, a lone CR, and U+2028, U+2029 and U+0085 become LF.")
    control_characters: bool = Field(
        default=True,
        description="Take out NUL and other control characters, but tab, LF and form feed; and U+FFFE, U+FFFF.",
    )
    invisible: bool = Field(
        default=True,
        description="Take out zero-width spaces and byte order marks. Zero-width joiners stay: scripts and emoji need them.",
    )


class LanguageConfig(TextStep):
    """Say which language a text is in, by py3langid, and remove what is in another, or unsure.

    Appends the columns `language` (ISO 639-1) and `language_score` (0 to 1).
    """

    runs_in: ClassVar[str] = "millrace_cleaning.steps.text.language"
    example = "keep: [en], min_score: 0.65"

    step: Literal["language"]
    keep: Annotated[tuple[str, ...], OneOrMore()] = Field(
        default=(), description="Languages that stay, such as [en, de]; default: all."
    )
    min_score: Fraction | None = Field(default=None, description="Texts that the model is less sure of go.")
    sample_bytes: int = Field(
        default=1024,
        ge=64,
        le=2**20,
        description="How much is looked at, in four pieces spread over the text: a language shows within a few sentences.",
    )

    @field_validator("keep")
    @classmethod
    def _codes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for code in value:
            if not (2 <= len(code) <= 3 and code.isascii() and code.islower()):
                raise ValueError(f"{code!r} is no language code; expected ISO 639, such as en")
        return value

    def added_columns(self) -> tuple[tuple[str, ColumnType, Role], ...]:
        return (("language", "category", "ignore"), ("language_score", "number", "ignore"))


class GopherQualityConfig(TextStep):
    """The quality rules of Gopher (Rae et al. 2021, appendix A1.1), as datatrove reads them."""

    runs_in: ClassVar[str] = "millrace_cleaning.steps.text.gopher"
    example = "min_words: 30, max_bullet_lines: null"

    step: Literal["gopher_quality"]
    min_words: int | None = Field(default=50, ge=0, description="Words that are not made of symbols alone.")
    max_words: int | None = Field(default=100_000, ge=1)
    min_mean_word_length: float | None = Field(default=3, ge=0, description="In characters, over the same words.")
    max_mean_word_length: float | None = Field(default=10, gt=0)
    max_hash_ratio: float | None = Field(default=0.1, ge=0, description="`#` characters for each word.")
    max_ellipsis_ratio: float | None = Field(default=0.1, ge=0, description="`...` and `…` for each word.")
    max_bullet_lines: Fraction | None = Field(default=0.9, description="Share of lines that begin with `-` or `•`.")
    max_ellipsis_lines: Fraction | None = Field(default=0.3, description="Share of lines that end with an ellipsis.")
    min_alphabetic_words: Fraction | None = Field(default=0.8, description="Share of words with a letter in them.")
    min_stop_words: int | None = Field(default=2, ge=0, description="How many of stop_words occur, each counted once.")
    stop_words: Terms = Field(default=GOPHER_STOP_WORDS, description="As they are written, in lower case.")


class GopherRepetitionConfig(TextStep):
    """The repetition rules of Gopher (Rae et al. 2021, table A1), as datatrove reads them: shares of a text that repeat."""

    runs_in: ClassVar[str] = "millrace_cleaning.steps.text.repetition"
    example = "max_duplicate_lines: 0.3"

    step: Literal["gopher_repetition"]
    max_duplicate_lines: Fraction | None = Field(default=0.3, description="Of lines, those that stood before.")
    max_duplicate_line_chars: Fraction | None = Field(default=0.2, description="Of characters, those in such lines.")
    max_duplicate_paragraphs: Fraction | None = Field(default=0.3, description="Paragraphs have blank lines between.")
    max_duplicate_paragraph_chars: Fraction | None = 0.2
    max_top_ngram_chars: Limits = Field(
        default={2: 0.2, 3: 0.18, 4: 0.16},
        description="By number of words: the share of characters in the most frequent n-gram.",
    )
    max_duplicate_ngram_chars: Limits = Field(
        default={5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10},
        description="By number of words: the share of characters in n-grams that stood before.",
    )


class C4QualityConfig(TextStep):
    """The rules of C4 (Raffel et al. 2020, section 2.2), as datatrove reads them: lines go, and texts that keep too little."""

    runs_in: ClassVar[str] = "millrace_cleaning.steps.text.c4"
    is_changing: ClassVar[bool] = True
    example = "min_sentences: 3, curly_bracket: false"

    step: Literal["c4_quality"]
    terminal_punctuation: bool = Field(
        default=True, description="A line that does not end with . ? ! or a quotation mark goes, and one with `...`."
    )
    min_words_per_line: int | None = Field(default=3, ge=0, description="Words between spaces; shorter lines go.")
    max_word_length: int | None = Field(default=1000, ge=1, description="Lines with a longer word go.")
    javascript: bool = Field(default=True, description="Lines that mention Javascript go.")
    policy_phrases: Terms = Field(
        default=C4_POLICY_PHRASES, description="Lines with one of them go, whatever its case."
    )
    lorem_ipsum: bool = Field(default=True, description="A text with `lorem ipsum` goes.")
    curly_bracket: bool = Field(default=True, description="A text with `{` goes.")
    citations: bool = Field(default=True, description="Take out [1], [edit] and [citation needed].")
    min_sentences: int | None = Field(default=5, ge=0, description="In the lines that stay.")


class FinewebQualityConfig(TextStep):
    """The rules that FineWeb added (Penedo et al. 2024, section 3.6): lists, menus and repeated lines."""

    runs_in: ClassVar[str] = "millrace_cleaning.steps.text.fineweb"
    example = "max_short_lines: 0.8"

    step: Literal["fineweb_quality"]
    min_punctuated_lines: Fraction | None = Field(default=0.12, description="Share of lines that end a sentence.")
    allow_no_punctuated_line: bool = Field(default=False, description="Whether a text without any such line may stay.")
    terminals: str = Field(
        default=TERMINALS, min_length=1, max_length=1000, description="Characters that end a sentence."
    )
    max_short_lines: Fraction | None = Field(default=0.67, description="Share of lines of short_line_chars or fewer.")
    short_line_chars: int = Field(default=30, ge=0)
    max_duplicate_line_chars: Fraction | None = Field(
        default=0.01, description="Of characters that are no line feeds, those in lines that stood before."
    )
    max_newline_ratio: float | None = Field(default=0.3, ge=0, description="Line feeds for each word.")


class BlocklistConfig(TextStep):
    """Remove texts with words or phrases of a list, which stands in the recipe or comes as a file."""

    runs_in: ClassVar[str] = "millrace_cleaning.steps.text.blocklist"
    example = "terms: [casino, click here], max_matches: 2"

    step: Literal["blocklist"]
    terms: Terms = Field(default=(), description="Words and phrases of up to eight words; case does not matter.")
    terms_from: str = Field(
        default="",
        description="A file of the stage's input `terms` with more of them: UTF-8 text, a term a line.",
    )
    whole_words: bool = Field(
        default=True,
        description="Whether a term matches whole words alone; false for scripts without spaces, such as Chinese.",
    )
    max_matches: int = Field(default=0, ge=0, description="A text with more of them goes.")

    @model_validator(mode="after")
    def _has_terms(self) -> BlocklistConfig:
        if not self.terms and not self.terms_from:
            raise ValueError("give terms, or a file of them in `terms_from`")
        return self


class LengthConfig(TextStep):
    """Remove texts that are too short or too long."""

    runs_in: ClassVar[str] = "millrace_cleaning.steps.text.length"
    example = "min_chars: 200, max_words: 100000"

    step: Literal["length"]
    min_chars: int | None = Field(default=None, ge=0)
    max_chars: int | None = Field(default=None, ge=0)
    min_words: int | None = Field(default=None, ge=0, description="Punctuation does not count as a word.")
    max_words: int | None = Field(default=None, ge=0)
    min_bytes: int | None = Field(default=None, ge=0, description="In UTF-8.")
    max_bytes: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> LengthConfig:
        limits = {name: value for name, value in self if name.startswith(("min_", "max_")) and value is not None}
        if not limits:
            raise ValueError("give at least one limit, such as min_chars: 200")
        for unit in ("chars", "words", "bytes"):
            low, high = limits.get(f"min_{unit}"), limits.get(f"max_{unit}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{unit}: {low} is above max_{unit}, {high}")
        return self


STEPS: tuple[type[StepConfig], ...] = (
    RepairTextConfig, LanguageConfig, GopherQualityConfig, GopherRepetitionConfig, C4QualityConfig, FinewebQualityConfig,
    BlocklistConfig, LengthConfig,
)  # fmt: skip
