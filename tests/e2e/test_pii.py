"""Personal data goes nowhere: a factory cleans planted data, and everything that it leaves behind is searched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace import Client, Pipeline, errors
from millrace.datasets.pii_tokens import key_id
from millrace.settings import Settings
from millrace.testing.factory import Factory, environment_of, running_factory
from planted import found_under

KEY = "a key that stands in no file 7f3c91d2e8"
PLANTED = (
    "walburga.quastenflosser@privat.example.org", "+49 30 90182277", "DE02120300000000202051", "4539 1488 0343 6467",
    "85.214.132.117", "44051401359", "RSSMRA85T10A562S", "AKIAZ7QVUNP5LXWK3MTY", "537-48-2019",
    "quastenpost:Gehe1m7@db.example.com",
)  # fmt: skip
SENTENCES = (
    "Write to {}.",
    "Call {} now.",
    "IBAN {}",
    "Card {}.",
    "Login from {}",
    "PESEL {}",
    "CF {}",
    "key {}",
    "SSN {}",
    "ftp://{}/x",
)
PLAIN = "Nobody had expected the bridge to be finished before winter, and number {} least of all."


def source(*, ragged: bool) -> bytes:
    """A CSV whose column `note` has the planted data; the ragged row has some too."""
    lines = ["note,label"]
    for i in range(400):
        datum = i % 40
        note = SENTENCES[datum].format(PLANTED[datum]) + f" Case {i}." if datum < len(PLANTED) else PLAIN.format(i)
        lines.append(f'"{note}",{"ab"[i % 2]}')
        if ragged and i == 200:
            lines.append(f'"{PLANTED[0]}",a,{PLANTED[2]}')
    return "\n".join(lines).encode() + b"\n"


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Factory]:
    environment = environment_of(Settings(home=tmp_path_factory.mktemp("pii") / "home"))
    with running_factory({**environment, "MILLRACE_PII_KEY": KEY, "MILLRACE_LOG_LEVEL": "debug"}) as factory:
        yield factory


def pipeline(data: Path, *, key: str = "", **config: object) -> Pipeline:
    steps = [
        {"step": "pii", "column": "note", "kinds": {"email": "token", "card": "drop"}, "key_id": key or key_id(KEY)},
    ]
    clean = {"steps": steps, "target": "label", "task": "text_classification", "account": "all", **config}
    stages = {"clean": {"with": clean}}
    params = {"data": {"type": "dataset", "default": str(data)}}
    return Pipeline.from_dict({"api": "millrace/v1", "name": "private", "params": params, "stages": stages})


def failure(client: Client, of: Pipeline) -> str:
    with pytest.raises(errors.MillraceError) as raised:
        client.submit(of).result(timeout_s=120)
    return str(raised.value)


@pytest.mark.timeout(240)
def test_what_is_masked_is_nowhere_but_in_the_source(factory: Factory, tmp_path: Path) -> None:
    good, bad = source(ragged=False), source(ragged=True)
    (tmp_path / "good.csv").write_bytes(good)
    (tmp_path / "bad.csv").write_bytes(bad)
    for name, size in (("good.csv", 2**26), ("bad.csv", 4000)):  # at once; and in several rounds through the store
        made = factory.client.submit(pipeline(tmp_path / name, bytes_per_task=size, on_bad_row="quarantine"))
        assert made.result(timeout_s=120).stages["clean"].summary["removed"] == {"pii.card": 10}
    said = failure(factory.client, pipeline(tmp_path / "bad.csv"))
    assert "line 203" in said
    said += failure(factory.client, pipeline(tmp_path / "good.csv", key="0123456789abcdef"))
    assert "this worker has" in said
    words = (*PLANTED, KEY)
    assert [word for word in words if word in said] == []
    assert found_under(factory.home, words, sources=(good, bad)) == {}
    for seen in (
        "<EMAIL:",
        "<PHONE>",
        "as in the header",
    ):  # data, and a message in the ledger: the search does see them
        assert found_under(factory.home, (seen,), sources=(good, bad))
