"""A chat model that is asked for logprobs, and answers without them where its provider refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.base import RunnableBinding
from langchain_core.runnables.configurable import DynamicRunnable, RunnableConfigurableAlternatives
from pydantic import Field

from tje_middleware import TjeError

#: What a model's provider said when it refused to be asked for logprobs, under the model's name.
Refusals = dict[str, str]
UNNAMED = ""
#: LangGraph shows no message of a model that has this tag.
NOSTREAM = "nostream"


class AskingModel(RunnableBinding[Any, Any]):  # type: ignore[no-redef]  # pydantic's plugin, on a field named kwargs
    """A model with logprobs bound; a refusal is met here, where nothing but the model can have raised it.

    Retries and fallbacks around the model then see an answer, as they would without the gate.
    """

    settings: dict[str, Any] = Field(description="What is bound to ask for logprobs, and left out after a refusal.")
    # Any: pydantic would copy a dict, and what is noted in this one is read elsewhere.
    refusals: Any = Field(exclude=True, repr=False, description="The Refusals in which a refusal is noted.")

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Ask with logprobs, or without them where that was refused."""
        name = model_name(self.bound)
        if name not in self.refusals:
            try:
                return super().invoke(input, config, **kwargs)
            except Exception as error:
                self._note_refusal(name, error)
        return self._plain().invoke(input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The same on the event loop."""
        name = model_name(self.bound)
        if name not in self.refusals:
            try:
                return await super().ainvoke(input, config, **kwargs)
            except Exception as error:
                self._note_refusal(name, error)
        return await self._plain().ainvoke(input, config, **kwargs)

    # Bindings hand these on to the model, past what is above; the general ones come back to it.
    def batch(self, inputs: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """One answer an input."""
        return Runnable.batch(self, inputs, *args, **kwargs)

    async def abatch(self, inputs: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """The same on the event loop."""
        return await Runnable.abatch(self, inputs, *args, **kwargs)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """The whole answer as one chunk."""
        yield self.invoke(input, config, **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """The same on the event loop."""
        yield await self.ainvoke(input, config, **kwargs)

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """The same within a chain that is streamed."""
        yield from Runnable.transform(self, input, config, **kwargs)

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """The same on the event loop."""
        async for chunk in Runnable.atransform(self, input, config, **kwargs):
            yield chunk

    def _plain(self) -> RunnableBinding[Any, Any]:
        kwargs = {name: value for name, value in self.kwargs.items() if name not in self.settings}
        return RunnableBinding(bound=self.bound, kwargs=kwargs, config=self.config)

    def _note_refusal(self, name: str, error: Exception) -> None:
        """Go on without logprobs where asking for them was what failed; re-raise every other error."""
        if isinstance(error, TjeError) or "logprob" not in str(error).lower():
            raise error
        self.refusals[name] = f"the model refused to be asked for logprobs: {str(error)[:200]}"


def unstreamed(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """The model, its answer kept back until it is whole.

    A draft that may be rejected must not reach the user, neither as a stream nor through LangGraph's stream of
    messages; and one kind of event streaming keeps only the last chunk's logprobs.
    """
    if isinstance(model, BaseChatModel):
        update: dict[str, Any] = {"disable_streaming": True, "tags": [*(model.tags or []), NOSTREAM]}
        if getattr(model, "streaming", False):
            update["streaming"] = False  # some integrations put it into every request
        return model.model_copy(update=update)
    if isinstance(model, DynamicRunnable):
        update = {"default": unstreamed(model.default)}
        if isinstance(model, RunnableConfigurableAlternatives):
            update["alternatives"] = {
                name: unstreamed(other) if isinstance(other, Runnable) else other
                for name, other in model.alternatives.items()
            }
        return model.model_copy(update=update)
    return model


def model_name(model: Runnable[Any, Any]) -> str:
    """The name under which a model's refusal is noted."""
    if isinstance(model, DynamicRunnable):
        return UNNAMED  # which model it becomes is known only when it is called
    name = getattr(model, "model_name", None) or getattr(model, "model", None)
    return name if isinstance(name, str) else type(model).__name__
