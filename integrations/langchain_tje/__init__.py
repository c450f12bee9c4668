"""tje-middleware for LangChain: put an entropy gate around an existing chain.

Example:
    >>> chain = think_just_enough(chain, deeper=deep_chain, gate=gate)      # doctest: +SKIP
    >>> chain.invoke({"question": "..."}).response_metadata["tje"]["route"]  # doctest: +SKIP
    'final'
"""

from ._asking import ask_logprobs
from ._decorator import think_just_enough
from ._refinement import sequential_refinement
from ._runnable import EntropyGateRunnable

__all__ = ["EntropyGateRunnable", "ask_logprobs", "sequential_refinement", "think_just_enough"]
