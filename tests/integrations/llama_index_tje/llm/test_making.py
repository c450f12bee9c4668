"""What a gated LLM is to the rest of LlamaIndex, and what it shows of itself."""

import json
import pickle

import pytest
from llama_index.core import Settings, SummaryIndex
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import LLM, MockLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import Document
from llama_index_tje import EntropyGatedLLM, ask_logprobs

from tests.gates import make_gate
from tests.integrations.llama_index_tje.conftest import Make
from tests.integrations.llama_index_tje.llm.conftest import KEY
from tests.standin import StandIn
from tje_middleware import EntropyGate


@pytest.fixture
def llm(like: Make, gate: EntropyGate) -> EntropyGatedLLM:
    return EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate, deeper_settings={"extra_headers": {"k": KEY}})


@pytest.mark.parametrize(
    "shown",
    [
        repr,
        str,
        lambda llm: json.dumps(llm.to_dict()),
        lambda llm: llm.to_json(),
        lambda llm: str(llm.model_dump()),
        lambda llm: llm.model_dump_json(),
        lambda llm: str(llm.model_copy()),
        lambda llm: repr([llm]),
    ],
)
def test_shows_no_secret(llm: EntropyGatedLLM, shown: object) -> None:
    assert KEY not in shown(llm)


def test_names_its_llms(llm: EntropyGatedLLM) -> None:
    assert "llm=OpenAILike('standin'), deeper=OpenAILike('deep')" in repr(llm)


def test_says_of_itself_what_both_llms_can_do(like: Make, gate: EntropyGate) -> None:
    deeper = like("deep", context_window=1_000, is_function_calling_model=False)
    metadata = EntropyGatedLLM(llm=like(context_window=2_000), deeper=deeper, gate=gate).metadata
    assert (metadata.model_name, metadata.context_window) == ("standin", 1_000)
    assert (metadata.is_chat_model, metadata.is_function_calling_model) == (True, False)


def test_has_the_callback_manager_of_the_llm_and_passes_on_another(llm: EntropyGatedLLM) -> None:
    assert llm.callback_manager is llm.llm.callback_manager
    manager = CallbackManager([TokenCountingHandler(tokenizer=str.split)])
    llm.callback_manager = manager
    assert llm.llm.callback_manager is llm.deeper.callback_manager is manager


def test_callbacks_hear_of_each_llm_once(llm: EntropyGatedLLM) -> None:
    counter = TokenCountingHandler(tokenizer=str.split)
    llm.callback_manager = CallbackManager([counter])
    llm.complete("bits=2.5 tokens=4")
    assert len(counter.llm_token_counts) == 2


def test_a_query_engine_may_put_its_own_callback_manager_in(llm: EntropyGatedLLM) -> None:
    engine = SummaryIndex.from_documents([Document(text="bits=0.5")]).as_query_engine(llm=llm)
    assert str(engine.query("who?")).startswith("w0")


def test_stands_in_settings(llm: EntropyGatedLLM) -> None:
    before = Settings._llm
    try:
        Settings.llm = llm
        assert Settings.llm is llm
    finally:
        Settings._llm = before


def test_prompts_are_filled_in_as_by_the_llm_within(like: Make, gate: EntropyGate, provider: StandIn) -> None:
    llm = EntropyGatedLLM(llm=like(system_prompt="Be brief."), deeper=like("deep"), gate=gate)
    llm.predict(PromptTemplate("{what} bits=0.5"), what="who?")
    assert [message["content"] for message in provider.requests[0]["messages"]] == ["Be brief.", "who? bits=0.5"]


def test_the_llms_are_left_as_they_were(like: Make, gate: EntropyGate) -> None:
    inner = like(logprobs=True, top_logprobs=5, additional_kwargs={"seed": 1})
    before = inner.model_dump()
    EntropyGatedLLM(llm=inner, deeper=like("deep"), gate=gate).complete("bits=0.5")
    assert inner.model_dump() == before


def test_there_must_be_something_to_go_deeper_with(like: Make, gate: EntropyGate) -> None:
    with pytest.raises(ValueError, match="there is nothing to go deeper with"):
        EntropyGatedLLM(llm=like(), gate=gate)


