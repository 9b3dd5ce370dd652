"""The house: what may import what, what the core may not touch, how long a file may be.

Every check is a function from source text to a list of complaints, and each is shown a bad sample first: a check that
cannot fail guards nothing.
"""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

# --- the rules ---------------------------------------------------------------------------------------------------

IMPURE_MODULES = frozenset(
    {
        *("socket", "ssl", "os", "io", "pathlib", "time", "random", "secrets", "logging", "threading"),
        *("multiprocessing", "asyncio", "trio", "select", "selectors", "subprocess", "sqlite3"),
    }
)
"""design.md section 3: what the core never imports. ruff bans the same; a noqa does not help here."""

IMPURE_CALLS = frozenset(
    {
        "datetime.now",
        "datetime.today",
        "datetime.utcnow",
        "datetime.fromtimestamp",
        "date.today",
        "date.fromtimestamp",
    }
)
IMPURE_BUILTINS = frozenset({"open", "input", "print", "hash", "breakpoint"})
"""Files and terminals are the transports'; hash() of a text differs from run to run (design.md section 4)."""

PACKAGES = {
    "flexcore": "flexcore",
    "flexcore_host": "transports/flexcore_host",
    "flexcore_sync": "transports/flexcore_sync",
    "flexcore_trio": "transports/flexcore_trio",
    "flexcore_tools": "tools/flexcore_tools",
    "flexcore_testing": "tools/flexcore_testing",
}

MAY_IMPORT = {
    "flexcore": {"attrs", "attr", "cryptography"},
    "flexcore_host": {"flexcore"},
    "flexcore_sync": {"flexcore", "flexcore_host", "attrs"},
    "flexcore_trio": {"flexcore", "flexcore_host", "attrs", "trio"},
    "flexcore_tools": {
        *("flexcore", "flexcore_host", "flexcore_sync", "flexcore_trio", "attrs", "trio"),
        "flexcore_testing",  # `flexcore simulate` runs the simulation; never the other way round
        "matplotlib",  # an extra: its pictures
    },
    "flexcore_testing": {
        *("flexcore", "flexcore_host", "flexcore_sync", "flexcore_trio", "attrs", "trio"),
        *("pytest", "pytest_trio", "hypothesis"),
    },
}
"""Beyond the standard library and the package itself: core <- transports <- tools <- tests."""

ONLY_IN = {"cryptography": "flexcore/keys.py"}

VALUES, FILES_AND_WIRE, MACHINES, WHOLES = range(4)
LAYER = {
    "flexcore.codes": VALUES,
    "flexcore.errors": VALUES,
    "flexcore.hostid": VALUES,
    "flexcore.identity": VALUES,
    "flexcore.keys": VALUES,
    "flexcore.override": VALUES,
    "flexcore.record": VALUES,
    "flexcore.timing": VALUES,
    "flexcore.ledger.commands": VALUES,  # what is recorded: the codec knows it as it knows messages
    "flexcore.borrowing": FILES_AND_WIRE,
    "flexcore.licensefile": FILES_AND_WIRE,
    "flexcore.options": FILES_AND_WIRE,
    "flexcore.searchpath": FILES_AND_WIRE,
    "flexcore.wire": FILES_AND_WIRE,
    "flexcore.ledger": MACHINES,
    "flexcore.quorum": MACHINES,
    "flexcore.checkout": MACHINES,
    "flexcore.report": MACHINES,
    "flexcore.server": WHOLES,
    "flexcore.client": WHOLES,
}
"""Inside the core: values <- files, wire <- machines <- server, client. The longest prefix of a name counts."""

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60

LONG_FILES: dict[str, str] = {
    "flexcore/wire/messages.py": "one table of every message: splitting it would hide which number is free",
}
LONG_FUNCTIONS: dict[str, str] = {}
"""Longer than the bounds, each with the reason why it stays in one piece."""

# --- the checks --------------------------------------------------------------------------------------------------


