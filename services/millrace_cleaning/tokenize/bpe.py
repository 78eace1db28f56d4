"""Tokenizers: trained here as byte-level BPE, or given by the user as a `tokenizer.json`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from millrace import errors
from millrace.contracts.tokens import TOKENIZER
from millrace.runtime.stage import Artifact
from millrace_cleaning.tokenize.settings import NUM_BYTES, TokenizeConfig
from millrace_cleaning.tokenize.texts import pieces_of

MAX_BYTES = 256 * 2**20


@contextmanager
def threads(num_threads: int) -> Iterator[None]:
    """Let the library take so many threads within this block; one means that it makes none, so the process stays clean.

    It asks the environment: each time whether, and how many when it first makes them.
    """
    names = ("TOKENIZERS_PARALLELISM", "RAYON_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(zip(names, ("true" if num_threads > 1 else "false", str(num_threads)), strict=True))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def train_tokenizer(texts: Iterable[str], config: TokenizeConfig) -> bytes:
    """Train a byte-level BPE (Sennrich et al. 2016, on bytes as in GPT-2) and return its `tokenizer.json`.

    Every byte is in the vocabulary, so any text can be said, and what is decoded is the very text. Equal texts give equal
    bytes: merges of equal counts are taken in the order of their ids.

    Raises:
        InvalidSpec: The vocabulary has no room for the bytes and the special tokens.
    """
    special = list(dict.fromkeys((config.end_of_text, *config.special_tokens)))
    if config.vocabulary_size < NUM_BYTES + len(special):
        raise errors.InvalidSpec(
            f"{config.vocabulary_size} entries have no room for {NUM_BYTES} bytes and {len(special)} special tokens.",
            field="with.vocabulary_size", remedy="Raise it, or name fewer special tokens.",
        )  # fmt: skip
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary_size, min_frequency=config.min_frequency, special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator((piece for text in texts for piece in pieces_of(text)), trainer)
    return str(tokenizer.to_str(pretty=False)).encode()


def given_tokenizer(artifact: Artifact) -> bytes:
    """The `tokenizer.json` of an artifact: tokens that were made before, or a source with this one file.

    Raises:
        InvalidData: There is none, or it cannot be read.
    """
    paths = [f.path for f in artifact.manifest.files if f.path.rsplit("/", 1)[-1] == TOKENIZER]
    if not paths:
        raise errors.InvalidData(
            f"Artifact {artifact.ref.digest[:12]} ({artifact.ref.type}) has no file {TOKENIZER}.",
            field="inputs.tokenizer", remedy="Give the output of another tokenize stage, or a file of this name.",
        )  # fmt: skip
    content = artifact.read(paths[0], max_bytes=MAX_BYTES)
    load_tokenizer(content)
    return content


def load_tokenizer(content: bytes) -> Tokenizer:
    """Make a tokenizer that says texts whole and plain: what looks like a special token in a text is text.

    Raises:
        InvalidData: The bytes are not a tokenizer that this version of the library knows.
    """
    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises Exception itself
        raise errors.InvalidData(
            f"{TOKENIZER} cannot be read: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}.",
            field="inputs.tokenizer", remedy="Give a file as the `tokenizers` library saves it.",
        ) from error  # fmt: skip
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def end_of_text_id(tokenizer: Tokenizer, name: str) -> int:
    """The id of the token that stands before each document.

    Raises:
        InvalidSpec: The tokenizer has none of this name.
    """
    found = tokenizer.token_to_id(name)
    if found is None:
        special = [t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special]
        raise errors.InvalidSpec(
            f"The tokenizer has no token {name!r}; {errors.nearest(name, special)}", field="with.end_of_text"
        )
    return int(found)


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the highest id; ids need not be without gaps."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
