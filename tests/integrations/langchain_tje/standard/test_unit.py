from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.unit_tests import ChatModelUnitTests
from syrupy.assertion import SnapshotAssertion

from tests.integrations.langchain_tje.standard.models import DRAFT, GatedChatOpenAI


class Suite(ChatModelUnitTests):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"api_key": "none"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        env = {"OPENAI_API_KEY": "key", "OPENAI_ORG_ID": "org", "OPENAI_API_BASE": "http://base"}
        expected = {"openai_api_key": "key", "openai_organization": "org", "openai_api_base": "http://base"}
        return env, {}, expected


class TestChatOpenAI(Suite):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "model": DRAFT}

    @pytest.mark.xfail(reason="no snapshot of another package's class is kept here")
    def test_serdes(self, model: BaseChatModel, snapshot: SnapshotAssertion) -> None:
        super().test_serdes(model, snapshot)


class TestGated(Suite):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return GatedChatOpenAI
