import pytest
from llama_index.core import Settings
from llama_index_tje import EntropyGatedQueryEngine

from tests.standin import StandIn

from .engines import CHEAP, Engines, aread, read


@pytest.fixture(autouse=True)
def _no_llm_but_the_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that falls back on the LLM of LlamaIndex's settings fails."""
    monkeypatch.setattr(Settings, "_llm", None)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def engines(provider: StandIn) -> Engines:
    return Engines(provider)


@pytest.fixture
def gated(engines, gate):
    """Makes a gated engine; the documents say how sure its cheap LLM is."""

    def make(*texts, gate=gate, cheap=CHEAP, **options):
        engine = options.pop("engine", None) or engines.engine(*texts, model=cheap, gate=gate)
        return EntropyGatedQueryEngine(**{"engine": engine, "deeper": engines.deep(), "gate": gate, **options})

    return make


@pytest.fixture(params=[read, aread], ids=["query", "aquery"])
def ask(request):
    async def ask(engine, question="What?"):
        answer = request.param(engine, question)
        return answer if request.param is read else await answer

    return ask


@pytest.fixture(params=[False, True], ids=["query", "aquery"])
def on_loop(request):
    return request.param
