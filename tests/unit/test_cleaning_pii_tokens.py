"""Tokens: equal data have equal ones, the key turns them back, nothing else does; and the worker has to have that key."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from millrace import errors
from millrace.datasets.pii_tokens import Tokens, key_id, reveal
from millrace_cleaning.steps.findings import Scratch
from millrace_cleaning.steps.pii.settings import KINDS, PiiConfig, PiiKind
from millrace_cleaning.steps.pii.step import apply

KEY = "0123456789abcdef0123456789abcdef"
OTHER = KEY[::-1]
TOKEN = r"<[A-Z0-9_]+:[A-Za-z0-9_-]+>"


def tokenized(*texts: str, key: str = KEY, **fields: Any) -> list[str]:
    config = PiiConfig.model_validate(
        {"step": "pii", "column": "t", "action": "token", "key_id": key_id(KEY), **fields}
    )
    batch = pa.record_batch({"t": list(texts)})
    made: list[str] = apply(batch, config, Scratch(pii_key=SecretStr(key))).batch.column("t").to_pylist()
    return made


@given(st.text(min_size=1), st.sampled_from(KINDS), st.text(alphabet="ab <>:é", max_size=8))
def test_what_a_token_stands_for_comes_back(text: str, kind: PiiKind, around: str) -> None:
    tokens = Tokens(KEY)
    token = tokens.token(text, kind)
    assert re.fullmatch(TOKEN, token)
    assert tokens.reveal(f"{around}{token}{around}{token}") == f"{around}{text}{around}{text}"


def test_equal_data_have_equal_tokens_of_a_kind_and_a_key() -> None:
    tokens = Tokens(KEY)
    assert tokens.token("a@b.de", "email") == Tokens(KEY).token("a@b.de", "email")
    made = {tokens.token("a@b.de", "email"), tokens.token("a@b.de", "phone"), Tokens(OTHER).token("a@b.de", "email")}
    assert len({token.partition(":")[2] for token in made}) == 3


def test_the_form_of_tokens_is_what_it_was() -> None:
    """Data sets keep tokens for years: another form needs another name in their derivation."""
    assert Tokens(KEY).token("a@b.de", "email") == "<EMAIL:BLGNV7-sTyk_wrhS9xCthmVUz0U9ug>"
    assert key_id(KEY) == "4298ee8f842f319f"


@pytest.mark.parametrize(
    "change", [lambda t: t.replace("EMAIL", "PHONE"), lambda t: t[:-2] + ("A" if t[-2] != "A" else "B") + ">"]
)
def test_a_token_that_was_altered_is_refused_without_telling_it(change: Any) -> None:
    token = change(Tokens(KEY).token("anna@example.com", "email"))
    with pytest.raises(errors.InvalidData, match="does not open with this key") as raised:
        reveal(f"see {token}", key=KEY)
    assert token[8:20] not in str(raised.value)
    with pytest.raises(errors.InvalidData):
        reveal(Tokens(KEY).token("x", "email"), key=OTHER)


def test_the_step_makes_tokens_that_come_back() -> None:
    texts = [
        "Käse an jörg@beispiel.de, 81.2.69.142 und jörg@beispiel.de",
        "nothing",
        "IBAN DE89 3704 0044 0532 0130 00",
    ]
    made = tokenized(*texts)
    assert [reveal(text, key=KEY) for text in made] == texts
    assert len(set(re.findall(TOKEN, made[0]))) == 2
    assert "beispiel" not in made[0]
    assert tokenized(*texts) == made


def test_tokens_and_masks_stand_side_by_side() -> None:
    made = tokenized("a@b.de from 81.2.69.142", action="mask", kinds={"email": "token"})
    assert re.fullmatch(TOKEN + " from <IPV4>", made[0])


@pytest.mark.parametrize(("key", "said"), [("", "MILLRACE_PII_KEY"), (OTHER, "key"), (KEY[:-1], "key")])
def test_a_worker_without_the_key_is_told_so_and_says_no_key(key: str, said: str) -> None:
    with pytest.raises(errors.InvalidInput) as raised:
        tokenized("a@b.de", key=key)
    assert said in f"{raised.value} {raised.value.remedy}"
    assert KEY not in str(raised.value)
    assert not key or key not in str(raised.value)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(errors.InvalidInput, match="at least 32"):
        Tokens("hunter2")
