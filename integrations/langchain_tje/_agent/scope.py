"""What runs inside a gated turn of an agent says whose part it is, and is watched, without being passed a config.

An agent calls its model without one: what it runs under is a context variable of LangChain's. Extending that reaches
every run inside, also of middleware between the gate and the model; and it works on Python 3.10, too, where a graph's
asynchronous nodes have no config.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.runnables.config import RunnableConfig, ensure_config, merge_configs, var_child_runnable_config
from langgraph.runtime import Runtime

from tje_middleware import GateDecision
from tje_middleware.decision import METADATA_KEY
from tje_middleware.delivery import Mode

from .._capture import DraftCapture
from .._deeper import rejecting
from .._trace import EVENT, NOSTREAM, trace_metadata
from .._usage import SpendingHandler
from .deeper import Rejected


@contextmanager
def drafting(capture: DraftCapture, mode: Mode) -> Iterator[None]:
    """What runs inside writes a draft; one that may be rejected is kept out of the agent's streams."""
    # The tag is for the models of other middleware as well, such as one that a fallback brings in.
    tags = [] if mode == "annotate" else [NOSTREAM]
    with _running(RunnableConfig(callbacks=[capture], tags=tags, metadata={"tje.role": "draft"})):
        yield


@contextmanager
def deepening(spent: SpendingHandler, rejected: Rejected) -> Iterator[None]:
    """What runs inside answers in the place of a rejected draft."""
    metadata = {"tje.role": "deeper", **trace_metadata(rejected.decision)}
    with _running(RunnableConfig(callbacks=[spent], metadata=metadata)), rejecting(rejected.draft):
        yield


def announce(decision: GateDecision, runtime: Runtime[Any] | None) -> None:
    """Tell callback handlers, and the stream of ``stream_mode="custom"``, where a run is known to tell it in."""
    if _has_run():
        dispatch_custom_event(EVENT, decision.as_dict())
        _write(decision, runtime)


async def aannounce(decision: GateDecision, runtime: Runtime[Any] | None) -> None:
    """The same on the event loop."""
    if _has_run():
        await adispatch_custom_event(EVENT, decision.as_dict())
        _write(decision, runtime)


def _write(decision: GateDecision, runtime: Runtime[Any] | None) -> None:
    if runtime is not None:
        runtime.stream_writer({METADATA_KEY: decision.as_dict()})


def _has_run() -> bool:
    return getattr(ensure_config().get("callbacks"), "parent_run_id", None) is not None


@contextmanager
def _running(more: RunnableConfig) -> Iterator[None]:
    token = var_child_runnable_config.set(merge_configs(var_child_runnable_config.get(), more))
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)
