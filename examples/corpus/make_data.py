"""Writes a small corpus as the web would give it: Python's own documentation, and the noise that a recipe is to find.

Documents are the docstrings of a module, one after another, and the help topics. Planted among them, from a seed: copies
with a few words changed, texts decoded wrongly, lists without sentences, lines said again and again, other languages, and
people's addresses and cards (made up, with valid checksums).
"""

from __future__ import annotations

import ast
import gzip
import json
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

PATH = Path(__file__).parent / "data" / "corpus.jsonl.gz"
MIN_CHARS = 600
SEED = 0

GERMAN = (
    "Die Bibliothek stellt Funktionen bereit, mit denen sich Dateien lesen und schreiben lassen. Sie prüft, ob ein Pfad "
    "vorhanden ist, und meldet einen Fehler, wenn er es nicht ist. Wer mehrere Dateien zugleich öffnet, sollte sie auch wieder "
    "schließen, denn das Betriebssystem erlaubt nur eine begrenzte Zahl. "
)


def make_data(path: Path = PATH) -> Path:
    """Write one JSON object a line: `text`, and `origin`, which no step looks at."""
    rng = random.Random(SEED)
    documents = list(_documents())
    rows = [{"text": text, "origin": "documentation"} for text in documents]
    rows += list(_noise(documents, rng))
    rng.shuffle(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file, gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as packed:
        packed.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
    return path


def _documents() -> Iterator[str]:
    yield from (text for _, text in sorted(topics.items()) if len(text) >= MIN_CHARS)
    root = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(root.rglob("*.py")):
        folders = set(file.relative_to(root).parts)
        if folders & {"test", "tests", "site-packages", "idlelib", "lib2to3", "distutils", "dist-packages"}:
            continue
        text = "\n\n".join(_docstrings(file))
        if len(text) >= MIN_CHARS:
            yield text


def _docstrings(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from filter(None, [ast.get_docstring(node)])


def _noise(documents: list[str], rng: random.Random) -> Iterator[dict[str, str]]:
    def some(num: int) -> list[str]:
        return rng.sample(documents, num)

    for text in some(60):
        words = text.split(" ")
        for _ in range(max(1, len(words) // 150)):
            words[rng.randrange(len(words))] = "changed"
        yield {"text": " ".join(words), "origin": "near copy"}
    for text in some(30):
        yield {"text": text, "origin": "copy"}
    for text in some(20):
        yield {"text": (text + " “It’s quoted – and naïve.”").encode().decode("cp1252", "ignore"), "origin": "mojibake"}
    for text in some(25):
        yield {"text": "\n".join(f"- {word}" for word in text.split()[:200]), "origin": "list"}
    for text in some(25):
        yield {"text": (text.strip().splitlines()[0] + "\n") * 40, "origin": "repeated"}
    for _ in range(25):
        yield {"text": "".join(rng.sample(GERMAN.split(". "), 3)) + GERMAN * 3, "origin": "German"}
    for number, text in enumerate(some(40)):
        mail = f"person{number}@mail{number}.example.com"
        yield {"text": f"{text}\n\nWrite to {mail} or pay by card {_card(rng)}.", "origin": "private"}


def _card(rng: random.Random) -> str:
    """A number of 16 digits that begins as a card's does, with Luhn's check digit."""
    digits = [4, *(rng.randrange(10) for _ in range(14))]
    doubled = [sum(divmod(2 * d, 10)) if i % 2 == 0 else d for i, d in enumerate(digits)]
    return "".join(map(str, [*digits, -sum(doubled) % 10]))


if __name__ == "__main__":
    print(make_data())