@pytest.mark.parametrize("wrong", [{"mode": "fast"}, {"on_branch_error": "ignore"}, {"tool_calls": "no"}])
def test_options_that_do_not_exist_are_refused(like: Make, gate: EntropyGate, wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EntropyGatedLLM(**{"llm": like(), "deeper": like("deep"), "gate": gate, **wrong})


def test_a_copy_with_another_llm_asks_that_one(llm: EntropyGatedLLM, like: Make, provider: StandIn) -> None:
    llm.complete("bits=0.5")
    with pytest.warns(UserWarning, match="written by .other."):
        llm.model_copy(update={"llm": like("other")}).complete("bits=0.5")
    llm.complete("bits=0.5")
    assert [request["model"] for request in provider.requests] == ["standin", "other", "deep", "standin"]


def test_an_llm_without_tools_says_so(gate: EntropyGate) -> None:
    llm = EntropyGatedLLM(llm=MockLLM(), deeper=MockLLM(), gate=gate)
    assert not llm.metadata.is_function_calling_model
    with pytest.raises(ValueError, match="MockLLM calls no tools"):
        llm.chat_with_tools([], "who?")


def test_an_argument_too_many_of_a_method_with_tools_is_refused(llm: EntropyGatedLLM) -> None:
    with pytest.raises(TypeError, match="at most 5 arguments after the tools"):
        llm.chat_with_tools([], "who?", [], False, False, False, "more")
    with pytest.raises(TypeError, match="no 'user_msg' twice"):
        llm.chat_with_tools([], "who?", user_msg="who?")


def test_goes_to_another_process(llm: EntropyGatedLLM) -> None:
    there: LLM = pickle.loads(pickle.dumps(llm))
    assert str(there.complete("bits=0.5")).startswith("w0")


@pytest.mark.parametrize("wrong", ["llm", "deeper", "gate"])
def test_what_is_given_in_the_place_of_something_else_is_refused_without_showing_it(
    like: Make, gate: EntropyGate, wrong: str
) -> None:
    engine = SummaryIndex.from_documents([]).as_query_engine(llm=like())
    misplaced = like() if wrong == "gate" else engine
    with pytest.raises(TypeError, match=f"{wrong} must be a.* not an? ") as refused:
        EntropyGatedLLM(**{"llm": like(), "deeper": like("deep"), "gate": gate, wrong: misplaced})
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("unknown", ["on_missing", "method", "strict", "toolcalls", "system_prompt", "draft"])
def test_an_unknown_argument_is_refused(like: Make, gate: EntropyGate, unknown: str) -> None:
    with pytest.raises(TypeError, match=unknown):
        EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate, **{unknown: "x"})


def test_caches_tell_gated_llms_apart(like: Make, gate: EntropyGate) -> None:
    def shown(**changed: object) -> dict:
        return EntropyGatedLLM(**{"llm": like(), "deeper": like("deep"), "gate": gate, **changed}).to_dict()

    assert shown() == shown()
    assert shown()["answers_by"]["llm"] == "OpenAILike('standin')"
    others = [{"llm": like("other")}, {"deeper": like("deep", temperature=0.5)}, {"gate": make_gate(strict=True)}]
    others += [{"threshold": 2.0}, {"instruction": "Think."}, {"deeper_settings": {"seed": 1}}]
    assert [other for other in others if shown(**other) == shown()] == []


def test_whoever_was_given_the_llm_itself_finds_its_attributes(llm: EntropyGatedLLM) -> None:
    assert (llm.model, llm.temperature) == ("standin", 0.0)
    assert not hasattr(llm, "no_such_thing")


def test_caches_tell_asked_llms_apart(like: Make) -> None:
    assert ask_logprobs(like()).to_dict() == ask_logprobs(like()).to_dict()
    assert ask_logprobs(like()).to_dict() != ask_logprobs(like("other")).to_dict()


def test_cannot_be_made_of_its_serialised_form_and_says_so(llm: EntropyGatedLLM) -> None:
    with pytest.raises(TypeError, match="has neither its LLMs nor its gate"):
        EntropyGatedLLM.from_dict(llm.to_dict())
