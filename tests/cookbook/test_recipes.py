"""Every recipe runs as it stands, and was saved with what it printed."""

import os
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.cookbook.remembering import remembered
from tje_middleware.local import LocalServer

RECIPES = sorted((Path(__file__).parents[2] / "cookbook").glob("*.ipynb"))
SHARED_MODEL = Path(__file__).parent / "shared_model"


@pytest.fixture(scope="module")
def _one_model_for_all() -> Iterator[None]:
    """The model is loaded once, and what two recipes ask alike it answers once."""
    with (
        LocalServer() as server,
        remembered(server.base_url.removesuffix("/v1")) as address,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("TJE_TESTS_SHARED_MODEL", address)
        environment.setenv("PYTHONPATH", str(SHARED_MODEL), prepend=os.pathsep)
        yield


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.usefixtures("_one_model_for_all")
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipe_runs(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipe_was_saved_with_its_outputs(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
    assert str(Path.home()) not in str(outputs)
