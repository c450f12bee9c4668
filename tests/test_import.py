"""What importing the package loads and offers, its tree of errors, and the examples of its docstrings."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import tje_middleware
from tje_middleware import errors

FRAMEWORKS = ("langchain", "langgraph", "llama_index", "openai", "xllamacpp")


def modules_after(code):
    """The top-level modules that a fresh interpreter has loaded after this code."""
    report = f"{code}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


class TestImport:
    def test_of_the_package_alone_loads_nothing_heavy(self):
        assert modules_after("import tje_middleware") & {"numpy", "scipy", "pydantic", "sqlalchemy"} == set()

    def test_of_every_public_name_loads_no_framework(self):
        loaded = modules_after("import tje_middleware as t\nfor name in t.__all__: getattr(t, name)")
        assert {"numpy", "sqlalchemy"} <= loaded
        assert [name for name in loaded if name.startswith(FRAMEWORKS)] == []

    def test_of_the_gate_loads_no_database(self):
        loaded = modules_after("from tje_middleware import EntropyGate, parse_logprobs")
        assert "sqlalchemy" not in loaded


class TestPublicNames:
    @pytest.mark.parametrize("name", tje_middleware.__all__)
    def test_resolves(self, name):
        assert getattr(tje_middleware, name) is not None
        assert name in dir(tje_middleware)

    def test_the_three_lists_of_them_agree(self):
        tree = ast.parse(Path(tje_middleware.__file__).read_text(encoding="utf-8"))
        checking = next(node for node in tree.body if isinstance(node, ast.If))
        typed = {name.name: found.module for found in checking.body for name in found.names}
        assert typed == tje_middleware._HOME_OF
        assert set(tje_middleware.__all__) == {*typed, "__version__"}
        assert tje_middleware.__all__ == sorted(tje_middleware.__all__)

    def test_an_unknown_one_is_an_attribute_error_that_names_it(self):
        with pytest.raises(AttributeError, match="no attribute 'EntropyGates'"):
            _ = tje_middleware.EntropyGates


def drawn_tree():
    """The tree in the docstring of errors: each class with the names of what it derives from."""
    drawn, ancestors = {}, []
    for line in errors.__doc__.partition("::")[2].splitlines():
        text = line[4:].lstrip("│├└─ ")
        if not text:
            continue
        depth = (len(line) - 4 - len(text)) // 4
        name, _, rest = text.partition(" ")
        other = [rest[1 : rest.index(")")]] if rest.startswith("(") else []
        drawn[name] = [*ancestors[depth - 1 : depth], *other]
        ancestors[depth:] = [name]
    return drawn


ERRORS = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind)}


class TestErrors:
    def test_the_tree_in_the_docstring_is_the_tree_of_the_classes(self):
        actual = {name: [base.__name__ for base in kind.__bases__] for name, kind in ERRORS.items()}
        assert drawn_tree() == {**actual, "TjeError": []}

    @pytest.mark.parametrize("kind", ERRORS.values(), ids=ERRORS)
    def test_every_one_derives_from_the_root_and_says_what_it_is(self, kind):
        assert issubclass(kind, (errors.TjeError, errors.TjeWarning))
        assert kind.__doc__


MODULES = sorted(found.name for found in pkgutil.walk_packages(tje_middleware.__path__, "tje_middleware."))


@pytest.mark.parametrize("name", ["tje_middleware", *MODULES])
def test_the_examples_in_the_docstrings_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(importlib.import_module(name)).failed == 0
