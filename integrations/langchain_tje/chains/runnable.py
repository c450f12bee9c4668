"""The entropy gate as a LangChain Runnable: a draft, a gate, a deeper branch; and one run of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, cast

from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    BaseCallbackHandler,
    CallbackManagerForChainRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import patch_config
from langchain_core.runnables.utils import ConfigurableFieldSpec, Input, Output, get_unique_config_specs
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator
from typing_extensions import Self

from tje_middleware import EntropyGate, GateDecision
from tje_middleware.branches import Branch
from tje_middleware.calls.streams import aclosed
from tje_middleware.gate.delivery import DeeperBranch, Delivery, Mode, OnBranchError

from ..asking.chain import Asking, Visited, asks_for_logprobs
from ..branches.deeper import ChainBranch, RejectedQuestion, is_branch
from ..branches.refinement import over_chain
from ..messages.answer import in_words
from ..messages.message_turn import MessageTurn
from ..messages.visibility import EVENT, Visibility, trace_metadata

RunManager = CallbackManagerForChainRun | AsyncCallbackManagerForChainRun
#: The name of the run that shows the decision in a trace.
_RUN_NAME = "EntropyGate"


class Prepared(NamedTuple):
    """What is the same for every question to one gated chain or chat model.

    Attributes:
        delivery: The rules, with the deeper branch.
        visibility: What is shown of drafts.
        visited: What writes the draft, its models asked for logprobs.
        keeps_logprobs: Whether the user asks the draft for logprobs anyway, and expects them in the answer.
    """

    delivery: Delivery
    visibility: Visibility
    visited: Visited
    keeps_logprobs: bool


class GateOptions(BaseModel):
    """The fields that a gated chain and a gated chat model have in common."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    draft: Any
    deeper: Any
    gate: EntropyGate = Field(description="Decides which answer is taken.")
    mode: Mode = Field(
        default="hold",
        description="hold: nobody sees a draft before it is accepted. abort: held, and its request is cancelled once "
        "it is sure to be rejected. annotate: the draft passes through and is the answer; the decision is in it.",
    )
    on_branch_error: OnBranchError = Field(
        default="draft", description="When the deeper branch fails: return the draft and say so, or raise."
    )
    threshold: float | None = Field(
        default=None,
        description="A threshold in the signal's unit in the place of the profile's; None: the profile's.",
    )

    _prepared: tuple[Prepared, tuple[object, ...]] | None = PrivateAttr(default=None)

    def _branch(self) -> DeeperBranch:
        """The deeper branch that ``deeper`` stands for."""
        raise NotImplementedError

    def _prepare(self) -> Prepared:
        """What every question needs; made anew where a copy of this was given another gate, model or option."""
        made_of = (self.draft, self.deeper, self.gate, self.mode, self.on_branch_error, self.threshold)
        known = self._prepared
        if known is not None and all(now is then for now, then in zip(made_of, known[1], strict=True)):
            return known[0]
        gate = self.gate if self.threshold is None else self.gate.with_threshold(self.threshold)
        delivery = Delivery(gate, self.mode, self.on_branch_error, branch=self._branch())
        visibility = Visibility(delivery.mode_for(may_call_tools=False))
        visited = Asking.for_gate(gate, visibility).visit(_unconfigured(self.draft))
        prepared = Prepared(delivery, visibility, visited, asks_for_logprobs(self.draft))
        self._prepared = prepared, made_of
        return prepared


