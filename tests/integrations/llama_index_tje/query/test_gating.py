"""A cheap query engine and a deeper one: which answers, what its response says, and what stays the user's."""

from __future__ import annotations

import pytest
from llama_index.core import Document, MockEmbedding, PromptTemplate, VectorStoreIndex
from llama_index.core.base.response.schema import PydanticResponse, Response
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.callbacks.schema import EventPayload
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.schema import QueryBundle
from llama_index.llms.openai import OpenAI
from llama_index_tje import ask_logprobs
from llama_index_tje.capture.handler import capture_entropy
from pydantic import BaseModel

from tests.gates import make_gate
from tje_middleware import GateError, Route, TjeWarning, TokenUsage
from tje_middleware.branches import SequentialRefinement

from .engines import CHEAP, DEEP, SURE, UNSURE, decision_in

OPENAI = "gpt-4o-mini"
ONE_CALL = TokenUsage(input_tokens=10, output_tokens=4, calls=1)

pytestmark = pytest.mark.filterwarnings("ignore::tje_middleware.errors.TjeWarning")


class City(BaseModel):
    """A city."""

    name: str


def openai(provider):
    settings = {"temperature": 0.0, "max_retries": 0, "reuse_client": False}
    return OpenAI(model=OPENAI, api_base=provider.base_url, api_key="none", **settings)


async def queried(engine, question, *, on_loop):
    return await engine.aquery(question) if on_loop else engine.query(question)


class TestTheRoute:
    async def test_a_sure_answer_is_the_cheap_engines(self, gated, engines, on_loop):
        response = await queried(gated(SURE), "What?", on_loop=on_loop)
        decision = decision_in(response)
        assert (str(response).strip(), engines.asked) == ("w0 w1 w2 w3", [CHEAP])
        assert (decision.route, decision.answered_by) == (Route.FINAL, "draft")
        assert decision.signal_value == pytest.approx(0.5)
        assert (decision.draft_usage, decision.deeper_usage) == (ONE_CALL, None)

    async def test_an_unsure_one_is_the_deeper_engines(self, gated, engines, on_loop):
        response = await queried(gated(UNSURE), "What?", on_loop=on_loop)
        decision = decision_in(response)
        assert (str(response).split()[0], engines.asked) == ("deep-0", [CHEAP, DEEP])
        assert (decision.route, decision.answered_by) == (Route.DEEPER, "deeper")
        assert decision.signal_value == pytest.approx(3.0)
        assert decision.draft_usage == TokenUsage(input_tokens=10, output_tokens=6, calls=1)
        assert decision.deeper_usage == ONE_CALL

    async def test_a_hopeless_one_is_given_up_as_it_is(self, gated, engines, on_loop):
        profile = make_gate().profile()
        hopeless = profile.model_copy(
            update={"abstain": profile.thresholds["mean"].model_copy(update={"value": 2.0})}
        )
        gate = type(make_gate())(hopeless, abstain=True)
        response = await queried(gated(UNSURE, gate=gate), "What?", on_loop=on_loop)
        assert decision_in(response).route is Route.ABSTAIN
        assert engines.asked == [CHEAP]

    def test_a_threshold_by_hand_takes_the_place_of_the_profiles(self, gated):
        assert decision_in(gated(UNSURE, threshold=3.5).query("What?")).answered_by == "draft"

    async def test_with_annotate_the_draft_is_the_answer_whatever_is_decided(self, gated, engines, on_loop):
        response = await queried(gated(UNSURE, mode="annotate"), "What?", on_loop=on_loop)
        decision = decision_in(response)
        assert (decision.route, decision.answered_by, engines.asked) == (Route.DEEPER, "draft", [CHEAP])

    def test_the_class_for_openai_itself_is_asked_alike(self, provider, gated, engines):
        gate = make_gate(OPENAI)
        engine = engines.engine(SURE, llm=openai(provider), gate=gate)
        decision = decision_in(gated(gate=gate, engine=engine).query("What?"))
        assert decision.signal_value == pytest.approx(0.5)


