"""What a gate says of itself to traces and callbacks: metadata under ``tje.*``, a run of its own, an event."""

from __future__ import annotations

from typing import Any, cast

from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    BaseCallbackManager,
    CallbackManagerForChainRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import patch_config

from tje_middleware import GateDecision

#: Callback handlers receive every decision as a custom event of this name.
EVENT = "tje_decision"
#: LangGraph shows no message of a model that has this tag.
NOSTREAM = "nostream"
_RUN_NAME = "EntropyGate"
_IN_METADATA = ("route", "reason", "signal", "signal_value", "threshold", "method", "verdict", "profile_version")


def trace_metadata(decision: GateDecision) -> dict[str, Any]:
    """The decision for a run's metadata; what is not known is left out."""
    fields = decision.as_dict()
    return {f"tje.{name}": fields[name] for name in _IN_METADATA if fields[name] is not None}


def traced(decision: GateDecision, run_manager: CallbackManagerForChainRun, config: RunnableConfig) -> None:
    """Show the decision as a run between the draft's and the deeper branch's, and dispatch it as an event."""
    callbacks = run_manager.get_child("tje:gate")
    if callbacks.handlers:
        callbacks.add_metadata(trace_metadata(decision), inherit=False)
        run = callbacks.on_chain_start(None, {}, name=_RUN_NAME)
        run.on_chain_end(decision.as_dict())
    dispatch_custom_event(EVENT, decision.as_dict(), config=patch_config(config, callbacks=run_manager.get_child()))


async def atraced(
    decision: GateDecision, run_manager: AsyncCallbackManagerForChainRun, config: RunnableConfig
) -> None:
    """The same on the event loop."""
    callbacks = run_manager.get_child("tje:gate")
    if callbacks.handlers:
        callbacks.add_metadata(trace_metadata(decision), inherit=False)
        run = await callbacks.on_chain_start(None, {}, name=_RUN_NAME)
        await run.on_chain_end(decision.as_dict())
    await adispatch_custom_event(
        EVENT, decision.as_dict(), config=patch_config(config, callbacks=run_manager.get_child())
    )


def draft_config(
    config: RunnableConfig,
    run_manager: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
    capture: Any,
    *,
    hidden: bool,
) -> RunnableConfig:
    """The draft's: its runs are children of the gate's, and say that they are a draft.

    Args:
        config: The gate's run's.
        run_manager: The gate's run's.
        capture: Watches the runs.
        hidden: Whether LangGraph is to show no message of any model in it, also of those that a function calls.
    """
    child = _child(config, run_manager, "draft", {}, capture)
    if hidden:
        cast("BaseCallbackManager", child["callbacks"]).add_tags([NOSTREAM])
    return child


def deeper_config(
    config: RunnableConfig,
    run_manager: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
    decision: GateDecision,
    capture: Any,
) -> RunnableConfig:
    """The deeper branch's: its runs say why they run."""
    return _child(config, run_manager, "deeper", trace_metadata(decision), capture)


def _child(
    config: RunnableConfig,
    run_manager: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
    role: str,
    metadata: dict[str, Any],
    capture: Any,
) -> RunnableConfig:
    callbacks = run_manager.get_child(f"tje:{role}")
    callbacks.add_metadata({"tje.role": role, **metadata})
    callbacks.add_handler(capture)
    return patch_config(config, callbacks=callbacks)
