"""A query engine that answers cheaply, and deeper where the cheap answer is uncertain."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
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

from ..branches import EngineAnswer, EngineDeeper, Question, branch_of_engine
from .query_turn import QueryTurn


class EntropyGatedQueryEngine(BaseQueryEngine):
    """A cheap query engine, and a deeper one for the queries whose cheap answer the gate does not accept.

    Make the cheap engine with ``ask_logprobs(llm, gate=gate)`` in the place of each of its LLMs: an answer whose
    calls came without logprobs cannot be judged, and its decision says so. The decision is in
    ``response.metadata["tje"]``, and what both engines' LLMs spent in it. An answer that takes several LLM calls
    (``refine``, ``tree_summarize``, a query transform, a reranker) is judged by ``aggregate``.

    A call belongs to the draft in whose context it is made. Tasks and ``asyncio.to_thread`` have a copy of it; a bare
    thread (``pool.submit``, ``loop.run_in_executor``) has none, and a worker that several drafts share has that of
    the first. An LLM of ``ask_logprobs(llm, gate=gate)`` notices that it is called where no draft sees it; the drafts
    of this gate that may have called it cannot be judged then, and say so.

    Responses keep their types. A cheap engine's stream is read to its end before it is judged, and an accepted one is
    given out as a stream of one token; the deeper engine's stream passes through, and its usage is in the decision
    when it has ended. With ``mode="annotate"`` the cheap engine's stream passes through, is the answer, and has the
    decision in its metadata when it has ended.

    Example:
        >>> from llama_index.core import Document, MockEmbedding, SummaryIndex
        >>> from llama_index.core.llms import MockLLM
        >>> from llama_index_tje import ask_logprobs
        >>> from tje_middleware import CalibrationRecord, EntropyGate, ProfileKey, calibrate
        >>> records = [CalibrationRecord(correct=i % 2 == 0, signals={"mean_entropy": 0.2 + i % 2 + i / 100})
        ...            for i in range(20)]
        >>> gate = EntropyGate(calibrate(records, key=ProfileKey(model="m", task="t")), on_missing="final")
        >>> import warnings; warnings.simplefilter("ignore")  # a mock has no logprobs, and the gate says so
        >>> index = SummaryIndex.from_documents([Document(text="Paris is in France.")])
        >>> engine = EntropyGatedQueryEngine(
        ...     engine=index.as_query_engine(llm=ask_logprobs(MockLLM(), gate=gate)),
        ...     deeper=index.as_query_engine(llm=MockLLM(), response_mode="tree_summarize"),
        ...     gate=gate,
        ... )
        >>> engine.query("Where is Paris?").metadata["tje"]["answered_by"]
        'draft'

    Args:
        engine: Answers first. Its LLMs are those of ``ask_logprobs(llm, gate=gate)``, or ask for logprobs themselves.
        deeper: Answers where the gate is not satisfied: a query engine, or a function of the query bundle, also an
            asynchronous one, which gives a response or its text and may name ``draft``, ``decision`` and ``nodes``.
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
        deeper: EngineDeeper,
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
        self._branch = branch_of_engine(deeper)
        delivery = Delivery(gate, mode, on_branch_error, branch=self._branch)
        if threshold is not None:
            delivery = replace(delivery, gate=gate.with_threshold(threshold))
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
    ) -> EngineAnswer:
        """An answer from these nodes, gated as in a query; the deeper engine is given the same nodes."""
        return self._turn(Question(query_bundle, nodes, additional_source_nodes)).response()

    async def asynthesize(
        self,
        query_bundle: QueryBundle,
        nodes: list[NodeWithScore],
        additional_source_nodes: Sequence[NodeWithScore] | None = None,
    ) -> EngineAnswer:
        """The same on the event loop."""
        return await self._turn(Question(query_bundle, nodes, additional_source_nodes)).aresponse()

    def _query(self, query_bundle: QueryBundle) -> EngineAnswer:
        with self._told(query_bundle) as event:
            answer = self._turn(Question(query_bundle)).response()
            event.on_end(payload={EventPayload.RESPONSE: answer})
        return answer

    async def _aquery(self, query_bundle: QueryBundle) -> EngineAnswer:
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
            branch=self._branch,
            question=question,
            aggregate=self._aggregate,
        )
