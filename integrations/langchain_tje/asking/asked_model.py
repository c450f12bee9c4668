"""A chat model that is asked for logprobs, and answers without them where its provider refuses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult, LLMResult
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.tools import BaseTool
from pydantic import Field

from tje_middleware import EntropyGate
from tje_middleware.calls.request import DraftRequest, LogprobsCapabilities
from tje_middleware.calls.streams import aclosed, closed
from tje_middleware.gate.delivery import watch_for
from tje_middleware.gate.stopping.watch import DraftAborted, DraftStopped, raise_if_rejected

from ..messages.visibility import Visibility, can_stream

if TYPE_CHECKING:
    from tje_middleware.gate.stopping.watch import RejectionWatch

SyncRun = CallbackManagerForLLMRun | None
AsyncRun = AsyncCallbackManagerForLLMRun | None

#: What LangChain does around every model's own code; the wrapper does it, because the wrapped model's is bypassed.
_TAKEN_OVER = (
    "cache",
    "callbacks",
    "custom_get_token_ids",
    "disable_streaming",
    "metadata",
    "name",
    "output_version",
    "profile",
    "rate_limiter",
    "tags",
    "verbose",
)


def taken_over(inner: BaseChatModel) -> dict[str, Any]:
    """The wrapper's fields that are the wrapped model's."""
    return {name: getattr(inner, name) for name in _TAKEN_OVER if hasattr(inner, name)}


class FrontChatModel(BaseChatModel):
    """A chat model in front of another, which answers for its settings and counts its tokens."""

    @property
    @abstractmethod
    def _behind(self) -> BaseChatModel:
        """The model whose settings and token counts this one shows."""

    def __getattr__(self, name: str) -> Any:
        """Attributes that this model lacks (``model_name``, ``temperature``) are those of the model behind it."""
        try:
            return super().__getattr__(name)  # type: ignore[misc]  # pydantic hides it from type checkers
        except AttributeError:
            # Pydantic asks for attributes before the fields are set, when there is no model behind yet.
            if name.startswith("_") or not self.__dict__:
                raise
            return getattr(self._behind, name)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return self._behind._get_ls_params(stop=stop, **kwargs)

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        return self._behind._get_invocation_params(stop=stop, **kwargs)

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None], /) -> dict[str, Any]:
        return self._behind._combine_llm_outputs(llm_outputs)

    def get_token_ids(self, text: str) -> list[int]:
        """The token ids by the model behind."""
        return self._behind.get_token_ids(text)

    def get_num_tokens(self, text: str) -> int:
        """The number of tokens by the model behind."""
        return self._behind.get_num_tokens(text)

    def get_num_tokens_from_messages(self, messages: list[BaseMessage], tools: Sequence[Any] | None = None) -> int:
        """The number of tokens by the model behind."""
        return self._behind.get_num_tokens_from_messages(messages, tools)


class WrappedChatModel(FrontChatModel):
    """A chat model with the name, traces and cache keys of ``inner``; subclasses say how ``inner`` is called."""

    inner: BaseChatModel = Field(description="The wrapped model.")

    @property
    def _behind(self) -> BaseChatModel:
        return self.inner

    @property
    def _llm_type(self) -> str:
        return self.inner._llm_type

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return dict(self.inner._identifying_params)

    @cached_property
    def _serialized(self) -> dict[str, Any]:
        return self.inner._serialized

    def get_name(self, suffix: str | None = None, *, name: str | None = None) -> str:
        """The wrapped model's name."""
        return self.inner.get_name(suffix, name=name)

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        return self.inner._get_llm_string(stop=stop, **kwargs)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The wrapped model's own binding, around this model."""
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return _around(self.inner.bind_tools(tools, **kwargs), self)


def _around(bound: Runnable[Any, Any], wrapper: WrappedChatModel) -> Runnable[Any, Any]:
    """What a model's ``bind_tools`` gave, with the wrapper in the model's place."""
    if isinstance(bound, RunnableBindingBase):
        return bound.model_copy(update={"bound": _around(bound.bound, wrapper)})
    if isinstance(bound, BaseChatModel):  # the model itself, or a copy that holds the tools
        return wrapper.model_copy(update={"inner": bound})
    raise TypeError(
        f"{wrapper.get_name()}.bind_tools gave a {type(bound).__name__}, in which no chat model is to be seen"
    )


def provider_name(model: BaseChatModel, kwargs: dict[str, Any]) -> str | None:
    """The model's name as it is asked for; None where its integration does not say."""
    name = model._get_ls_params(**kwargs).get("ls_model_name")
    return name if isinstance(name, str) else None