def type_checking_lines(tree: ast.AST) -> set[int]:
    """The lines that stand under ``if TYPE_CHECKING:`` (they import nothing at run time)."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.body:
                lines.update(range(child.lineno, (child.end_lineno or child.lineno) + 1))
    return lines


def imports_of(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that *module* imports, relative imports resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base]) if base else ".".join(parts)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("import_module", "importlib.import_module"):
            # A literal name is read like an import; a computed one is the lazy table of names.
            if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def impurities(source: str, module: str = "flexcore.sample") -> list[str]:
    """What in a module of the core reaches for the world outside."""
    tree = ast.parse(source)
    found = []
    for line, name in imports_of(tree, module, is_package=False):
        if name.split(".")[0] in IMPURE_MODULES:
            found.append(f"{line}: imports {name}")
    own_hash = {id(part) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "__hash__"
                for part in ast.walk(node)}  # fmt: skip  # a class may say what its hash is made of
    for node in ast.walk(tree):
        if id(node) in own_hash and ast.unparse(node).startswith("hash("):
            continue
        if isinstance(node, ast.Attribute) and ".".join(ast.unparse(node).split(".")[-2:]) in IMPURE_CALLS:
            found.append(f"{node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_BUILTINS:
            found.append(f"{node.lineno}: calls {node.func.id}()")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "__import__":
            found.append(f"{node.lineno}: calls __import__()")
    return found


def wrong_way(source: str, package: str, module: str, path: str, *, is_package: bool = False) -> list[str]:
    """Imports of *module* (of *package*, at *path*) that its layer may not make."""
    tree = ast.parse(source)
    only_types = type_checking_lines(tree)
    found = []
    for line, name in imports_of(tree, module, is_package=is_package):
        top = name.split(".")[0]
        if top in sys.stdlib_module_names or top == package:
            continue
        if top not in MAY_IMPORT[package] and not (top == "typing_extensions" and line in only_types):
            found.append(f"{line}: {package} imports {name}")
        elif ONLY_IN.get(top, path) != path:
            found.append(f"{line}: {top} belongs to {ONLY_IN[top]} alone")
    return found


def layer_of(module: str) -> tuple[str, int] | None:
    """The unit of the core that *module* belongs to, and its layer; None for the list of names itself."""
    parts = module.split(".")
    for length in range(len(parts), 1, -1):
        unit = ".".join(parts[:length])
        if unit in LAYER:
            return unit, LAYER[unit]
    return None


def uphill(source: str, module: str, *, is_package: bool = False) -> tuple[list[str], set[tuple[str, str]]]:
    """Imports inside the core that climb to a higher layer, and the edges between units."""
    here = layer_of(module)
    found: list[str] = []
    edges: set[tuple[str, str]] = set()
    if here is None:
        return ([] if module == "flexcore" else [f"{module} stands in no layer: give it one in LAYER"]), edges
    for line, name in imports_of(ast.parse(source), module, is_package=is_package):
        there = layer_of(name)
        if there is None or there[0] == here[0]:
            continue
        edges.add((here[0], there[0]))
        if there[1] > here[1]:
            found.append(f"{line}: {module} imports {name}, which stands above it")
    return found, edges


def cycle(edges: Iterable[tuple[str, str]]) -> list[str]:
    """A cycle among *edges*, as a list of names; empty if there is none."""
    graph: dict[str, list[str]] = {}
    for start, end in sorted(edges):
        graph.setdefault(start, []).append(end)
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for after in graph.get(name, []):
            if found := visit(after, [*path, name]):
                return found
        done.add(name)
        return []

    for name in sorted(graph):
        if found := visit(name, []):
            return found
    return []


def too_long(source: str, path: str) -> list[str]:
    """The file, and the functions in it, that are longer than the bounds and on no list of exceptions."""
    found = []
    lines = source.count("\n")
    if lines > FILE_LINES_MAX and path not in LONG_FILES:
        found.append(f"{path}: {lines} lines; is there a second noun in it?")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX and f"{path}:{node.name}" not in LONG_FUNCTIONS:
                found.append(f"{path}:{node.lineno}: {node.name} has {length} lines")
    return found


def has_future_import(source: str) -> bool:
    """Whether a module that holds code begins with ``from __future__ import annotations``."""
    body = ast.parse(source).body
    code = [node for node in body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    first = code[0] if code else None
    return first is None or (isinstance(first, ast.ImportFrom) and first.module == "__future__")


# --- the samples: each check can fail --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        "import time",
        "import os.path",
        "from time import monotonic",
        "from asyncio import sleep as now",
        "def late():\n    import random",
        "import importlib\nimportlib.import_module('secrets')",
        "import socket  # noqa",
        "import datetime\nx = datetime.datetime.now()",
        "from datetime import date\nf = date.today",
        "import datetime as dt\ndt.datetime.fromtimestamp(0)",
        "order = hash('f1')",
        "open('a.lic')",
        "__import__('time')",
        "if TYPE_CHECKING:\n    import socket",
    ],
)
def test_the_purity_check_sees(bad: str) -> None:
    assert impurities(bad)


@pytest.mark.parametrize("good", ["import datetime\ndatetime.date(2026, 11, 24)", "import hashlib", "self.open(1)"])
def test_the_purity_check_lets_pass(good: str) -> None:
    assert impurities(good) == []


@pytest.mark.parametrize(
    ("package", "bad"),
    [
        ("flexcore", "import flexcore_trio"),
        ("flexcore", "from flexcore_tools import cli"),
        ("flexcore", "from cryptography import x509"),
        ("flexcore", "import typing_extensions"),
        ("flexcore_host", "import trio"),
        ("flexcore_sync", "import trio"),
        ("flexcore_sync", "def f():\n    from flexcore_trio import serve"),
        ("flexcore_trio", "import flexcore_sync"),
        ("flexcore_trio", "import cryptography"),
        ("flexcore_tools", "import pytest"),
        ("flexcore_tools", "from tests import helpers"),
        ("flexcore_testing", "import flexcore_tools"),
    ],
)
def test_the_direction_check_sees(package: str, bad: str) -> None:
    assert wrong_way(bad, package, f"{package}.sample", "sample.py")


def test_the_direction_check_lets_pass() -> None:
    assert wrong_way("import trio, flexcore", "flexcore_trio", "flexcore_trio.a", "a.py") == []
    assert wrong_way("import cryptography", "flexcore", "flexcore.keys", "flexcore/keys.py") == []
    types = "if TYPE_CHECKING:\n    from typing_extensions import override"
    assert wrong_way(types, "flexcore", "flexcore.a", "a.py") == []


@pytest.mark.parametrize(
    ("module", "bad"),
    [
        ("flexcore.errors", "from flexcore import wire"),
        ("flexcore.wire.codec", "from flexcore.quorum import QuorumMachine"),
        ("flexcore.wire.codec", "from ..ledger.state import LedgerState"),
        ("flexcore.ledger.state", "from flexcore.server.node import ServerNode"),
        ("flexcore.quorum.machine", "from ..client import LicenseClient"),
        ("flexcore.surprise", "import attrs"),
    ],
)
def test_the_layer_check_sees(module: str, bad: str) -> None:
    assert uphill(bad, module)[0]


def test_the_layer_check_lets_pass() -> None:
    assert uphill("from flexcore.ledger.commands import Formed", "flexcore.wire.codec")[0] == []
    assert uphill("from ..quorum import QuorumMachine", "flexcore.server.node")[0] == []
    assert uphill("from .state import A", "flexcore.ledger", is_package=True) == ([], set())


def test_the_cycle_check_sees() -> None:
    assert cycle([("a", "b"), ("b", "c"), ("c", "a")]) == ["a", "b", "c", "a"]
    assert cycle([("a", "b"), ("b", "c"), ("a", "c")]) == []


def test_the_length_check_sees() -> None:
    assert too_long("x = 1\n" * (FILE_LINES_MAX + 1), "long.py")
    assert too_long("def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX, "long.py")
    assert too_long("def f():\n" + "    x = 1\n" * (FUNCTION_LINES_MAX - 1), "fits.py") == []


def test_the_future_check_sees() -> None:
    assert not has_future_import('"""Words."""\nimport ast\n')
    assert has_future_import('"""Words."""\nfrom __future__ import annotations\n')
    assert has_future_import("")


# --- the tree --------------------------------------------------------------------------------------------------------


def modules(package: str) -> Iterator[tuple[str, str, bool, str]]:
    """(dotted name, path from the root, is it a package, source) of every module of *package*."""
    base = ROOT / PACKAGES[package]
    for path in sorted(base.rglob("*.py")):
        parts = [package, *path.relative_to(base).with_suffix("").parts]
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        yield name, path.relative_to(ROOT).as_posix(), is_package, path.read_text(encoding="utf-8")


def test_the_core_is_pure() -> None:
    found = [f"{path}:{what}" for name, path, _, source in modules("flexcore") for what in impurities(source, name)]
    assert found == []


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package: str) -> None:
    found = []
    for name, path, is_package, source in modules(package):
        found += [f"{path}:{what}" for what in wrong_way(source, package, name, path, is_package=is_package)]
    assert found == []


def test_layers_inside_the_core() -> None:
    found: list[str] = []
    edges: set[tuple[str, str]] = set()
    for name, path, is_package, source in modules("flexcore"):
        complaints, more = uphill(source, name, is_package=is_package)
        found += [f"{path}:{what}" for what in complaints]
        edges |= more
    assert found == []
    assert cycle(edges) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_files_and_functions_are_short(package: str) -> None:
    found = [what for _, path, _, source in modules(package) for what in too_long(source, path)]
    assert found == []


def test_exceptions_to_the_length_are_still_needed() -> None:
    lengths = {path: source for package in PACKAGES for _, path, _, source in modules(package)}
    for path in LONG_FILES:
        assert lengths[path].count("\n") > FILE_LINES_MAX, f"{path} is short now: take it off the list"
    for place in LONG_FUNCTIONS:
        path, _, function = place.partition(":")
        assert f"def {function}(" in lengths[path], f"{place} is gone: take it off the list"


def test_every_module_takes_annotations_lazily() -> None:
    found = [path for package in PACKAGES for _, path, _, source in modules(package) if not has_future_import(source)]
    assert found == []


def test_nothing_that_holds_packages_is_one() -> None:
    assert not (ROOT / "transports/__init__.py").exists()
    assert not (ROOT / "tools/__init__.py").exists()


def test_every_package_says_that_it_is_typed() -> None:
    assert [package for package, path in PACKAGES.items() if not (ROOT / path / "py.typed").exists()] == []


# --- the configuration -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_ruff_bans_the_same(pyproject: dict[str, Any]) -> None:
    banned = set(pyproject["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"])
    assert {name for name in banned if not name.startswith("datetime.")} == IMPURE_MODULES
    assert {name.partition(".")[2] for name in banned if name.startswith("datetime.")} >= IMPURE_CALLS - {"date.today"}


def test_every_dependency_has_its_reason_and_its_lowest_version() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    quoted = [line.strip() for line in text.splitlines() if line.startswith('    "') and ">=" in line]
    assert len(quoted) > 8
    assert [line for line in quoted if "#" not in line] == []


def test_every_fragment_is_of_a_kind_that_towncrier_knows(pyproject: dict[str, Any]) -> None:
    kinds = {kind["directory"] for kind in pyproject["tool"]["towncrier"]["type"]}
    fragments = [path for path in (ROOT / "newsfragments").iterdir() if path.name != "README.rst"]
    for path in fragments:
        parts = path.name.split(".")
        assert parts[1] in kinds, path
        assert parts[-1] == "rst", path
        assert parts[0].startswith("+") or parts[0].isdigit(), path


def test_ci_runs_what_the_readme_says() -> None:
    assert "make test" in (ROOT / "README.rst").read_text(encoding="utf-8")
    assert "make test" in (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci/run", os.X_OK)


# --- the public names ------------------------------------------------------------------------------------------------


def test_public_names_are_the_checked_in_list() -> None:
    """A name is published, or taken back, on purpose: with a line in tests/public_names.txt."""
    import flexcore

    listed = (ROOT / "tests/public_names.txt").read_text(encoding="utf-8").split()
    assert listed == sorted(listed)
    assert sorted(flexcore.__all__) == listed
    for name in listed:
        assert getattr(flexcore, name) is not None
        assert name in dir(flexcore)


def test_type_checkers_see_the_public_names() -> None:
    """The static imports of flexcore/__init__.py and the lazy table name the same things."""
    import flexcore

    tree = ast.parse((ROOT / "flexcore/__init__.py").read_text(encoding="utf-8"))
    lines = type_checking_lines(tree)
    static = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.lineno in lines
        for alias in node.names
    }
    assert static == set(flexcore.__all__) - {"__version__"}


def test_importing_flexcore_loads_nothing() -> None:
    """Programs that only look for a licence server pay for what they use (design.md section 11)."""
    code = "import sys, flexcore; print(sorted(m for m in sys.modules if m.split('.')[0] in ('attr', 'cryptography')))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.strip() == "[]"


def test_versions_agree(pyproject: dict[str, Any]) -> None:
    assert importlib.import_module("flexcore").__version__ == pyproject["project"]["version"]