class TestTheEvidence:
    def test_the_cheap_llm_is_asked_for_logprobs_and_the_deeper_one_is_not(self, gated, provider):
        gated(UNSURE).query("What?")
        assert provider.asked_for_logprobs() == [20, None]

    def test_an_llm_that_asks_by_itself_is_judged_likewise(self, gated, engines, provider):
        llm = engines.llm(logprobs=True, top_logprobs=20)
        assert decision_in(gated(engine=engines.engine(SURE, llm=llm)).query("What?")).accepted
        assert provider.asked_for_logprobs() == [20]

    @pytest.mark.parametrize("model", ["refuses-logprobs", "ignores-logprobs"])
    def test_a_model_without_logprobs_is_not_taken_for_sure(self, gated, model, engines):
        decision = decision_in(gated(SURE, cheap=model, gate=make_gate(model)).query("What?"))
        assert (decision.reason, decision.answered_by) == ("no_logprobs", "deeper")

    def test_a_refusal_is_met_once_and_remembered(self, gated, engines):
        engine = gated(SURE, cheap="refuses-logprobs", gate=make_gate("refuses-logprobs"))
        details = [decision_in(engine.query("What?")).detail for _ in range(2)]
        assert all("refused" in detail for detail in details)
        assert engines.asked == ["refuses-logprobs"] * 2 + [DEEP] + ["refuses-logprobs", DEEP]

    def test_another_model_than_the_profiles_cannot_be_judged(self, gated):
        decision = decision_in(gated(SURE, cheap="another").query("What?"))
        assert (decision.reason, decision.answered_by) == ("other_settings", "deeper")

    def test_an_answer_without_a_model_says_so_even_where_another_model_refused(self, gated, gate, engines):
        gate.capabilities.remember("another", TypeError("unexpected keyword argument 'logprobs'"))
        engine = engines.engine(SURE, gate=gate)
        engine._retriever._index.index_struct.nodes.clear()
        decision = decision_in(gated(engine=engine).query("What?"))
        assert decision.reason == "no_logprobs"
        assert "no model was called" in decision.detail
        assert engines.asked == [DEEP]

    def test_an_engine_whose_llm_is_not_asked_for_logprobs_is_told_what_to_do(self, gated, engines):
        with pytest.warns(TjeWarning, match=r"make the engine with ask_logprobs\(llm, gate=gate\)"):
            decision = decision_in(gated(engine=engines.engine(SURE)).query("What?"))
        assert (decision.reason, decision.answered_by) == ("no_logprobs", "deeper")
        assert "ask_logprobs(llm, gate=gate) in the place of each of its LLMs" in decision.detail

    @pytest.mark.parametrize("asks", [{}, {"logprobs": True, "top_logprobs": 20}], ids=["asked", "asks by itself"])
    def test_an_llm_in_code_of_the_users_own_is_judged_where_it_asks(self, gated, gate, engines, asks):
        llm = engines.llm(**asks) if asks else ask_logprobs(engines.llm(), gate=gate)

        class Hidden(CustomQueryEngine):
            def custom_query(self, query_str):
                return str(llm.complete(query_str))

        assert decision_in(gated(engine=Hidden()).query(SURE)).accepted

    def test_a_gate_that_raises_does_so(self, gated):
        with pytest.raises(GateError, match="another"):
            gated(SURE, cheap="another", gate=make_gate(on_missing="raise")).query("What?")

    def test_embedding_the_query_is_no_call_of_a_model(self, gated, gate, engines):
        index = VectorStoreIndex.from_documents([Document(text=SURE)], embed_model=MockEmbedding(embed_dim=4))
        decision = decision_in(
            gated(engine=index.as_query_engine(llm=ask_logprobs(engines.llm(), gate=gate))).query("What?")
        )
        assert decision.draft_usage == ONE_CALL
        assert "model calls" not in decision.detail


class TestTheResponse:
    def test_keeps_its_metadata_and_its_sources(self, gated):
        response = gated(SURE, UNSURE).query("What?")
        assert set(response.metadata) == {"n0", "n1", "tje"}
        assert [node.node_id for node in response.source_nodes] == ["n0", "n1"]

    @pytest.mark.parametrize("metadata", [None, {"mine": 1}])
    def test_what_an_engine_gives_out_again_and_again_is_left_as_it_is(self, gated, engines, metadata):
        kept = Response("cached", metadata=metadata)

        class Cache(CustomQueryEngine):
            def custom_query(self, query_str):
                return kept

        response = gated(engine=Cache(), gate=make_gate(on_missing="final")).query("What?")
        assert decision_in(response).answered_by == "draft"
        assert (response.response, kept.metadata) == ("cached", metadata)

    async def test_objects_stay_objects(self, gated, engines, provider, on_loop):
        gate = make_gate(OPENAI)
        engine = engines.engine(SURE, llm=openai(provider), gate=gate, output_cls=City)
        response = await queried(gated(engine=engine, gate=gate), "What?", on_loop=on_loop)
        assert isinstance(response, PydanticResponse)
        assert isinstance(response.response, City)
        assert (decision_in(response).answered_by, decision_in(response).draft_usage.calls) == ("draft", 1)

    async def test_a_structured_llm_stays_one(self, gated, engines, provider, on_loop):
        gate = make_gate(OPENAI)
        engine = engines.engine(SURE, llm=openai(provider).as_structured_llm(City), gate=gate)
        response = await queried(gated(engine=engine, gate=gate), "What?", on_loop=on_loop)
        assert isinstance(response, PydanticResponse)
        assert (decision_in(response).answered_by, decision_in(response).draft_usage.calls) == ("draft", 1)

    def test_an_object_made_by_a_call_without_logprobs_is_not_taken_for_sure(self, gated, gate, engines):
        engine = engines.engine(SURE, gate=gate, output_cls=City)
        decision = decision_in(gated(engine=engine, deeper=engines.deep(output_cls=City)).query("What?"))
        assert (decision.reason, decision.answered_by) == ("no_logprobs", "deeper")


