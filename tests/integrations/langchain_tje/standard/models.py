"""A gated pair with the constructor of ChatOpenAI, since the suites construct their models themselves."""

from langchain_openai import ChatOpenAI
from langchain_tje import EntropyGatedChatModel

from tests.integrations.langchain_tje.conftest import make_gate

# Gives logprobs of tool calls, too, so that they are judged and not just taken for unknown.
DRAFT, DEEPER = "draft-toollogprobs", "deep"
GATE = make_gate(DRAFT)


class GatedChatOpenAI(EntropyGatedChatModel):
    """What a provider's model takes goes to both."""

    def __init__(self, *, mode: str = "hold", threshold: float | None = None, **of_both: object) -> None:
        models = {role: ChatOpenAI(model=name, **of_both) for role, name in (("draft", DRAFT), ("deeper", DEEPER))}
        super().__init__(**models, gate=GATE, mode=mode, threshold=threshold)