_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict", "n_predict")


class AskedModel(WrappedChatModel):
    """A chat model whose every request asks for logprobs, whatever is bound to it before or after.

    A refusal is met here, where nothing but the model can have raised it: retries and fallbacks around the model
    see an answer, as they would without the gate.
    """

    top_k: int = Field(description="Alternatives a token that are asked for.")
    # Typed as Any, because pydantic would copy or validate these two objects, which are shared on purpose.
    capabilities: Any = Field(
        exclude=True, repr=False, description="The LogprobsCapabilities that remember refusals."
    )
    stopping: Any = Field(
        default=None, exclude=True, repr=False, description="The EntropyGate whose sure rejection stops a draft."
    )
    visibility: Visibility = Field(exclude=True, repr=False, description="What is shown of what it writes.")

    @classmethod
    def of(
        cls,
        model: BaseChatModel,
        *,
        top_k: int,
        capabilities: LogprobsCapabilities,
        visibility: Visibility,
        gate: EntropyGate | None = None,
    ) -> AskedModel:
        """The model, asked for logprobs.

        Args:
            model: The model; it is not changed.
            top_k: Alternatives a token.
            capabilities: Where refusals are remembered.
            visibility: What is shown of its answers, which are drafts.
            gate: The gate whose rejections are to be foreseen, where drafts are stopped.
        """
        return cls(
            inner=visibility.unstreamed(model),
            top_k=top_k,
            capabilities=capabilities,
            stopping=gate if visibility.is_stopped else None,
            visibility=visibility,
            **{**taken_over(model), **visibility.settings_of(model)},
        )

    def _should_stream(self, **kwargs: Any) -> bool:
        # A wrapped model may be set to stream by itself.
        return super()._should_stream(**kwargs) or (
            self.disable_streaming is not True and self.inner._should_stream(**kwargs)
        )

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        # An answer with logprobs and one without have different keys in a cache.
        may_ask = self._draft_request(kwargs).may_ask()
        return super()._get_llm_string(stop=stop, **(self._with_logprobs(kwargs) if may_ask else kwargs))

    def generate(self, *args: Any, **kwargs: Any) -> LLMResult:
        """Answer, as every chat model does.

        Raises:
            DraftAborted: the draft was stopped, because it is sure to be rejected.
        """
        try:
            return super().generate(*args, **kwargs)
        except DraftStopped as stopped:
            raise DraftAborted(stopped) from None

    async def agenerate(self, *args: Any, **kwargs: Any) -> LLMResult:
        """The same on the event loop."""
        try:
            return await super().agenerate(*args, **kwargs)
        except DraftStopped as stopped:
            raise DraftAborted(stopped) from None

    # LangChain runs this model's callbacks around these methods, so the wrapped model's own methods are called
    # without any. Only streams are given the run manager: it is passed by those event streams that hear of each token
    # from the model's own code.
    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: SyncRun = None, **kwargs: Any
    ) -> ChatResult:
        kwargs.pop("stream", None)  # a model that is given it returns a stream instead of the answer
        request = self._draft_request(kwargs)
        watch = self._watch(kwargs)
        if watch is not None:
            try:
                return self._generate_watched(messages, stop, self._with_logprobs(kwargs), watch)
            except Exception as error:
                request.note_refused_stream(error)
        if request.may_ask():
            try:
                return request.answered(self.inner._generate(messages, stop=stop, **self._with_logprobs(kwargs)))
            except Exception as error:
                request.note_refusal(error)
        return request.answered(self.inner._generate(messages, stop=stop, **kwargs))

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: AsyncRun = None, **kwargs: Any
    ) -> ChatResult:
        kwargs.pop("stream", None)
        request = self._draft_request(kwargs)
        watch = self._watch(kwargs, async_api=True)
        if watch is not None:
            try:
                return await self._agenerate_watched(messages, stop, self._with_logprobs(kwargs), watch)
            except Exception as error:
                request.note_refused_stream(error)
        if request.may_ask():
            try:
                return request.answered(
                    await self.inner._agenerate(messages, stop=stop, **self._with_logprobs(kwargs))
                )
            except Exception as error:
                request.note_refusal(error)
        return request.answered(await self.inner._agenerate(messages, stop=stop, **kwargs))

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: SyncRun = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        request = self._draft_request(kwargs)
        if request.may_ask(streamed=True):
            chunks = self.inner._stream(messages, stop=stop, run_manager=run_manager, **self._with_logprobs(kwargs))
            try:
                first = next(chunks, None)
            except Exception as error:
                request.note_refusal(error, streamed=True)
            else:
                if first is not None:
                    yield first
                    yield from chunks
                return
        for chunk in self.inner._stream(messages, stop=stop, run_manager=run_manager, **kwargs):
            yield request.answered(chunk)

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: AsyncRun = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        request = self._draft_request(kwargs)
        if request.may_ask(streamed=True):
            stream = self.inner._astream(messages, stop=stop, run_manager=run_manager, **self._with_logprobs(kwargs))
            async with aclosed(stream) as chunks:
                try:
                    first = await anext(chunks, None)
                except Exception as error:
                    request.note_refusal(error, streamed=True)
                else:
                    if first is not None:
                        yield first
                        async for chunk in chunks:
                            yield chunk
                    return
        async with aclosed(self.inner._astream(messages, stop=stop, run_manager=run_manager, **kwargs)) as chunks:
            async for chunk in chunks:
                yield request.answered(chunk)

    def _generate_watched(
        self, messages: list[BaseMessage], stop: list[str] | None, asking: dict[str, Any], watch: RejectionWatch
    ) -> ChatResult:
        """The whole answer from its stream; the stream is closed where the answer is sure to be rejected."""
        kept: list[ChatGenerationChunk] = []
        with closed(self.inner._stream(messages, stop=stop, **self._telling(asking))) as chunks:
            for chunk in chunks:
                kept.append(chunk)
                raise_if_rejected(watch.add(chunk), kept)
        return generate_from_stream(iter(kept))

    async def _agenerate_watched(
        self, messages: list[BaseMessage], stop: list[str] | None, asking: dict[str, Any], watch: RejectionWatch
    ) -> ChatResult:
        kept: list[ChatGenerationChunk] = []
        async with aclosed(self.inner._astream(messages, stop=stop, **self._telling(asking))) as chunks:
            async for chunk in chunks:
                kept.append(chunk)
                raise_if_rejected(watch.add(chunk), kept)
        return generate_from_stream(iter(kept))

    def _telling(self, asking: dict[str, Any]) -> dict[str, Any]:
        """The settings with a request for usage, which a stream, unlike a whole answer, does not report unasked."""
        return {"stream_usage": True, **asking} if "stream_usage" in type(self.inner).model_fields else asking

    def _with_logprobs(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {**kwargs, "logprobs": True, "top_logprobs": self.top_k}

    def _draft_request(self, kwargs: dict[str, Any]) -> DraftRequest:
        name = provider_name(self.inner, kwargs) or type(self.inner).__name__
        return DraftRequest(self.capabilities, name, has_tools=bool(kwargs.get("tools")))

    def _watch(self, kwargs: dict[str, Any], *, async_api: bool = False) -> RejectionWatch | None:
        """The watch that stops one draft; None where none can, so that the draft need not be streamed."""
        if self.stopping is None or not self._can_be_watched(kwargs, async_api=async_api):
            return None
        settings = self.inner._get_ls_params(**kwargs)
        return watch_for(
            self.stopping,
            limits=[settings.get("ls_max_tokens"), *_settings_of(self.inner, kwargs, _LIMITS)],
            model=provider_name(self.inner, kwargs),
            temperature=settings.get("ls_temperature"),
        )

    def _can_be_watched(self, kwargs: dict[str, Any], *, async_api: bool) -> bool:
        """Whether the draft can be had as one stream of one model."""
        # A gated model streams what one of two models writes; of several answers (n) a stream mixes the chunks.
        if getattr(type(self.inner), "answers_by_several", False) or any(
            isinstance(n, int) and n > 1 for n in _settings_of(self.inner, kwargs, ("n",))
        ):
            return False
        if not self._draft_request(kwargs).may_be_stopped(self.stopping.policies.on_missing):
            return False
        return can_stream(self.inner) and bool(
            self.inner._should_stream(async_api=async_api, **{**kwargs, "stream": True})
        )


def _settings_of(model: BaseChatModel, kwargs: dict[str, Any], names: tuple[str, ...]) -> list[Any]:
    """The values of these settings in a request, from the call, the model, or its extra fields."""
    own: list[Any] = [{name: getattr(model, name, None) for name in names}]
    for held in (kwargs, getattr(model, "model_kwargs", None), getattr(model, "extra_body", None)):
        own += [held, held.get("extra_body")] if isinstance(held, dict) else []
    return [settings[name] for settings in own if isinstance(settings, dict) for name in names if settings.get(name)]