class TestTheUsersEngine:
    def test_is_asked_itself(self, gated, engines):
        engine = engines.engine(SURE)
        asked = []

        class Counting(type(engine)):
            def _query(self, query_bundle):
                asked.append(self)
                return super()._query(query_bundle)

        counting = Counting(engine._retriever, engine._response_synthesizer)
        gated(engine=counting).query("What?")
        assert [each is counting for each in asked] == [True]

    @pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate"])
    @pytest.mark.parametrize("through", ["user's engine", "gated engine"])
    def test_its_prompts_can_be_changed_later(self, gated, gate, engines, provider, mode, through):
        engine = engines.engine(SURE, gate=gate, mode=mode)
        both = gated(engine=engine)
        both.query("What?")
        name = next(
            name for name in engine.get_prompts() if name.endswith((":text_qa_template", ":summary_template"))
        )
        changed = {name: PromptTemplate("In verse: {context_str} {query_str}")}
        if through == "gated engine":
            both.update_prompts({f"engine:{name}": template for name, template in changed.items()})
        else:
            engine.update_prompts(changed)
        del provider.requests[:]
        both.query("What?")
        assert provider.requests[-1]["messages"][-1]["content"].startswith("In verse:")

    def test_the_prompts_of_both_are_the_gated_engines(self, gated):
        assert {name.split(":")[0] for name in gated(SURE).get_prompts()} == {"engine", "deeper"}

    def test_its_postprocessors_can_be_changed_later(self, gated, engines):
        engine = engines.engine(SURE, UNSURE)
        both = gated(engine=engine)

        class FirstOnly(BaseModel):
            def postprocess_nodes(self, nodes, query_bundle):
                return nodes[:1]

        engine._node_postprocessors.append(FirstOnly())
        assert len(both.query("What?").source_nodes) == 1


class TestSynthesis:
    def test_retrieves_what_the_cheap_engine_finds(self, gated, engines):
        assert [node.text for node in gated(SURE).retrieve(QueryBundle("What?"))] == [SURE]
        assert engines.asked == []

    async def test_likewise_on_the_event_loop(self, gated):
        assert [node.text for node in await gated(SURE).aretrieve(QueryBundle("What?"))] == [SURE]

    async def test_an_answer_from_given_nodes_is_gated_as_well(self, gated, engines, on_loop):
        engine, bundle = gated(UNSURE), QueryBundle("What?")
        nodes = engine.retrieve(bundle)
        response = await engine.asynthesize(bundle, nodes) if on_loop else engine.synthesize(bundle, nodes)
        assert decision_in(response).answered_by == "deeper"
        assert response.source_nodes == nodes
        assert engines.asked == [CHEAP, DEEP]

    def test_a_deeper_engine_that_cannot_is_named(self, gated):
        class Own(CustomQueryEngine):
            def custom_query(self, query_str):
                return "deeper"

        engine = gated(UNSURE, deeper=Own())
        with pytest.raises(NotImplementedError, match="Own"):
            engine.synthesize(QueryBundle("What?"), engine.retrieve(QueryBundle("What?")))


class TestWhoIsTold:
    def test_instrumentation_of_each_decision_once(self, gated):
        with capture_entropy() as seen:
            gated(SURE).query("What?")
            gated(UNSURE).query("What?")
        assert [decision.route for decision in seen.decisions] == [Route.FINAL, Route.DEEPER]

    def test_the_callbacks_of_the_query_with_the_response(self, gated):
        told = LlamaDebugHandler(print_trace_on_end=False)
        response = gated(SURE, callback_manager=CallbackManager([told])).query("What?")
        start, end = told.get_event_pairs(CBEventType.QUERY)[0]
        assert start.payload[EventPayload.QUERY_STR] == "What?"
        assert end.payload[EventPayload.RESPONSE] is response

    def test_the_callbacks_of_the_cheap_engine_by_default(self, gated, engines):
        engine = engines.engine(SURE)
        assert gated(engine=engine).callback_manager is engine.callback_manager


class TestWhatIsRefused:
    def test_stopping_belongs_to_the_llm(self, gated):
        with pytest.raises(ValueError, match="EntropyGatedLLM"):
            gated(mode="abort")

    def test_a_deeper_llm_is_no_engine(self, gated, engines):
        with pytest.raises(TypeError, match="as_query_engine"):
            gated(deeper=engines.llm())

    def test_a_branch_that_asks_an_llm_again_is_the_llms(self, gated):
        with pytest.raises(TypeError, match="give the engine an EntropyGatedLLM"):
            gated(deeper=SequentialRefinement())

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"engine": "engine"}, TypeError),
            ({"deeper": "deeper"}, TypeError),
            ({"deeper": CustomQueryEngine}, TypeError),
            ({"deeper": lambda: "x"}, TypeError),
            ({"gate": "gate"}, TypeError),
            ({"aggregate": "best"}, ValueError),
            ({"mode": "stream"}, ValueError),
            ({"on_branch_error": "ignore"}, ValueError),
            ({"threshold": float("nan")}, ValueError),
        ],
    )
    def test_what_cannot_work(self, gated, options, error):
        with pytest.raises(error):
            gated(**options)
