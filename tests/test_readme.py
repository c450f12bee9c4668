"""What the README shows works as it is shown."""

import asyncio
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_openai import ChatOpenAI
from langchain_tje import think_just_enough
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.llms import CompletionResponse
from llama_index.core.workflow import Workflow
from typer.testing import CliRunner

from tests.samples import draft
from tests.standin import StandIn
from tje_middleware import CalibrationRecord
from tje_middleware.cli import app

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_python_of_the_readme_runs_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    prompt = ChatPromptTemplate.from_messages([("human", "bits={bits}")])
    with StandIn() as provider:
        chat = ChatOpenAI(base_url=provider.base_url, model="gpt-4o", api_key="none", temperature=0)
        examples = [SimpleNamespace(input={"bits": 0.5 + i / 40 + 2 * (i % 2), "question": ""}) for i in range(20)]
        names = {
            "chain": prompt | chat,
            "deep_chain": prompt | chat,
            "examples": examples,
            "grade": lambda example, _: example.input["bits"] < 2,
        }
        calibrating, gating, reading, decorating, agent, graph, llm, engine, workflow, hosts, feedback, by_hand = (
            block.replace("...", "bits=0.5") for block in BLOCKS
        )
        exec(calibrating, names)
        exec(gating, names)
        answer = names["chain"].invoke({"bits": 0.5})
        names |= {"prompt": PromptTemplate.from_template("{question}"), "model": chat, "vision_model": chat}
        names |= {"big_model": chat.model_copy(update={"model_name": "big"}), "tools": []}
        exec(decorating, names)
        exec(agent, names)
        exec(graph, names)
        monkeypatch.setenv("OPENAI_API_BASE", provider.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        names["examples"] = [
            SimpleNamespace(prompt=f"bits={each.input['bits']}", input=each.input) for each in examples
        ]
        exec(llm, names)
        index = VectorStoreIndex.from_documents([Document(text="Nothing.")], embed_model=MockEmbedding(4))
        exec(engine, names | {"index": index})
        exec(workflow, names)
        routed = [asyncio.run(_run(names["Answer"](), f"bits={bits}")) for bits in (0.5, 3.0)]
        monkeypatch.setenv("TJE_REGISTRY", "sqlite:///tje.db")
        exec(hosts, names)
        asked = PromptTemplate.from_template("{question}") | chat
        names["chain"] = think_just_enough(asked, deeper=asked, gate=names["gate"])
        exec(feedback, names)
        assert names["ledger"].flush()
        (day,) = names["ledger"].summary()
        exec(by_hand, names | {"draft": draft(4.0)})
        assert names["ledger"].flush()
        (with_one_by_hand,) = names["ledger"].summary()
        graphs = [names["graph"].invoke({"messages": f"bits={bits}"})["messages"][-1] for bits in (0.5, 3.0)]
    assert [result.additional_kwargs["tje"]["answered_by"] for result in routed] == ["draft", "deeper"]
    assert reading.startswith("chain.invoke")
    assert (day.decisions, day.accepted, day.graded, day.wrong) == (1, 1, 1, 0)
    assert (with_one_by_hand.decisions, with_one_by_hand.deeper_output_tokens) == (2, 640)
    assert [decision["route"] for decision in names["state"]["tje"]] == ["final"]
    assert [message.response_metadata["tje"]["answered_by"] for message in graphs] == ["draft", "deeper"]
    printed = capsys.readouterr().out
    assert printed.startswith("usable mean_entropy separates right from wrong drafts")
    assert printed.endswith("final 4\nfinal 1 14\n")
    assert answer.response_metadata["tje"]["route"] == "final"
    assert (tmp_path / "tje.db").exists()


async def _run(workflow: Workflow, question: str) -> CompletionResponse:
    return await workflow.run(question=question)


def test_every_file_that_the_readme_links_to_exists() -> None:
    root = Path(__file__).parents[1]
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (root / link).exists()] == []


def test_every_make_target_that_the_readme_names_exists() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z]+)", README)) - {"sure"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_record_that_the_readme_shows_is_one() -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    record = CalibrationRecord.model_validate_json(shown)
    assert record.sequence is not None
    assert (record.sequence.top_k, record.deeper_tokens) == (2, 640)


def test_every_command_that_the_readme_names_exists() -> None:
    for command in set(re.findall(r"^\$ tje ([a-z]+)", README, re.MULTILINE)):
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command
