"""Stands in for llama.cpp in the kernels of the recipes: its server is the one that all of them share.

Only the folder of this file on PYTHONPATH puts it there; a recipe starts its LocalServer as it stands.
"""

import os
from types import SimpleNamespace


class CommonParams(SimpleNamespace):
    """Settings of a server; the shared one has its own."""

    def __init__(self) -> None:
        super().__init__(model=SimpleNamespace(), cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace())


class Server:
    """The server that runs already."""

    def __init__(self, _: CommonParams) -> None:
        self.listening_address = os.environ["TJE_TESTS_SHARED_MODEL"]
