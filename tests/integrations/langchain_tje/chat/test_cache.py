"""What a gated chat model caches: an answer with its decision."""

from collections.abc import Callable, Iterator

import pytest
from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_openai import ChatOpenAI

from tests.integrations.langchain_tje.chat.conftest import CERTAIN, UNSURE, Chat, Gated, models_asked
from tests.integrations.langchain_tje.conftest import make_gate
from tests.standin import StandIn
from tje_middleware import CalibrationRecord, EntropyGate, ProfileKey, TjeWarning, calibrate


@pytest.fixture
def cache() -> Iterator[BaseCache]:
    cache = InMemoryCache()
    set_llm_cache(cache)
    yield cache
    set_llm_cache(None)


def lenient_gate() -> EntropyGate:
    """Of the same key as the others, calibrated to a higher threshold."""
    values = [(2.75 + 0.5 * (i % 2), True) for i in range(20)] + [(4.0 + 0.1 * (i % 2), False) for i in range(20)]
    records = [CalibrationRecord(correct=right, signals={"mean_entropy": bits}) for bits, right in values]
    return EntropyGate(calibrate(records, key=ProfileKey(model="standin", task="t", temperature=0.0)))


class TestCache:
    @pytest.mark.parametrize("question", [CERTAIN, UNSURE])
    async def test_an_answer_is_cached_with_its_decision(
        self, gated: Gated, provider: StandIn, cache: BaseCache, question: str
    ) -> None:
        model = gated()
        first = model.invoke(question)
        asked = len(provider.requests)
        for again in (model.invoke(question), await model.ainvoke(question), gated().invoke(question)):
            assert again.text == first.text
            assert again.response_metadata["tje"] == first.response_metadata["tje"]
        assert len(provider.requests) == asked

    @pytest.mark.parametrize(
        "settings",
        [
            {"threshold": 3.0},
            {"threshold": 0.1},
            {"mode": "annotate"},
            {"mode": "abort"},
            {"on_branch_error": "raise"},
            {"deeper": "other"},
            {"draft": "other"},
            {"gate": make_gate("other")},
            {"gate": make_gate(on_missing="final")},
            {"gate": make_gate(min_tokens=100)},
            {"gate": make_gate(method="bayes")},
            {"gate": lenient_gate()},
        ],
    )
    @pytest.mark.filterwarnings("ignore::tje_middleware.errors.TjeWarning")
    def test_models_that_may_decide_otherwise_share_no_entry(
        self, gated: Gated, provider: StandIn, cache: BaseCache, settings: dict
    ) -> None:
        gated().invoke(UNSURE)
        asked = len(provider.requests)
        gated(**settings).invoke(UNSURE)
        assert len(provider.requests) > asked

    def test_neither_do_answers_with_logprobs_and_without(
        self, gated: Gated, provider: StandIn, cache: BaseCache
    ) -> None:
        gated().invoke(CERTAIN)
        assert gated().invoke(CERTAIN, logprobs=True).response_metadata["logprobs"]

    def test_neither_do_a_gated_model_and_its_draft(self, gated: Gated, chat: Chat, cache: BaseCache) -> None:
        chat(stream_usage=True).invoke(CERTAIN)
        assert "tje" in gated().invoke(CERTAIN).response_metadata

    async def test_a_draft_in_the_place_of_a_failed_answer_is_not_kept(
        self, gated: Gated, provider: StandIn, cache: BaseCache
    ) -> None:
        model = gated(deeper="flaky-2")
        with pytest.warns(TjeWarning, match="the deeper branch failed"):
            for answer in (model.invoke(UNSURE), await model.ainvoke(UNSURE)):
                assert answer.response_metadata["tje"]["reason"] == "branch_failed"
        assert model.invoke(UNSURE).response_metadata["tje"]["answered_by"] == "deeper"
        asked = len(provider.requests)
        assert model.invoke(UNSURE).response_metadata["tje"]["answered_by"] == "deeper"
        assert len(provider.requests) == asked

    def test_a_cache_of_its_own_is_used(self, gated: Gated, provider: StandIn) -> None:
        model = gated(cache=InMemoryCache())
        for _ in range(3):
            model.invoke(CERTAIN)
        assert models_asked(provider) == ["standin"]

    def test_a_draft_that_is_not_to_be_cached_is_not(
        self, gated: Gated, chat: Callable[..., ChatOpenAI], provider: StandIn, cache: BaseCache
    ) -> None:
        model = gated(draft=chat(cache=False))
        for _ in range(2):
            model.invoke(CERTAIN)
        assert models_asked(provider) == ["standin", "standin"]
