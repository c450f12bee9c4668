from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

from tests.integrations.langchain_tje.standard.models import DRAFT, GatedChatOpenAI
from tests.integrations.langchain_tje.standard.provider import SuiteProvider

# A draft that cannot be judged is said once; which test comes first is not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore::tje_middleware.errors.TjeWarning")


@pytest.fixture(scope="class", autouse=True)
def _provider(request: pytest.FixtureRequest) -> Iterator[None]:
    with SuiteProvider() as server:
        request.cls.base_url = server.base_url
        yield


class Suite(ChatModelIntegrationTests):
    base_url: ClassVar[str]
    own_params: ClassVar[dict[str, Any]] = {}
    supports_json_mode = True
    supports_model_override = True
    model_override_value = "other"

    @property
    def chat_model_params(self) -> dict[str, Any]:
        own = {"stream_usage": True, **self.own_params}
        return {"base_url": self.base_url, "api_key": "none", "max_retries": 0, **own}


class TestChatOpenAI(Suite):
    own_params: ClassVar = {"model": DRAFT}

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI


class Gated(Suite):
    takes: ClassVar[tuple[str, str, bool]]

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return GatedChatOpenAI

    def test_it_is_this_way_that_the_suite_takes(self, model: BaseChatModel) -> None:
        decision = model.invoke("Hello").response_metadata["tje"]
        assert (decision["route"], decision["answered_by"], decision["aborted"]) == self.takes


class TestAccepted(Gated):
    own_params: ClassVar = {"mode": "hold"}
    takes: ClassVar = ("final", "draft", False)


class TestRejected(Gated):
    own_params: ClassVar = {"mode": "hold", "threshold": 0.0}
    takes: ClassVar = ("deeper", "deeper", False)


class TestAnnotated(Gated):
    own_params: ClassVar = {"mode": "annotate", "threshold": 0.0}
    takes: ClassVar = ("deeper", "draft", False)


class TestAborted(Gated):
    own_params: ClassVar = {"mode": "abort", "threshold": 0.0, "max_tokens": 100}
    takes: ClassVar = ("deeper", "deeper", True)
