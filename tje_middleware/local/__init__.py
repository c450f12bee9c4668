"""An embedded model: an OpenAI-compatible server with real logprobs on this machine.

Importing this package costs nothing: llama.cpp is loaded by a child process, the hub client only for a hub id.
"""

from .server import LocalServer
from .weights import DEFAULT_WEIGHTS, PackagedWeights, resolve_weights

__all__ = ["DEFAULT_WEIGHTS", "LocalServer", "PackagedWeights", "resolve_weights"]
