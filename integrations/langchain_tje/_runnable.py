"""Draft, gate, deeper: as one Runnable."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Literal, cast

from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    CallbackManagerForChainRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import patch_config
from langchain_core.runnables.utils import Input, Output
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from tje_middleware import (
    EntropyGate,
    GateDecision,
    MissingLogprobs,
    Route,
    SequenceLogprobs,
    TjeError,
    TjeWarning,
    UnreadableLogprobs,
    parse_logprobs,
)

from ._asking import ask_visible_models, asks_for_logprobs
from ._capture import DraftCapture
from ._deeper import deeper_arguments

OnBranchError = Literal["draft", "raise"]

EVENT = "tje_decision"


class EntropyGateRunnable(RunnableSerializable[Input, Output]):
    """Answer once; go deeper only where the answer's own entropy says that it is unsure.

    The draft's chat model is asked for logprobs. A message that comes out carries the decision, the fields of
    ``GateDecision`` as a plain dict, in ``response_metadata["tje"]``; whatever comes out, the decision is also
    dispatched as the custom event ``tje_decision``. Streaming yields the whole answer once it is decided.

    Example:
        >>> gated = EntropyGateRunnable(draft=chain, deeper=deep_chain, gate=gate)   # doctest: +SKIP
        >>> gated.invoke({"question": "..."}).response_metadata["tje"]["route"]       # doctest: +SKIP
        'final'
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    draft: Runnable[Any, Any] = Field(description="Writes the first, cheap answer.")
    deeper: Runnable[Any, Any] = Field(description="Answers where the gate is not satisfied.")
    gate: EntropyGate = Field(description="Decides which answer is taken.")
    on_branch_error: OnBranchError = Field(
        default="draft", description="When the deeper branch fails: return the draft and say so, or raise."
    )

    _asking: Runnable[Any, Any] = PrivateAttr()
    _model_seen: bool = PrivateAttr()
    _keeps_logprobs: bool = PrivateAttr()
    # What the provider said when it refused to be asked for logprobs; once is enough.
    _refused: str | None = PrivateAttr(default=None)

    def model_post_init(self, context: object, /) -> None:
        """Prepare the draft that asks for logprobs."""
        self._asking, self._model_seen = ask_visible_models(self.draft, top_k=self.gate.key.top_k)
        self._keeps_logprobs = asks_for_logprobs(self.draft)

    @property
    def InputType(self) -> type[Input]:  # noqa: N802 (LangChain's name)
        """The draft's."""
        return cast("type[Input]", self.draft.InputType)

    @property
    def OutputType(self) -> type[Output]:  # noqa: N802
        """The draft's."""
        return cast("type[Output]", self.draft.OutputType)

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """The draft's."""
        return cast("type[BaseModel]", self.draft.get_input_schema(config))

    def get_output_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """The draft's."""
        return cast("type[BaseModel]", self.draft.get_output_schema(config))

    def invoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """Answer, deciding on the way.

        Raises:
            GateError: the draft cannot be judged, and the gate says ``on_missing="raise"``.
        """
        return self._call_with_config(self._answer, input, config, **kwargs)

    async def ainvoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """The same on the event loop."""
        return await self._acall_with_config(self._aanswer, input, config, **kwargs)

    def _answer(
        self, question: Input, run_manager: CallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Output:
        draft, capture = self._draft(question, run_manager, config, kwargs)
        decision = self._decide(draft, capture)
        draft = self._without_borrowed_logprobs(draft)
        dispatch_custom_event(
            EVENT, decision.as_dict(), config=patch_config(config, callbacks=run_manager.get_child())
        )
        if decision.route is not Route.DEEPER:
            return self._delivered(draft, decision)
        child = patch_config(config, callbacks=run_manager.get_child("tje:deeper"))
        try:
            answer = self.deeper.invoke(question, child, **deeper_arguments(self.deeper, draft, decision), **kwargs)
        except Exception as error:
            if self.on_branch_error == "raise":
                raise
            return self._delivered(draft, _branch_failed(decision, error))
        return self._delivered(answer, decision)

    async def _aanswer(
        self, question: Input, run_manager: AsyncCallbackManagerForChainRun, config: RunnableConfig, **kwargs: Any
    ) -> Output:
        draft, capture = await self._adraft(question, run_manager, config, kwargs)
        decision = self._decide(draft, capture)
        draft = self._without_borrowed_logprobs(draft)
        await adispatch_custom_event(
            EVENT, decision.as_dict(), config=patch_config(config, callbacks=run_manager.get_child())
        )
        if decision.route is not Route.DEEPER:
            return self._delivered(draft, decision)
        child = patch_config(config, callbacks=run_manager.get_child("tje:deeper"))
        try:
            answer = await self.deeper.ainvoke(
                question, child, **deeper_arguments(self.deeper, draft, decision), **kwargs
            )
        except Exception as error:
            if self.on_branch_error == "raise":
                raise
            return self._delivered(draft, _branch_failed(decision, error))
        return self._delivered(answer, decision)

    def _draft(
        self, question: Input, run_manager: CallbackManagerForChainRun, config: RunnableConfig, kwargs: dict[str, Any]
    ) -> tuple[Any, DraftCapture]:
        if self._refused is None:
            capture = DraftCapture()
            try:
                return self._asking.invoke(question, _watched(config, run_manager, capture), **kwargs), capture
            except Exception as error:
                self._remember_refusal(error)
        capture = DraftCapture()
        return self.draft.invoke(question, _watched(config, run_manager, capture), **kwargs), capture

    async def _adraft(
        self,
        question: Input,
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        kwargs: dict[str, Any],
    ) -> tuple[Any, DraftCapture]:
        if self._refused is None:
            capture = DraftCapture()
            try:
                return await self._asking.ainvoke(question, _watched(config, run_manager, capture), **kwargs), capture
            except Exception as error:
                self._remember_refusal(error)
        capture = DraftCapture()
        return await self.draft.ainvoke(question, _watched(config, run_manager, capture), **kwargs), capture

    def _remember_refusal(self, error: Exception) -> None:
        """Go on without logprobs where asking for them was what failed; re-raise every other error."""
        if isinstance(error, TjeError) or "logprob" not in str(error).lower():
            raise error
        self._refused = f"the model refused to be asked for logprobs: {str(error)[:200]}"

    def _decide(self, draft: object, capture: DraftCapture) -> GateDecision:
        call = capture.last
        return self.gate.decide(
            self._evidence(draft, capture),
            model=call.model if call else None,
            temperature=call.temperature if call else None,
        )

    def _evidence(self, draft: object, capture: DraftCapture) -> object:
        """The logprobs of the draft, or the error that says why there are none."""
        if self._refused is not None:
            return MissingLogprobs(self._refused)
        if isinstance(draft, AIMessage) and draft.response_metadata:
            logprobs: object = _read(draft)  # a model's own message: no other call speaks for it
        elif capture.ambiguous:
            return UnreadableLogprobs("model calls ran side by side, and which one wrote the draft is unknown")
        elif capture.last is None:
            return MissingLogprobs("no model call was seen while the draft was written")
        else:
            logprobs = capture.last.logprobs
        if isinstance(logprobs, MissingLogprobs) and not self._model_seen:
            return MissingLogprobs(
                "the chain calls its model where it cannot be asked for logprobs: wrap that model in ask_logprobs()"
            )
        return logprobs

    def _without_borrowed_logprobs(self, draft: object) -> object:
        """Take out the logprobs that only the gate wanted: at 20 alternatives they are 2 KB a token."""
        if self._keeps_logprobs or not isinstance(draft, AIMessage):
            return draft
        metadata = {name: value for name, value in draft.response_metadata.items() if name != "logprobs"}
        return draft.model_copy(update={"response_metadata": metadata})

    def _delivered(self, answer: object, decision: GateDecision) -> Output:
        """Put the decision into the answer, where there is a place for it."""
        if isinstance(answer, AIMessage):
            metadata = {**answer.response_metadata, "tje": decision.as_dict()}
            answer = answer.model_copy(update={"response_metadata": metadata})
        return cast("Output", answer)


def _read(message: AIMessage) -> SequenceLogprobs | UnreadableLogprobs:
    try:
        return parse_logprobs(message)
    except UnreadableLogprobs as error:
        return error


def _watched(
    config: RunnableConfig,
    run_manager: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
    capture: DraftCapture,
) -> RunnableConfig:
    callbacks = run_manager.get_child("tje:draft")
    callbacks.add_handler(capture)
    return patch_config(config, callbacks=callbacks)


def _branch_failed(decision: GateDecision, error: Exception) -> GateDecision:
    detail = f"the deeper branch failed ({type(error).__name__}: {str(error)[:200]}), so this is the draft"
    warnings.warn(detail, TjeWarning, stacklevel=4)
    return replace(decision, reason="branch_failed", detail=f"{decision.detail}; {detail}")
