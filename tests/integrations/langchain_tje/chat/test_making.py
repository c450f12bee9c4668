"""How a gated chat model is made, copied and configured, and what it takes over from its models."""

import copy
import json
import pickle
from collections.abc import Callable

import pytest
from langchain.chat_models import init_chat_model
from langchain_core.language_models import FakeListChatModel
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.runnables import ConfigurableField
from langchain_tje import EntropyGatedChatModel
from pydantic import ValidationError

from tests.integrations.langchain_tje.chat.conftest import CERTAIN, UNSURE, Chat, Gated
from tests.integrations.langchain_tje.chat.handlers import Runs
from tests.integrations.langchain_tje.chat.ways import Way, ainvoke, astream, invoke, stream
from tje_middleware import EntropyGate, TjeWarning


class CountingLimiter(BaseRateLimiter):
    def __init__(self) -> None:
        self.requests = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        self.requests += 1
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return self.acquire(blocking=blocking)


def test_what_langchain_notes_of_every_model_is_noted_of_it(gated: Gated, chat: Chat) -> None:
    assert (gated().metadata or {}).keys() == (chat().metadata or {}).keys()


def test_a_threshold_takes_the_place_of_the_profiles(gated: Gated) -> None:
    assert gated(threshold=3.0).invoke(UNSURE).response_metadata["tje"]["route"] == "final"


def test_a_copy_with_another_threshold_decides_by_it(gated: Gated) -> None:
    model = gated()
    model.invoke(UNSURE)
    other = model.model_copy(update={"threshold": 3.0})
    assert other.invoke(UNSURE).response_metadata["tje"]["route"] == "final"
    assert model.invoke(UNSURE).response_metadata["tje"]["route"] == "deeper"


def test_the_threshold_can_be_left_to_the_configuration(gated: Gated) -> None:
    model = gated().configurable_fields(threshold=ConfigurableField(id="tau"))
    assert model.invoke(UNSURE).response_metadata["tje"]["route"] == "deeper"
    configured = model.invoke(UNSURE, {"configurable": {"tau": 3.0}})
    assert configured.response_metadata["tje"]["route"] == "final"


def test_names_of_models_will_do(gate: EntropyGate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    model = EntropyGatedChatModel(draft="openai:gpt-4o-mini", deeper="openai:gpt-4o", gate=gate)
    assert (model.draft.model_name, model.deeper.model_name) == ("gpt-4o-mini", "gpt-4o")


def test_a_model_that_only_a_configuration_makes_one_is_refused(chat: Chat, gate: EntropyGate) -> None:
    with pytest.raises(TypeError, match=r"draft must be a chat model .* not _ConfigurableModel"):
        EntropyGatedChatModel(draft=init_chat_model(configurable_fields="any"), deeper=chat(), gate=gate)


def test_so_is_a_binding(chat: Chat, gate: EntropyGate) -> None:
    with pytest.raises(TypeError, match=r"deeper must be a chat model .* EntropyGateRunnable"):
        EntropyGatedChatModel(draft=chat(), deeper=chat().bind(stop=["x"]), gate=gate)


def test_a_setting_that_does_not_exist_is_refused(gated: Gated) -> None:
    with pytest.raises(ValidationError, match="treshold"):
        gated(treshold=3.0)


@pytest.mark.parametrize("way", [invoke, ainvoke, stream, astream])
async def test_rate_limiters_of_both_models_hold(way: Way, chat: Chat, gated: Gated) -> None:
    limiters = [CountingLimiter(), CountingLimiter()]
    model = gated(draft=chat(rate_limiter=limiters[0]), deeper=chat("deep", rate_limiter=limiters[1]))
    await way(model, CERTAIN)
    assert [limiter.requests for limiter in limiters] == [1, 0]
    await way(model, UNSURE)
    assert [limiter.requests for limiter in limiters] == [2, 1]


def test_callback_handlers_of_either_model_see_the_run_once(chat: Chat, gated: Gated) -> None:
    both, one = Runs(), Runs()
    gated(draft=chat(callbacks=[both]), deeper=chat("deep", callbacks=[both, one])).invoke(UNSURE)
    assert both.counted == one.counted == {"started": 1, "ended": 1}


def test_a_handler_is_told_why_the_answer_ended(gated: Gated) -> None:
    runs = Runs()
    gated(callbacks=[runs]).invoke(UNSURE)
    assert runs.infos[0]["finish_reason"] == "stop"


def test_it_passes_for_the_draft(chat: Chat, gated: Gated) -> None:
    model = gated(draft=chat(custom_get_token_ids=lambda text: [len(word) for word in text.split()]))
    assert model.model_name == "standin"
    assert model._get_ls_params()["ls_model_name"] == "standin"
    assert model.get_token_ids("one three") == [3, 5]
    assert model.get_num_tokens("one three") == 2


def test_what_identifies_it_is_plain_data(gated: Gated) -> None:
    said = gated()._identifying_params
    assert json.loads(json.dumps(said, default=str))["deeper"]["model_name"] == "deep"


def test_its_profile_is_what_both_can_do(chat: Chat, gated: Gated) -> None:
    profiles = {"max_input_tokens": 100, "tool_calling": True}, {"max_input_tokens": 50, "tool_calling": False}
    model = gated(draft=chat(profile=profiles[0]), deeper=chat("deep", profile=profiles[1]))
    assert model.profile == {"max_input_tokens": 50, "tool_calling": False}


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_it_is_copied_where_its_models_can_be(gate: EntropyGate, duplicate: Callable) -> None:
    fakes = [FakeListChatModel(responses=[text]) for text in ("draft", "deeper")]
    model = EntropyGatedChatModel(draft=fakes[0], deeper=fakes[1], gate=gate)
    for _ in range(2):
        with pytest.warns(TjeWarning, match="without logprobs|no logprobs"):
            assert duplicate(model).invoke("?").text == "deeper"
