"""The deeper branch of a gate in an agent: the agent's model call made anew, or the user's Runnable or function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from langchain.agents.middleware import ModelRequest, ModelResponse
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, SystemMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.tools import BaseTool
from langgraph.pregel import Pregel

from tje_middleware.branches import Branch, Message
from tje_middleware.branches.base import OFFERED

from ..asking.asked_model import AskedModel
from ..asking.chain import is_chat_model, named_model
from ..branches.deeper import ChainBranch, RejectedQuestion, as_message, as_runnable, is_branch

#: A model's name for ``init_chat_model``, a chat model, a Runnable of messages, a function of messages, or a branch.
AgentDeeper = str | BaseChatModel | Runnable[Any, Any] | Callable[..., Any] | Branch[Any, Any]
Request = ModelRequest[Any]
Response = ModelResponse[Any]
Handler = Callable[[Request], Response]
AsyncHandler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class AgentAsk(RejectedQuestion):
    """A turn of an agent whose draft was not accepted, and the agent's handler to ask its model again.

    Attributes:
        question: The conversation, the system message first.
        draft: The draft's message; None where it was stopped, or could not be parsed.
        request: The request that the draft answered, with the instruction for the deeper branch.
        handler: Calls the agent's model; to be awaited on the event loop.
    """

    request: Request
    handler: Handler | AsyncHandler

    @property
    def offered(self) -> dict[str, Any]:
        """What a function is given beside the conversation, where it has parameters of these names."""
        return {**super().offered, "request": self.request, "handler": self.handler}

    def again(self, *following: Message, **settings: object) -> Response:
        """Ask the agent's model once more, the conversation followed by these messages."""
        return cast("Response", self.handler(self._followed(following, settings)))

    async def aagain(self, *following: Message, **settings: object) -> Response:
        """The same on the event loop."""
        return await cast("AsyncHandler", self.handler)(self._followed(following, settings))

    def text_of(self, answer: AIMessage | Response, /) -> str:
        """The text of the message that the model wrote; a structured output's tool message may follow it."""
        messages = answer.result if isinstance(answer, ModelResponse) else [answer]
        return next((str(each.text) for each in reversed(messages) if isinstance(each, AIMessage)), "")

    def _followed(self, following: tuple[Message, ...], settings: Mapping[str, object]) -> Request:
        return self.request.override(
            messages=[*self.request.messages, *cast("list[AnyMessage]", list(map(as_message, following)))],
            model_settings={**self.request.model_settings, **settings},
        )


def branch_of(deeper: AgentDeeper | None, settings: Mapping[str, Any] | None) -> Branch[Any, Any]:
    """The branch that ``deeper`` and its settings stand for.

    Raises:
        TypeError: ``deeper`` is nothing that could answer, or a function that requires what it is not given.
        ValueError: there are settings without a model that they could be of, or the model has tools of its own.
    """
    if deeper is None or isinstance(deeper, str) or (isinstance(deeper, Runnable) and is_chat_model(deeper)):
        return ModelBranch(deeper, settings or {})
    if settings:
        kind = type(deeper).__name__
        raise ValueError(f"deeper_settings are a model's, and deeper is a {kind}, which has to set its model itself")
    if is_branch(deeper):
        return deeper
    return CustomBranch(cast("Runnable[Any, Any] | Callable[..., Any]", deeper))


class ModelBranch:
    """The agent's model call once more, with another model or other settings.

    Args:
        model: The model, or its name; None for the request's own.
        settings: Settings of its calls.
    """

    needs_draft = False
    includes_draft = False

    def __init__(self, model: str | Runnable[Any, Any] | None, settings: Mapping[str, Any]) -> None:
        bound: dict[str, Any] = {}
        # An agent binds its tools to the model, and LangChain drops what was bound before that.
        while isinstance(model, RunnableBindingBase):
            bound, model = {**model.kwargs, **bound}, model.bound
        if "tools" in bound:
            raise ValueError("deeper has tools bound to it; the agent binds its own: give the model without tools")
        self._model: Any = named_model(model, "deeper") if isinstance(model, str) else model
        self._settings = {**bound, **settings}

    def run(self, ask: AgentAsk) -> Response:
        """The answer of the agent's handler to the request with the deeper model and its settings."""
        return self._of(ask).again(**self._settings)

    async def arun(self, ask: AgentAsk) -> Response:
        """The same on the event loop."""
        return await self._of(ask).aagain(**self._settings)

    def _of(self, ask: AgentAsk) -> AgentAsk:
        if self._model is None:
            return ask
        return replace(ask, request=ask.request.override(model=_as_asked(self._model, ask.request.model)))


