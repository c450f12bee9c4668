"""A query engine that answers cheaply, and deeper where the cheap answer is uncertain."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, get_args

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.base import EventContext
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.prompts.mixin import PromptMixin
from llama_index.core.schema import NodeWithScore, QueryBundle

from tje_middleware import EntropyGate
from tje_middleware.calls.aggregation import Aggregate
from tje_middleware.errors import described, require_one_of
from tje_middleware.gate.delivery import Delivery, Mode, OnBranchError

from .answers import Answer
from .deeper import Deeper, Question, as_branch
from .turn import QueryTurn


class EntropyGatedQueryEngine(BaseQueryEngine):
    """A cheap query engine, and a deeper one for the queries whose cheap answer the gate does not accept.

    The cheap engine's LLMs are asked for the logprobs that the gate needs; the engine itself stays as it is. The
    decision is in ``response.metadata["tje"]``, and what both engines' LLMs spent in it. An answer that takes several
    LLM calls (``refine``, ``tree_summarize``, a query transform, a reranker) is judged by ``aggregate``.

    Responses keep their types. A cheap engine's stream is read to its end before it is judged, and an accepted one is
    given out as a stream of one token; the deeper engine's stream passes through, and its usage is in the decision
    when it has ended. With ``mode="annotate"`` the cheap engine's stream passes through, is the answer, and has the
    decision in its metadata when it has ended.

    Example:
        >>> from llama_index.core import Document, MockEmbedding, SummaryIndex
        >>> from llama_index.core.llms import MockLLM
        >>> from tje_middleware import CalibrationRecord, EntropyGate, ProfileKey, calibrate
        >>> records = [CalibrationRecord(correct=i % 2 == 0, signals={"mean_entropy": 0.2 + i % 2 + i / 100})
        ...            for i in range(20)]
        >>> gate = EntropyGate(calibrate(records, key=ProfileKey(model="m", task="t")), on_missing="final")
        >>> import warnings; warnings.simplefilter("ignore")  # a mock has no logprobs, and the gate says so
        >>> index = SummaryIndex.from_documents([Document(text="Paris is in France.")])
        >>> engine = EntropyGatedQueryEngine(
        ...     engine=index.as_query_engine(llm=MockLLM()),
        ...     deeper=index.as_query_engine(llm=MockLLM(), response_mode="tree_summarize"),
        ...     gate=gate,
        ... )
        >>> engine.query("Where is Paris?").metadata["tje"]["answered_by"]
        'draft'

    Args:
        engine: Answers first. What it is made of is copied flatly for each query where it leads to an LLM, so that
            what such an engine counts or replaces in its own attributes while it answers is not kept. LLMs are found
            in its parts, and in their lists, tuples and dicts as far as these are no data: where an LLM is among, or
            within, the first two dozen items, and in at most two containers within one another.
        deeper: Answers where the gate is not satisfied: a query engine, or a function of the query bundle, also an
            asynchronous one, which gives a response or its text and may name ``draft`` and ``decision``.
        gate: Decides.
        aggregate: Which calls speak for an answer of several: ``"worst"``, every call must be acceptable; ``"last"``,
            the one that ended last, which wrote the answer; ``"pooled"``, the tokens of all as one sequence.
        mode: ``"hold"``: nobody sees a draft before it is accepted. ``"annotate"``: the draft is always the answer,
            and carries the decision.
        on_branch_error: When the deeper branch fails before its first token: return the draft and say so, or raise.
        threshold: In the place of the profile's, in the signal's unit (bits for entropies).
        callback_manager: LlamaIndex's callbacks of this engine itself; those of the cheap engine by default.

    Raises:
        TypeError: an engine that is none, a deeper branch that could not answer, or a gate that is none.
        ValueError: an option that does not exist, or ``mode="abort"``: what can be stopped is an LLM's answer.
    """

    def __init__(
        self,
        *,
        engine: BaseQueryEngine,
        deeper: Deeper,
        gate: EntropyGate,
        aggregate: Aggregate = "worst",
        mode: Mode = "hold",
        on_branch_error: OnBranchError = "draft",
        threshold: float | None = None,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        if not isinstance(engine, BaseQueryEngine):
            raise TypeError(f"engine must be a LlamaIndex query engine, not {described(engine)}")
        if mode == "abort":
            raise ValueError(
                "mode='abort' stops an LLM while it writes, and a query engine only hears of whole answers: give the "
                "engine an EntropyGatedLLM(mode='abort') instead"
            )
        require_one_of("aggregate", aggregate, get_args(Aggregate))
        delivery = Delivery(gate, mode=mode, on_branch_error=on_branch_error)
        if threshold is not None:
            delivery = Delivery(gate.with_threshold(threshold), mode=mode, on_branch_error=on_branch_error)
        as_branch(deeper)  # refuses what could not answer
        self._engine = engine
        self._deeper = deeper
        self._delivery = delivery
        self._aggregate = aggregate
        super().__init__(callback_manager or engine.callback_manager)

    @property
    def gate(self) -> EntropyGate:
        """The gate, with its threshold as it is here."""
        return self._delivery.gate

    def _get_prompt_modules(self) -> dict[str, Any]:
        """Both engines: their prompts are the user's, and are seen and changed there."""
        modules = {"engine": self._engine, "deeper": self._deeper}
        return {name: module for name, module in modules.items() if isinstance(module, PromptMixin)}

    def update_prompts(self, prompts_dict: dict[str, BasePromptTemplate]) -> None:
        """Change prompts, by the names that ``get_prompts`` gives; other prompts remain.

        Raises:
            ValueError: a name that begins with neither engine.
        """
        # LlamaIndex's own cannot read the names that it gives to the prompts of modules within modules.
        modules = self._get_prompt_modules()
        for name, prompt in prompts_dict.items():
            module, _, of_module = name.partition(":")
            if module not in modules:
                raise ValueError(
                    f"there is no prompt {name!r} in this engine; there are {sorted(self.get_prompts())}"
                )
            modules[module].update_prompts({of_module: prompt})

    def retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """The nodes that the cheap engine finds; nothing is decided about them."""
        return self._engine.retrieve(query_bundle)

    async def aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        """The same on the event loop.

        Raises:
            NotImplementedError: the cheap engine has no such method.
        """
        aretrieve = getattr(self._engine, "aretrieve", None)
        if aretrieve is None:
            raise NotImplementedError(f"the cheap engine ({type(self._engine).__name__}) has no aretrieve")
        nodes: list[NodeWithScore] = await aretrieve(query_bundle)
        return nodes

    def synthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> Answer:
        """An answer from these nodes, gated as in a query; the deeper engine is given the same nodes."""
        return self._turn(Question(query_bundle, nodes, additional_source_nodes)).response()

    async def asynthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> Answer:
        """The same on the event loop."""
        return await self._turn(Question(query_bundle, nodes, additional_source_nodes)).aresponse()

    def _query(self, query_bundle: QueryBundle) -> Answer:
        with self._told(query_bundle) as event:
            answer = self._turn(Question(query_bundle)).response()
            event.on_end(payload={EventPayload.RESPONSE: answer})
        return answer

    async def _aquery(self, query_bundle: QueryBundle) -> Answer:
        with self._told(query_bundle) as event:
            answer = await self._turn(Question(query_bundle)).aresponse()
            event.on_end(payload={EventPayload.RESPONSE: answer})
        return answer

    def _told(self, query_bundle: QueryBundle) -> AbstractContextManager[EventContext]:
        """LlamaIndex's callbacks hear of a query."""
        asked: dict[str, Any] = {EventPayload.QUERY_STR: query_bundle.query_str}
        return self.callback_manager.event(CBEventType.QUERY, payload=asked)

    def _turn(self, question: Question) -> QueryTurn:
        return QueryTurn(
            self._delivery,
            engine=self._engine,
            branch=as_branch(self._deeper),  # anew: a gate around this one has another engine in its place
            question=question,
            aggregate=self._aggregate,
        )
