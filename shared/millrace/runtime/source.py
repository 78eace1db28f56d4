"""What of a function's program travels to the worker: the function, what it names, and the modules beside it.

A script does things when it is executed: it submits runs, reads arguments, prints. None of that belongs into a worker, so of
the function's own file only those top-level statements travel that bind a name which the function needs, directly or through
another of them; each stays on its line, so that an error names the line that its author sees. Modules that these statements
import travel too, whole, if they lie beside the file; what is installed here is expected to be installed there.
"""

from __future__ import annotations

import ast
import re
import symtable
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace import errors

MUTATORS = frozenset({"add", "append", "extend", "insert", "merge", "plan", "setdefault", "update"})
"""A bare call of such a method changes what the variable before the dot holds, and travels with it."""


@dataclass(frozen=True, slots=True)
class Program:
    """Python files by path, and the dotted name of the module that has the function."""

    module: str
    files: dict[str, bytes]


def program_of(function: Callable[..., Any], path: Path) -> Program:
    """Collect what a top-level function of a file needs.

    Raises:
        InvalidSpec: The file is not Python any more, or no longer has the function.
    """
    source = path.read_text(encoding="utf-8")
    try:
        statements = [_Statement(node, source) for node in ast.parse(source).body]
    except SyntaxError as error:
        raise errors.InvalidSpec(f"{path.name} cannot be read: {error.msg}, line {error.lineno}.") from None
    name = function.__name__
    kept = _needed(statements, name)
    if not any(name in statement.binds for statement in kept):
        raise errors.InvalidSpec(
            f"{path.name} has no top-level function {name!r} any more.", remedy="Run the script again as it is now."
        )
    module, root = _place(function, path)
    sources = [ast.unparse(statement.node) for statement in kept]
    beside = {} if _is_installed(path) else dict(_beside(sources, module, root))
    own = f"{module.replace('.', '/')}.py"
    # A module that another one imports must be whole: who knows what that one wants of it.
    whole = beside.pop(own, None)
    return Program(module, {own: whole or _joined(kept).encode(), **beside})


class _Statement:
    """A top-level statement: its text, the names it binds, the names it needs."""

    def __init__(self, node: ast.stmt, source: str) -> None:
        self.node = node
        lines = source.splitlines(keepends=True)
        decorators = [d.lineno for d in getattr(node, "decorator_list", ())]
        if decorators:  # a definition's own position leaves its decorators out
            self.line = min(decorators)
            self.text = "".join(lines[self.line - 1 : node.end_lineno]).rstrip()
        else:
            self.line = node.lineno
            self.text = ast.get_source_segment(source, node) or ""
        table = symtable.symtable(ast.unparse(node), "statement", "exec")
        symbols = table.get_symbols()
        self.binds = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()} | _mutated(node)
        self.needs = {s.get_name() for s in symbols if s.is_referenced()}
        self.needs |= {s.get_name() for inner in _inside(table) for s in inner.get_symbols() if s.is_global()}
        self.needs |= set(_annotated(node))

    @property
    def always_travels(self) -> bool:
        """`from __future__` changes what the rest means; what `import *` binds nobody knows."""
        node = self.node
        return isinstance(node, ast.ImportFrom) and (node.module == "__future__" or node.names[0].name == "*")

    @property
    def is_main_block(self) -> bool:
        names = (
            {n.id for n in ast.walk(self.node.test) if isinstance(n, ast.Name)} if isinstance(self.node, ast.If) else ()
        )
        return "__name__" in names


def _joined(statements: Iterable[_Statement]) -> str:
    """A file with these statements alone, each on the line where it was."""
    text = ""
    for statement in statements:
        gap = statement.line - 1 - text.count("\n")
        text += ("\n" * gap if gap or not text else "; ") + statement.text
    return text + "\n"


def _needed(statements: list[_Statement], name: str) -> list[_Statement]:
    """The statements that bind a name, and those that bind what they need, in the file's order."""
    kept = {index for index, statement in enumerate(statements) if statement.always_travels}
    wanted, seen = [name], {name}
    while wanted:
        one = wanted.pop()
        for index, statement in enumerate(statements):
            if index in kept or one not in statement.binds or statement.is_main_block:
                continue
            kept.add(index)
            wanted += sorted(statement.needs - seen)
            seen |= statement.needs
    return [statements[index] for index in sorted(kept)]


def _mutated(node: ast.stmt) -> set[str]:
    """Variables whose content a statement changes without binding them: `names["x"] = f`, `names.append(f)`, `@f.merge`."""
    targets: list[ast.expr] = []
    match node:
        case ast.Assign():
            targets = [t for t in node.targets if isinstance(t, ast.Subscript | ast.Attribute)]
        case ast.AugAssign() | ast.AnnAssign() if isinstance(node.target, ast.Subscript | ast.Attribute):
            targets = [node.target]
        case ast.Expr(ast.Call(ast.Attribute(attr=method) as called)) if method in MUTATORS:
            targets = [called]
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            marks = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
            targets = [m for m in marks if isinstance(m, ast.Attribute) and m.attr in MUTATORS]
    return {root for root in map(_root, targets) if root}


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _inside(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for inner in table.get_children():
        yield inner
        yield from _inside(inner)


def _annotated(node: ast.stmt) -> Iterator[str]:
    """Names in annotations, also where they are text or put off by `from __future__ import annotations`."""
    for part in ast.walk(node):
        for hint in (getattr(part, "annotation", None), getattr(part, "returns", None)):
            for inner in ast.walk(hint) if isinstance(hint, ast.AST) else ():
                if isinstance(inner, ast.Name):
                    yield inner.id
                elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    yield from re.findall(r"(?<![.\w])[^\W\d]\w*", inner.value)


def _place(function: Callable[..., Any], path: Path) -> tuple[str, Path]:
    """The module's dotted name, and the directory where it begins. A script's name is its file's."""
    spec = getattr(sys.modules.get(function.__module__), "__spec__", None)
    name = spec.name if spec is not None else ""
    name += ".__init__" if name and path.stem == "__init__" else ""
    parts = tuple(name.split("."))
    if path.with_suffix("").parts[-len(parts) :] == parts:
        return name, path.parents[len(parts) - 1]
    return re.sub(r"\W", "_", path.stem), path.parent


def _is_installed(path: Path) -> bool:
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return any(path.is_relative_to(place) for place in places)


def _beside(sources: Iterable[str], module: str, root: Path) -> Iterator[tuple[str, bytes]]:
    """Files under the root that these sources of a module import, and that those import in turn."""
    todo = [*_parents(module), *(name for source in sources for name in _imported(source, module))]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in seen or name.partition(".")[0] == "millrace":
            continue
        seen.add(name)
        base = root.joinpath(*name.split("."))
        for path, package in ((base.with_suffix(".py"), name), (base / "__init__.py", f"{name}.__init__")):
            if path.is_file():
                source = path.read_text(encoding="utf-8")
                yield path.relative_to(root).as_posix(), source.encode()
                todo += _imported(source, package)


def _imported(source: str, module: str) -> Iterator[str]:
    """Dotted names of the modules that a module's source may import, anywhere in it, with the packages they are in."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *(node.module or "").split(".")]).strip(".")
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            yield from (name, *_parents(name))


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]
