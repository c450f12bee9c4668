"""Two chat models and a gate between them, as one chat model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, ClassVar, cast

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableParallel
from langchain_core.tools import BaseTool
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from typing_extensions import Self

from tje_middleware.branches import Branch
from tje_middleware.calls.streams import aclosed, closed
from tje_middleware.gate.decision import METADATA_KEY
from tje_middleware.gate.delivery import DeeperBranch

from ..asking.asked_model import AsyncRun, FrontChatModel, SyncRun
from ..asking.chain import Asking
from ..branches.deeper import is_branch
from ..chains.runnable import EntropyGateRunnable, GateOptions
from ..messages.answer import message_in
from ..messages.visibility import Visibility
from .chat_turn import ChatTurn, SecondModel, chunk_of, result_of
from .two_models import (
    AnswerersReader,
    EachOwn,
    StructuredModel,
    as_chat_model,
    common_profile,
    handlers_of,
    unbound,
    without_asking,
)


class EntropyGatedChatModel(FrontChatModel, GateOptions):
    """A chat model that answers with a draft, and with a deeper model's answer where the draft is unsure.

    For code that accepts nothing but a chat model. The message carries the decision, the fields of ``GateDecision``
    as a plain dict, in ``response_metadata["tje"]``, however the model is called. Settings of a call or a binding
    (``stop``, ``response_format``, ``model``) reach both models; tools are bound to each in its own form.

    To the outside there is one model run, the draft's by its name. The ``usage_metadata`` of the answer is what both
    models spent, booked once, under the name of the model that answered; ``draft_usage`` and ``deeper_usage`` of the
    decision tell them apart. Where each model is to be billed by its own name, use ``EntropyGateRunnable``, whose
    models are runs of their own. (A client's own ``token_usage`` is that of the model that answered.) Rate limiters
    and callback handlers of both models hold; their tags, metadata and caches do not: an answer is cached with its
    decision, once, by this model.

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
        >>> model = EntropyGatedChatModel(draft=GenericFakeChatModel(messages=iter([unsure])),
        ...                               deeper=FakeListChatModel(responses=["Paris."]), gate=gate)
        >>> answer = model.invoke("The capital of France?")
        >>> answer.text, answer.response_metadata["tje"]["route"], answer.response_metadata["tje"]["reason"]
        ('Paris.', 'deeper', 'uncertain')

    Raises:
        TypeError: a model is a chain, a binding, or becomes a model only by a run's configuration.
    """

    # LangChain's models ignore what they do not know; a threshold with a typo in it must not be ignored.
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    #: For a gate around this one: what streams may be either model's.
    answers_by_several: ClassVar[bool] = True

    draft: BaseChatModel = Field(
        description="Writes the first, cheap answer; a name such as 'openai:gpt-4o' will do."
    )
    deeper: BaseChatModel | Branch[Any, Any] = Field(
        description="Answers where the gate is not satisfied; a name will do. A Branch asks the draft's model again."
    )
    each_own: EachOwn = Field(
        default_factory=EachOwn, repr=False, exclude=True, description="What bind_tools bound to each model."
    )

    @field_validator("draft", "deeper", mode="before")
    @classmethod
    def _be_chat_models(cls, model: object, info: ValidationInfo) -> BaseChatModel | Branch[Any, Any]:
        if info.field_name == "deeper" and is_branch(model):
            return model
        return as_chat_model(model, str(info.field_name))

    @model_validator(mode="after")
    def _take_over(self) -> Self:
        """Take over callbacks, cache and profile of the two models, whose own code alone is called."""
        self.callbacks = cast("Any", handlers_of(self, self.draft, self._second)) or None
        for name in ("cache", "output_version"):
            if name not in self.model_fields_set:
                setattr(self, name, getattr(self.draft, name))
        if getattr(self, "profile", None) is None:
            self.profile = cast("Any", common_profile(self.draft, self._second))
        return self

    @property
    def _behind(self) -> BaseChatModel:
        return self.draft

    @property
    def _second(self) -> BaseChatModel:
        """The model that the deeper branch asks."""
        return self.draft if is_branch(self.deeper) else cast("BaseChatModel", self.deeper)

    @property
    def _llm_type(self) -> str:
        return "entropy-gated-chat-model"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {
            "draft": {**self.draft._identifying_params, "_type": self.draft._llm_type},
            "deeper": {**self._second._identifying_params, "_type": self._second._llm_type},
            **({"branch": repr(self.deeper)} if is_branch(self.deeper) else {}),
            "gate": repr(self.gate),
            "mode": self.mode,
            "on_branch_error": self.on_branch_error,
            "threshold": self.threshold,
        }

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """The cache's key: of the settings of both models, the gate and the options."""
        parts = (
            self._llm_type,
            self.draft._get_llm_string(stop=stop, **kwargs),
            self._second._get_llm_string(stop=stop, **self.each_own.for_deeper(kwargs)),
            self._prepare().delivery.gate.fingerprint(),
            self.mode,
            self.on_branch_error,
            repr(self.deeper) if is_branch(self.deeper) else None,
        )
        return repr(parts)

    # The answers to several prompts may be of two models, whose outputs have different forms.
    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None], /) -> dict[str, Any]:
        return {}

    def _generate_with_cache(self, *args: Any, **kwargs: Any) -> ChatResult:
        return super(EntropyGatedChatModel, self._keeping_settled())._generate_with_cache(*args, **kwargs)

    async def _agenerate_with_cache(self, *args: Any, **kwargs: Any) -> ChatResult:
        return await super(EntropyGatedChatModel, self._keeping_settled())._agenerate_with_cache(*args, **kwargs)

    def _keeping_settled(self) -> Self:
        cache = SettledAnswers.over(self.cache)
        if cache is self.cache:
            return self
        self._prepare()  # now, so that the copy below takes it over
        return self.model_copy(update={"cache": cache})

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools to both models, to each in its own form."""
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return self._bound(
            unbound(self.draft.bind_tools(tools, **kwargs)), unbound(self._second.bind_tools(tools, **kwargs))
        )

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Both models asked for the schema, each in its own way, and read in that way where it answers.

        Models that compose their structured output in another way than LangChain's own do are put into an
        ``EntropyGateRunnable``, and are runs of their own then.
        """
        draft = self.draft.with_structured_output(schema, include_raw=include_raw, **kwargs)
        deeper = self._second.with_structured_output(schema, include_raw=include_raw, **kwargs)
        of_draft, of_deeper = StructuredModel.of(draft), StructuredModel.of(deeper)
        if of_draft is None or of_deeper is None or of_draft.includes_raw != of_deeper.includes_raw:
            return EntropyGateRunnable(
                draft=draft,
                deeper=self.deeper if is_branch(self.deeper) else deeper,
                gate=self.gate,
                mode=self.mode,
                on_branch_error=self.on_branch_error,
                threshold=self.threshold,
            )
        model = self._bound((of_draft.model, of_draft.settings), (of_deeper.model, of_deeper.settings))
        reader = AnswerersReader(of_draft.reader, of_deeper.reader, only_draft=not Visibility(self.mode).is_hidden)
        return RunnableParallel(raw=model) | reader if of_draft.includes_raw else model | reader

    def _bound(
        self, draft: tuple[BaseChatModel, dict[str, Any]], deeper: tuple[BaseChatModel, dict[str, Any]]
    ) -> Runnable[LanguageModelInput, AIMessage]:
        branch = self.deeper if is_branch(self.deeper) else deeper[0]
        update = {"draft": draft[0], "deeper": branch, "each_own": EachOwn(draft[1], deeper[1])}
        return self.model_copy(update=update).bind(**draft[1])

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: SyncRun = None, **kwargs: Any
    ) -> ChatResult:
        return result_of(self._turn(messages, stop, kwargs).answer())

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: AsyncRun = None, **kwargs: Any
    ) -> ChatResult:
        return result_of(await self._turn(messages, stop, kwargs).aanswer())

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: SyncRun = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        with closed(self._turn(messages, stop, kwargs).answers()) as answers:
            for answer in answers:
                chunk = chunk_of(answer)
                if run_manager:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: AsyncRun = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosed(self._turn(messages, stop, kwargs).aanswers()) as answers:
            async for answer in answers:
                chunk = chunk_of(answer)
                if run_manager:
                    await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk

    def _turn(self, messages: list[BaseMessage], stop: list[str] | None, settings: dict[str, Any]) -> ChatTurn:
        prepared = self._prepare()
        of_deeper, deeper = self.each_own.for_deeper(settings), self._second
        if of_deeper.get("logprobs"):
            # The caller asks for logprobs; a deeper model that refuses them is asked again without.
            deeper = Asking.for_gate(prepared.delivery.gate, Visibility("annotate")).asked_model(deeper)
        return ChatTurn(
            prepared, deeper, messages, stop, settings=settings, deeper_settings=without_asking(of_deeper)
        )

    def _branch(self) -> DeeperBranch:
        return self.deeper if is_branch(self.deeper) else SecondModel()


