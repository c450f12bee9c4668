"""The examples in the docstrings run, every public class has one, and importing one name loads not everything."""

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys

import langchain_tje
import pytest

MODULES = sorted(module.name for module in pkgutil.walk_packages(langchain_tje.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    module = importlib.import_module(f"langchain_tje.{name}")
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("name", [n for n in langchain_tje.__all__ if inspect.isclass(getattr(langchain_tje, n))])
def test_a_public_class_has_an_example_that_is_not_skipped(name: str) -> None:
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(getattr(langchain_tje, name)) or "")
    assert examples
    assert not any(doctest.SKIP in example.options for example in examples)


def test_every_public_name_is_where_the_package_says_and_no_other() -> None:
    assert sorted(langchain_tje._HOMES) == sorted(langchain_tje.__all__) == dir(langchain_tje)
    assert all(getattr(langchain_tje, name).__name__ == name for name in langchain_tje.__all__)
    with pytest.raises(AttributeError, match="no attribute 'EntropyGate'"):
        langchain_tje.EntropyGate  # noqa: B018


def test_who_gates_a_chain_loads_neither_agents_nor_graphs() -> None:
    code = "import sys; from langchain_tje import think_just_enough, capture_entropy; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not {"langchain.agents", "langgraph"} & set(loaded.stdout.split())