class EntropyGateRunnable(RunnableSerializable[Input, Output], GateOptions):
    """Answer once; go deeper only where the answer's own entropy says that it is unsure.

    The draft's chat model is asked for logprobs. A message that comes out carries the decision, the fields of
    ``GateDecision`` as a plain dict, in ``response_metadata["tje"]``; whatever comes out, the decision is also
    dispatched as the custom event ``tje_decision``. A message of the deeper branch counts in its ``usage_metadata``
    what the rejected draft cost, too. Streaming yields an accepted draft whole, and the deeper answer as it comes.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
        >>> from langchain_core.messages import AIMessage
        >>> from tje_middleware import CalibrationRecord, EntropyGate, ProfileKey, calibrate
        >>> records = [CalibrationRecord(correct=i % 2 == 0, signals={"mean_entropy": 0.2 + i % 2 + i / 100})
        ...            for i in range(20)]
        >>> gate = EntropyGate(calibrate(records, key=ProfileKey(model="m", task="t", top_k=2)))
        >>> token = {"token": "Lyon?", "logprob": -0.69315, "top_logprobs": [
        ...     {"token": "Lyon?", "logprob": -0.69315}, {"token": "Paris?", "logprob": -0.69315}]}
        >>> unsure = AIMessage("Lyon?", response_metadata={"logprobs": {"content": [token]}})
        >>> small, big = GenericFakeChatModel(messages=iter([unsure])), FakeListChatModel(responses=["Paris."])
        >>> answer = EntropyGateRunnable(draft=small, deeper=big, gate=gate).invoke("The capital of France?")
        >>> answer.text, answer.response_metadata["tje"]["detail"]
        ('Paris.', 'mean_entropy 1 is above the threshold 0.29')
    """

    #: For a gate around this one: its model is asked for logprobs already.
    asks_by_itself: ClassVar[bool] = True

    draft: Runnable[Any, Any] = Field(description="Writes the first, cheap answer.")
    deeper: Runnable[Any, Any] | Branch[Any, Any] = Field(
        description="Answers where the gate is not satisfied; a Branch asks the draft's model again."
    )

    @model_validator(mode="after")
    def _refuse_what_cannot_be_called(self) -> Self:
        """Make the deeper branch once now: one that cannot be called is refused before any draft is rejected."""
        self._branch()
        return self

    @property
    def InputType(self) -> type[Input]:  # noqa: N802 (LangChain's name)
        """The draft's input type."""
        return cast("type[Input]", self.draft.InputType)

    @property
    def OutputType(self) -> type[Output]:  # noqa: N802
        """The draft's output type."""
        return cast("type[Output]", self.draft.OutputType)

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """The draft's input schema."""
        return cast("type[BaseModel]", self.draft.get_input_schema(config))

    def get_output_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """The draft's output schema."""
        return cast("type[BaseModel]", self.draft.get_output_schema(config))

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """Its own name where it has one, else the draft's, under which traces are known already."""
        return super().get_name(suffix, name=name) if name or self.name else self.draft.get_name(suffix)

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """What can be configured in the draft and in the deeper branch."""
        return get_unique_config_specs([*self.draft.config_specs, *self._branch().runnable.config_specs])

    def invoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """Answer, deciding on the way.

        Raises:
            GateError: the draft cannot be judged, and the gate says ``on_missing="raise"``.
        """
        return self._call_with_config(self._answer, input, self._configured(config), **kwargs)

    async def ainvoke(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Output:
        """The same on the event loop."""
        return await self._acall_with_config(self._aanswer, input, self._configured(config), **kwargs)

    def stream(self, input: Input, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Output]:
        """An accepted draft whole, or the deeper answer as it comes; with ``annotate`` the draft as it comes.

        Raises:
            Exception: the deeper branch's own, where it fails after parts of its answer were given out.
        """
        yield from self._transform_stream_with_config(iter([input]), self._chunks, self._configured(config), **kwargs)

    async def astream(
        self, input: Input, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Output]:
        """The same on the event loop."""

        async def one_input() -> AsyncIterator[Input]:
            yield input

        chunks = self._atransform_stream_with_config(one_input(), self._achunks, self._configured(config), **kwargs)
        async with aclosed(chunks) as open_chunks:
            async for chunk in open_chunks:
                yield chunk

    def batch(
        self, inputs: list[Input], config: RunnableConfig | list[RunnableConfig] | None = None, **kwargs: Any
    ) -> list[Output]:
        """One answer for each input; each draft is judged by itself."""
        return super().batch(inputs, self._limited(config), **kwargs)

    async def abatch(
        self, inputs: list[Input], config: RunnableConfig | list[RunnableConfig] | None = None, **kwargs: Any
    ) -> list[Output]:
        """The same on the event loop."""
        return await super().abatch(inputs, self._limited(config), **kwargs)

    def _answer(self, question: Input, run_manager: RunManager, config: RunnableConfig, **settings: Any) -> Output:
        return cast("Output", ChainTurn(self._prepare(), question, config, run_manager, settings).answer())

    async def _aanswer(
        self, question: Input, run_manager: RunManager, config: RunnableConfig, **settings: Any
    ) -> Output:
        return cast("Output", await ChainTurn(self._prepare(), question, config, run_manager, settings).aanswer())

    def _chunks(
        self, questions: Iterator[Input], run_manager: RunManager, config: RunnableConfig, **settings: Any
    ) -> Iterator[Output]:
        return ChainTurn(self._prepare(), next(questions), config, run_manager, settings).answers()

    async def _achunks(
        self, questions: AsyncIterator[Input], run_manager: RunManager, config: RunnableConfig, **settings: Any
    ) -> AsyncIterator[Output]:
        turn = ChainTurn(self._prepare(), await anext(questions), config, run_manager, settings)
        async with aclosed(turn.aanswers()) as chunks:
            async for chunk in chunks:
                yield chunk

    def _configured(self, config: RunnableConfig | None) -> RunnableConfig | None:
        """The config with what is bound to the draft (name, tags, callbacks), for the gated run as a whole."""
        return self.draft._merge_configs(config) if isinstance(self.draft, RunnableBindingBase) else config

    def _limited(self, config: RunnableConfig | list[RunnableConfig] | None) -> Any:
        """The config with the concurrency that is bound to the draft."""
        limit = self.draft.config.get("max_concurrency") if isinstance(self.draft, RunnableBindingBase) else None
        if limit is None or isinstance(config, Sequence):
            return config
        return {"max_concurrency": limit, **(config or {})}

    def _branch(self) -> ChainBranch:
        if is_branch(self.deeper):
            return ChainBranch(over_chain(self.deeper, self.draft))
        return ChainBranch(cast("Runnable[Any, Any]", self.deeper))


class ChainTurn(MessageTurn):
    """A question to a gated runnable.

    Args:
        prepared: What is the same for every question.
        question: The run's input.
        config: The run's.
        run_manager: The run's; the event loop's where the turn is taken there.
        settings: What the user passed on to the draft and the deeper branch.
    """

    def __init__(
        self,
        prepared: Prepared,
        question: Any,
        config: RunnableConfig,
        run_manager: RunManager,
        settings: dict[str, Any],
    ) -> None:
        keeps_logprobs = prepared.keeps_logprobs or bool(settings.get("logprobs"))
        super().__init__(prepared.delivery, prepared.visited, keeps_logprobs=keeps_logprobs)
        self._visibility = prepared.visibility
        self._question = question
        self._config = config
        self._run_manager: Any = run_manager
        self._settings = settings

    def draft(self) -> Any:
        """What the chain answers."""
        return self._visited.runnable.invoke(self._question, self._draft_config, **self._settings)

    async def adraft(self) -> Any:
        """The same on the event loop."""
        return await self._visited.runnable.ainvoke(self._question, self._draft_config, **self._settings)

    def draft_chunks(self) -> Iterator[Any]:
        """What the chain streams."""
        return self._visited.runnable.stream(self._question, self._draft_config, **self._settings)

    def adraft_chunks(self) -> AsyncIterator[Any]:
        """The same on the event loop."""
        return self._visited.runnable.astream(self._question, self._draft_config, **self._settings)

    def announce(self, decision: GateDecision) -> None:
        """Show the decision as a run between the draft's and the deeper branch's, and dispatch it as an event."""
        callbacks = self._run_manager.get_child("tje:gate")
        if callbacks.handlers:
            callbacks.add_metadata(trace_metadata(decision), inherit=False)
            callbacks.on_chain_start(None, {}, name=_RUN_NAME).on_chain_end(decision.as_dict())
        dispatch_custom_event(EVENT, decision.as_dict(), config=self._child_config())

    async def aannounce(self, decision: GateDecision) -> None:
        """The same on the event loop."""
        callbacks = self._run_manager.get_child("tje:gate")
        if callbacks.handlers:
            callbacks.add_metadata(trace_metadata(decision), inherit=False)
            await (await callbacks.on_chain_start(None, {}, name=_RUN_NAME)).on_chain_end(decision.as_dict())
        await adispatch_custom_event(EVENT, decision.as_dict(), config=self._child_config())

    def question_text(self) -> str | None:
        """The run's input."""
        return in_words(self._question)

    def ask(self, decision: GateDecision) -> RejectedQuestion:
        """The question with the user's settings; the decision is in the metadata of the branch's runs."""
        return RejectedQuestion(
            question=self._question,
            draft=self.kept,
            decision=decision,
            config=self._role_config("deeper", self._deepening, trace_metadata(decision)),
            settings=self._settings,
        )

    @property
    def _draft_config(self) -> RunnableConfig:
        return self._role_config("draft", self._drafting, {}, self._visibility.tags)

    def _role_config(
        self, role: str, capture: BaseCallbackHandler, metadata: dict[str, Any], tags: Sequence[str] = ()
    ) -> RunnableConfig:
        """The config of child runs that have their role in their metadata and are watched by ``capture``."""
        callbacks = self._run_manager.get_child(f"tje:{role}")
        callbacks.add_metadata({"tje.role": role, **metadata})
        callbacks.add_tags([*tags])
        callbacks.add_handler(capture)
        return patch_config(self._config, callbacks=callbacks)

    def _child_config(self) -> RunnableConfig:
        return patch_config(self._config, callbacks=self._run_manager.get_child())


def _unconfigured(draft: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """The draft without its bound config, which the gate's run has: its listeners would be called twice."""
    if not isinstance(draft, RunnableBindingBase):
        return draft
    return draft.model_copy(update={"config": {}, "config_factories": []})