class SettledAnswers(BaseCache):
    """A view of a cache that keeps no provisional answer.

    A draft in the place of a deeper model that failed, or a decision by a profile that may be out of date, would
    stay the answer long after.
    """

    def __init__(self, cache: BaseCache) -> None:
        self._cache = cache

    @classmethod
    def over(cls, cache: BaseCache | bool | None) -> BaseCache | bool | None:
        """A view of the cache that a model's ``cache`` setting means; the setting itself where it means none."""
        meant = cache if isinstance(cache, BaseCache) else get_llm_cache()
        if cache is False or meant is None or isinstance(meant, cls):
            return cache
        return cls(meant)

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """What the cache holds."""
        return self._cache.lookup(prompt, llm_string)

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The same on the event loop."""
        return await self._cache.alookup(prompt, llm_string)

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep the answer, if it is settled."""
        if _is_settled(return_val):
            self._cache.update(prompt, llm_string, return_val)

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """The same on the event loop."""
        if _is_settled(return_val):
            await self._cache.aupdate(prompt, llm_string, return_val)

    def clear(self, **kwargs: Any) -> None:
        """Clear the cache."""
        self._cache.clear(**kwargs)


def _is_settled(answers: RETURN_VAL_TYPE) -> bool:
    for answer in answers:
        message = message_in(getattr(answer, "message", None))
        decision = message.response_metadata.get(METADATA_KEY) if message is not None else None
        if decision is not None and (decision["reason"] == "branch_failed" or decision["stale"]):
            return False
    return True
