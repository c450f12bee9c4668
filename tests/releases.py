"""What a test needs of the releases beside it, for it runs with the oldest supported ones as well."""

from importlib.metadata import version

import pytest
from packaging.version import Version


def has(package: str, release: str) -> bool:
    """Whether the installed release of a package is this one or a newer."""
    return Version(version(package)) >= Version(release)


def needs(package: str, release: str, what: str) -> pytest.MarkDecorator:
    """Skips a test where the package is older, and says what that one lacks."""
    return pytest.mark.skipif(not has(package, release), reason=f"needs {package} {release}: {what}")


#: A test whose asynchronous form needs the asynchronous nodes of a graph to know the config, for callbacks, streams
#: and interrupts. On Python 3.10 they do not, gated or not; a fixture in the conftest skips those forms there.
needs_config_in_nodes = pytest.mark.needs_config_in_nodes
