"""The examples in the docstrings run, and every public class has one."""

import doctest
import importlib
import inspect
import pkgutil

import llama_index_tje
import pytest

MODULES = sorted(module.name for module in pkgutil.walk_packages(llama_index_tje.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    module = importlib.import_module(f"llama_index_tje.{name}")
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("name", [n for n in llama_index_tje.__all__ if inspect.isclass(getattr(llama_index_tje, n))])
def test_a_public_class_has_an_example_that_is_not_skipped(name: str) -> None:
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(getattr(llama_index_tje, name)) or "")
    assert examples
    assert not any(doctest.SKIP in example.options for example in examples)