class CustomBranch(ChainBranch):
    """A Runnable or a function, called with the messages; an agent or graph gets them as its state.

    Args:
        deeper: The Runnable, or the function; the latter is given what it names of ``draft``, ``decision``,
            ``request`` and ``handler``.
    """

    def __init__(self, deeper: Runnable[Any, Any] | Callable[..., Any]) -> None:
        super().__init__(as_runnable(deeper), given="the messages", offered=(*OFFERED, "request", "handler"))
        self._takes_state = isinstance(deeper, Pregel)

    def require(self, *, on_loop: bool) -> None:
        """As for a chain; and refuse a sync function that names ``handler``, which on the loop is async."""
        super().require(on_loop=on_loop)
        is_async = hasattr(self.runnable, "afunc") or not hasattr(self.runnable, "func")
        if on_loop and not is_async and self.names("handler"):
            raise TypeError("on the event loop, handler is to be awaited: make the deeper branch an async function")

    def input_of(self, ask: RejectedQuestion) -> Any:
        """The messages; as a state, where an agent or a graph answers."""
        return {"messages": ask.question} if self._takes_state else ask.question

    def read(self, answer: object, request: Request) -> Response:
        """The messages in it.

        Raises:
            TypeError: there are none; or the agent's structured output is missing, which it reads off its own model's
                answers alone.
        """
        response = response_in(answer)
        if request.response_format is None or response.structured_response is not None or _goes_on(response, request):
            return response
        raise TypeError(
            "the agent has a response_format: let the deeper branch answer with a ModelResponse that has its "
            "structured_response, such as handler(request) gives"
        )


def with_instruction(request: Request, instruction: str | None) -> Request:
    """The request with an instruction at the end of its system message.

    Not as a message of the user's: one behind a tool's answer starts the tools anew.
    """
    if instruction is None:
        return request
    system = request.system_message
    if system is None:
        return request.override(system_message=SystemMessage(instruction))
    content: Any = system.content
    if isinstance(content, str):
        content = f"{content}\n\n{instruction}"
    else:
        content = [*content, {"type": "text", "text": f"\n\n{instruction}"}]
    return request.override(system_message=system.model_copy(update={"content": content}))


def response_in(answer: object) -> Response:
    """A deeper branch's answer as the agent takes it.

    Raises:
        TypeError: it is of no form in which an agent's model answers.
    """
    if isinstance(answer, ModelResponse):
        return answer
    if isinstance(answer, AIMessage):
        return ModelResponse(result=[answer])
    if isinstance(answer, str):
        return ModelResponse(result=[AIMessage(answer)])
    if isinstance(answer, dict) and isinstance(answer.get("messages"), list) and answer["messages"]:
        # The state of an agent or a graph, whose last message is its answer.
        last = answer["messages"][-1]
        if isinstance(last, AIMessage):
            return ModelResponse(result=[last], structured_response=answer.get("structured_response"))
    raise TypeError(
        f"the deeper branch must answer with an AIMessage, a ModelResponse or a str, not a {type(answer).__name__}"
    )


def _goes_on(response: Response, request: Request) -> bool:
    """Whether the answer calls a tool of the agent; the pseudo tool of ``ToolStrategy`` is none."""
    offered = {tool.name for tool in request.tools if isinstance(tool, BaseTool)}
    answers = (message for message in response.result if isinstance(message, AIMessage))
    return any(call["name"] in offered for answer in answers for call in answer.tool_calls)


def _as_asked(model: Any, asked: object) -> Any:
    """The deeper model, asked for logprobs where a gate around this one asks the request's model for them."""
    if not isinstance(asked, AskedModel) or not isinstance(model, BaseChatModel):
        return model
    return AskedModel.of(model, top_k=asked.top_k, capabilities=asked.capabilities, visibility=asked.visibility)
