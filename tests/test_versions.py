"""The releases that pyproject.toml supports are the ones that the locks hold, and the ones that run."""

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
FRAMEWORKS = [Requirement(line) for extra in ("langchain", "llama-index", "openai") for line in EXTRAS[extra]]
DEPENDENCIES = [
    needed
    for needed in [*map(Requirement, PROJECT["dependencies"]), *FRAMEWORKS]
    if needed.marker is None or needed.marker.evaluate()
]
LOCKS = ["requirements.lock", "requirements-oldest.lock"]


def lock(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pins(name: str) -> dict[str, Version]:
    """What the lock installs into an environment like this one."""
    found = [Requirement(line) for line in re.findall(r"^([a-z][^\\\n]*==[^\\\n]*)", lock(name), re.MULTILINE)]
    return {
        pin.name: Version(next(iter(pin.specifier)).version)
        for pin in found
        if pin.marker is None or pin.marker.evaluate()
    }


def floor(needed: Requirement) -> Version:
    (lowest,) = [Version(bound.version) for bound in needed.specifier if bound.operator == ">="]
    return lowest


@pytest.mark.parametrize("needed", DEPENDENCIES, ids=lambda needed: needed.name)
class TestEveryDependency:
    def test_is_held_by_both_locks_within_its_range(self, needed: Requirement) -> None:
        for name in LOCKS:
            assert needed.specifier.contains(pins(name)[needed.name.lower().replace("_", "-")]), name

    def test_is_installed_within_its_range(self, needed: Requirement) -> None:
        try:
            installed = version(needed.name)
        except PackageNotFoundError:
            pytest.skip(f"{needed.name} is not installed here")
        assert needed.specifier.contains(installed)


@pytest.mark.parametrize("needed", FRAMEWORKS, ids=lambda needed: needed.name)
def test_the_oldest_supported_release_is_the_one_tested(needed: Requirement) -> None:
    assert pins("requirements-oldest.lock")[needed.name] == floor(needed)


@pytest.mark.parametrize("name", LOCKS)
class TestALock:
    def test_names_no_place_to_install_from(self, name: str) -> None:
        assert re.findall(r"://|--(?:extra-)?index-url|--find-links", lock(name)) == []

    def test_has_a_hash_for_every_package(self, name: str) -> None:
        packages = [part for part in re.split(r"\n(?=[a-z])", lock(name)) if "==" in part]
        assert len(packages) > 50
        assert [part.splitlines()[0] for part in packages if "--hash=sha256:" not in part] == []
