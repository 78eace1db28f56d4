"""The code digest tells whatever can change what a stage makes, and nothing else."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from millrace.contracts.stages import FUNCTION_KIND, StageConfig, StageKind, find_kind, installed_kinds
from millrace.runtime import digests, distributions

KIND = StageKind(
    name="made", caption="", service="made", module="made.stage", config=StageConfig, inputs={}, outputs={}
)  # fmt: skip

SOURCES = {
    "made/__init__.py": "",
    "made/stage.py": "def work(rate=1):\n    from made.inner import helper\n    return helper.help(rate)\n",
    "made/inner/__init__.py": "",
    "made/inner/helper.py": "import beside\nimport grown\ndef help(x):\n    return beside.add(x)\n",
    "beside.py": "def add(x, more=1):\n    return x + more\n",
    "unused.py": "A = 1\n",
    "grown/__init__.py": "",
    "grown-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: grown\nVersion: 1.0\nRequires-Dist: root>=1\n",
    "grown-1.0.dist-info/RECORD": "grown/__init__.py,,\n",
    "root-2.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: root\nVersion: 2.0\n",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in SOURCES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield tmp_path
    forget()


def forget() -> None:
    """What a new process would not know."""
    for cached in (digests._read, digests._spec_of, digests._is_loose):
        cached.cache_clear()
    for read in (distributions._distributions, distributions._by_name, distributions._owners):
        read.cache_clear()
    sys.path_importer_cache.clear()


def digest(name: str = "made") -> str:
    forget()
    return digests.code_digests([KIND], with_functions=True)[name]


def edit(path: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new))

    return change


CHANGES = {
    "its own module": edit("made/stage.py", "return", "return 0 +"),
    "a default argument": edit("made/stage.py", "rate=1", "rate=2"),
    "a helper, imported in a function": edit("made/inner/helper.py", "return beside", "return 0 + beside"),
    "a module beside the package": edit("beside.py", "more=1", "more=2"),
    "a dependency's version": edit("grown-1.0.dist-info/METADATA", "Version: 1.0", "Version: 1.1"),
    "the version of what a dependency needs": edit("root-2.0.dist-info/METADATA", "Version: 2.0", "Version: 2.1"),
}


IMPORTS = {
    "import a, b.c as d": {"a", "b.c"},
    "import a; import b": {"a", "b"},
    "if True: import a": {"a"},
    "def f():\n\tfrom a import b": {"a", "a.b"},
    "from a import (  # why (not)\n    b,\n    c as d,  # e\n)": {"a", "a.b", "a.c"},
    "from a import \\\n    b": {"a", "a.b"},
    "from .import a": {"over.here", "over.here.a"},
    "from.a import b": {"over.here.a", "over.here.a.b"},
    "from ..a.b import c": {"over.a.b", "over.a.b.c"},
    "# import a": set(),
    "important = a.import_module": set(),
}


@pytest.mark.parametrize("source", IMPORTS)
def test_imports_are_found_however_they_are_written(source: str) -> None:
    assert set(digests._imports(f"A = 1\n{source}\nB = 2\n", "over.here")) == IMPORTS[source]


def test_of_our_own_sources_no_import_is_missed() -> None:
    for path in Path(digests.__file__).parents[1].rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
        named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        named |= {f"{n.module}.{alias.name}" for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names}
        assert named <= set(digests._imports(path.read_text(), "any")), path


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_that_may_matter_changes_the_digest(here: Path, what: str) -> None:
    before = digest()
    CHANGES[what](here)
    assert digest() != before


def test_what_a_stage_does_not_import_does_not_change_its_digest(here: Path) -> None:
    before = digest()
    edit("unused.py", "1", "2")(here)
    assert digest() == before


@pytest.mark.parametrize("path", ["unused.py", "root-2.0.dist-info/METADATA"])
def test_a_users_function_depends_on_all_that_is_installed(here: Path, path: str) -> None:
    before = digest(FUNCTION_KIND)
    edit(path, "1" if path == "unused.py" else "Version: 2.0", "9" if path == "unused.py" else "Version: 9")(here)
    assert digest(FUNCTION_KIND) != before


def test_the_kinds_of_this_library_depend_on_its_parts_and_on_libraries() -> None:
    facts = set(digests._facts_of(find_kind("train")))
    modules = {fact.partition("=")[0] for fact in facts}
    assert {
        "module millrace_training.loop", "module millrace.architectures.mlp", "module millrace.store.artifacts",
        "distribution torch", "distribution numpy", "distribution pyarrow",
    } <= modules  # fmt: skip
    assert not any("conductor" in name or "gateway" in name for name in modules)


def test_distributions_are_read_as_python_reads_them() -> None:
    forget()
    assert {d.name: d.version for d in distributions.installed()} == {
        d.name: d.version for d in metadata.distributions()
    }
    owners = metadata.packages_distributions()
    for package in ("PIL", "sklearn", "numpy", "typing_extensions", "opentelemetry"):
        assert sorted(distributions.owners_of(package)) == sorted(set(owners[package]))


def test_a_worker_reads_its_code_when_it_is_first_asked_and_once() -> None:
    forget()
    code = digests.WorkerCode(["evaluation"])
    assert digests._read.cache_info().currsize == 0
    assert set(code.by_kind) == {k.name for k in installed_kinds().values() if k.service == "evaluation"}
    assert code.by_kind is code.by_kind
