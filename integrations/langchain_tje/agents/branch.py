"""The deeper branch of a gate in an agent: the agent's model call made anew, or the user's Runnable or function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from langchain.agents.middleware import ModelRequest, ModelResponse
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, SystemMessage
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.tools import BaseTool
from langgraph.pregel import Pregel

from tje_middleware import GateDecision
from tje_middleware.branches.base import parameters_of
from tje_middleware.errors import described

from ..asking.chain import is_chat_model, named_model
from ..asking.model import AskedModel
from ..branches.deeper import as_runnable, deeper_arguments, require_sync
from ..messages.trace import NOSTREAM

#: A model's name for ``init_chat_model``, a chat model, a Runnable of messages, or a function of messages.
AgentDeeper = str | BaseChatModel | Runnable[Any, Any] | Callable[..., Any]
Request = ModelRequest[Any]
Response = ModelResponse[Any]
Handler = Callable[[Request], Response]
AsyncHandler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Rejected:
    """What a deeper branch is told.

    Attributes:
        request: The request that the draft answered, with the instruction for the deeper branch.
        draft: The draft; None where it was stopped, or could not be parsed.
        decision: Why it was rejected.
    """

    request: Request
    draft: AIMessage | None
    decision: GateDecision


class AgentBranch(Protocol):
    """A deeper branch."""

    def require(self, *, on_loop: bool) -> None:
        """Refuse a way of calling that this branch has not.

        Raises:
            TypeError: it has not; such a mistake must not pass for a failure of the branch.
        """

    def run(self, rejected: Rejected, handler: Handler) -> object:
        """Answer."""

    async def arun(self, rejected: Rejected, handler: AsyncHandler) -> object:
        """The same on the event loop."""

    def read(self, answer: object, request: Request) -> Response:
        """What it answered, as the agent takes it.

        Raises:
            TypeError: it is no answer to the request; the message says what would be.
        """


def branch_of(deeper: AgentDeeper | None, settings: Mapping[str, Any] | None) -> AgentBranch:
    """The branch that ``deeper`` and its settings stand for.

    Raises:
        TypeError: ``deeper`` is nothing that could answer.
        ValueError: there are settings without a model that they could be of, or the model has tools of its own.
    """
    if deeper is None or isinstance(deeper, str) or (isinstance(deeper, Runnable) and is_chat_model(deeper)):
        return ModelBranch(deeper, settings or {})
    if settings:
        kind = type(deeper).__name__
        raise ValueError(f"deeper_settings are a model's, and deeper is a {kind}, which has to set its model itself")
    if isinstance(deeper, type) or not (isinstance(deeper, Runnable) or callable(deeper)):
        raise TypeError(f"deeper must be a model, its name, a Runnable or a function, not {described(deeper)}")
    return CustomBranch(deeper)


class ModelBranch:
    """The agent's model call once more, with another model or other settings.

    Args:
        model: The model, or its name; None for the request's own.
        settings: Settings of its calls.
    """

    def __init__(self, model: str | Runnable[Any, Any] | None, settings: Mapping[str, Any]) -> None:
        bound: dict[str, Any] = {}
        # An agent binds its tools to the model, and LangChain drops what was bound before that.
        while isinstance(model, RunnableBindingBase):
            bound, model = {**model.kwargs, **bound}, model.bound
        if "tools" in bound:
            raise ValueError("deeper has tools bound to it; the agent binds its own: give the model without tools")
        self._model: Any = named_model(model, "deeper") if isinstance(model, str) else model
        self._settings = {**bound, **settings}

    def require(self, *, on_loop: bool) -> None:
        """Both ways are the agent's own."""

    def run(self, rejected: Rejected, handler: Handler) -> Response:
        """The agent's answer to the request as it is for the deeper branch."""
        return handler(self._of(rejected.request))

    async def arun(self, rejected: Rejected, handler: AsyncHandler) -> Response:
        """The same on the event loop."""
        return await handler(self._of(rejected.request))

    def read(self, answer: object, request: Request) -> Response:
        """The agent's own answer needs no reading."""
        return cast("Response", answer)

    def _of(self, request: Request) -> Request:
        model_settings = {**request.model_settings, **self._settings}
        if self._model is None:
            return request.override(model_settings=model_settings)
        return request.override(model=_as_asked(self._model, request.model), model_settings=model_settings)


