import pytest
from llama_index.core import Settings

from tests.samples import profile
from tests.standin import StandIn
from tje_middleware import EntropyGate, ProfileKey

from .engines import CHEAP, Engines


@pytest.fixture(autouse=True)
def _no_llm_but_the_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that falls back on the LLM of LlamaIndex's settings fails."""
    monkeypatch.setattr(Settings, "_llm", None)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def engines(provider: StandIn) -> Engines:
    return Engines(provider)


@pytest.fixture
def gate() -> EntropyGate:
    return make_gate()


def make_gate(model: str = CHEAP, **policies: object) -> EntropyGate:
    """A gate with its threshold at exactly 1 bit a token."""
    key = ProfileKey(model=model, task="t", temperature=0.0)
    return EntropyGate(profile(threshold=1.0, key=key), **policies)