class CustomBranch:
    """A Runnable or a function, called with the messages; an agent or graph gets them as its state.

    Args:
        deeper: The Runnable, or the function; the latter is given what it names of ``draft``, ``decision``,
            ``request`` and ``handler``.
    """

    def __init__(self, deeper: Runnable[Any, Any] | Callable[..., Any]) -> None:
        self._runnable = as_runnable(deeper)
        self._takes_state = isinstance(deeper, Pregel)
        self._wants = frozenset() if isinstance(deeper, Runnable) else frozenset(parameters_of(deeper))

    def require(self, *, on_loop: bool) -> None:
        """An asynchronous function needs the loop; and on it, ``handler`` can be awaited alone."""
        if not on_loop:
            require_sync(self._runnable)
        elif "handler" in self._wants and hasattr(self._runnable, "func"):
            raise TypeError("on the event loop, handler is to be awaited: make the deeper branch an async function")

    def run(self, rejected: Rejected, handler: Handler) -> object:
        """What the user's code answers."""
        return self._runnable.invoke(self._input(rejected), **self._arguments(rejected, handler))

    async def arun(self, rejected: Rejected, handler: AsyncHandler) -> object:
        """The same on the event loop."""
        return await self._runnable.ainvoke(self._input(rejected), **self._arguments(rejected, handler))

    def read(self, answer: object, request: Request) -> Response:
        """The messages in it.

        Raises:
            TypeError: there are none; or the agent's structured output is missing, which it reads off its own model's
                answers alone.
        """
        response = _response_in(answer)
        if request.response_format is None or response.structured_response is not None or _goes_on(response, request):
            return response
        raise TypeError(
            "the agent has a response_format: let the deeper branch answer with a ModelResponse that has its "
            "structured_response, such as handler(request) gives"
        )

    def _input(self, rejected: Rejected) -> object:
        system = rejected.request.system_message
        messages: list[AnyMessage] = [*([system] if system else []), *rejected.request.messages]
        return {"messages": messages} if self._takes_state else messages

    def _arguments(self, rejected: Rejected, handler: object) -> dict[str, Any]:
        of_agents = {"request": rejected.request, "handler": handler}
        return {
            **deeper_arguments(self._runnable, rejected.draft, rejected.decision),
            **{name: value for name, value in of_agents.items() if name in self._wants},
        }


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


def _response_in(answer: object) -> Response:
    if isinstance(answer, ModelResponse):
        return answer
    if isinstance(answer, AIMessage):
        return ModelResponse(result=[answer])
    if isinstance(answer, str):
        return ModelResponse(result=[AIMessage(answer)])
    if isinstance(answer, dict) and isinstance(answer.get("messages"), list) and answer["messages"]:
        # The state of an agent or a graph: what it said last is its answer.
        last = answer["messages"][-1]
        if isinstance(last, AIMessage):
            return ModelResponse(result=[last], structured_response=answer.get("structured_response"))
    raise TypeError(
        f"the deeper branch must answer with an AIMessage, a ModelResponse or a str, not a {type(answer).__name__}"
    )


def _goes_on(response: Response, request: Request) -> bool:
    """Whether the agent goes on with tools after this answer; the tool that stands for an answer is none of them."""
    offered = {tool.name for tool in request.tools if isinstance(tool, BaseTool)}
    answers = (message for message in response.result if isinstance(message, AIMessage))
    return any(call["name"] in offered for answer in answers for call in answer.tool_calls)


def _as_asked(model: Any, asked: object) -> Any:
    """The model, asked for logprobs as the request's own is: by a gate around this one, whose draft it writes."""
    if not isinstance(asked, AskedModel) or not isinstance(model, BaseChatModel):
        return model
    held = NOSTREAM in (asked.tags or [])
    return AskedModel.of(
        model, top_k=asked.top_k, capabilities=asked.capabilities, mode="hold" if held else "annotate"
    )
