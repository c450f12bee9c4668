from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tje_middleware.errors import LocalModelError
from tje_middleware.local import DEFAULT_WEIGHTS, LocalServer


@pytest.fixture(scope="module")
def weights() -> Path:
    return DEFAULT_WEIGHTS.locate()


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer() as running:
        yield running


def ask(server: LocalServer, question: str, *, max_tokens: int = 4) -> dict[str, Any]:
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": max_tokens,
        "logprobs": True,
        "top_logprobs": 20,
    }
    response = httpx.post(f"{server.base_url}/chat/completions", json=body, timeout=60, trust_env=False)
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


def small(model: Path | None = None, **settings: Any) -> LocalServer:
    return LocalServer(model, parallel=1, context=256, **settings)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A killed helper's child may wait as a zombie for an init process that reaps rarely: it runs no more.
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if gone(pid):
            return True
        time.sleep(0.02)
    return False


def test_a_chat_completion_carries_20_alternatives_for_each_token(server: LocalServer) -> None:
    answer = ask(server, "What is the capital of France?")
    positions = answer["choices"][0]["logprobs"]["content"]
    assert len(positions) == answer["usage"]["completion_tokens"]
    assert {len(position["top_logprobs"]) for position in positions} == {20}
    assert all(alternative["logprob"] <= 0 for p in positions for alternative in p["top_logprobs"])


def test_the_model_has_a_name_and_responses_carry_it(server: LocalServer) -> None:
    assert server.model == "smollm2-135m-instruct"
    assert ask(server, "Hello")["model"] == server.model


def test_a_file_is_served_under_its_stem(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "my model.gguf"
    path.symlink_to(weights)
    with small(path) as server:
        assert server.model == "my model"
        assert ask(server, "Hello")["model"] == "my model"


def test_eight_requests_at_once_are_all_answered(server: LocalServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: ask(server, f"What is {number} + 1?"), range(8)))
    assert all(answer["choices"][0]["logprobs"]["content"] for answer in answers)


def test_an_answer_is_the_same_when_asked_again(server: LocalServer) -> None:
    question = "Name a colour."
    ask(server, question)  # fills the cache of the prompt, which the next two share
    first, second = (ask(server, question)["choices"][0]["logprobs"] for _ in range(2))
    assert first == second


def test_two_servers_run_at_once(server: LocalServer) -> None:
    with small() as other:
        assert other.base_url != server.base_url
        assert ask(other, "Hello")["choices"]
        assert ask(server, "Hello")["choices"]


def test_it_listens_on_the_loopback_and_grants_no_origin(server: LocalServer) -> None:
    assert server.base_url.startswith("http://127.0.0.1:")
    page = httpx.get(f"{server.base_url}/models", headers={"Origin": "http://page.invalid"}, trust_env=False)
    assert not page.headers.get("access-control-allow-origin")


def test_the_process_is_gone_after_close_and_closing_twice_is_closing_once() -> None:
    server = small()
    server.start()
    pid = server.pid
    server.start()
    assert server.alive
    assert server.pid == pid
    server.close()
    server.close()
    assert not server.alive
    assert pid is not None
    with pytest.raises(ProcessLookupError):  # not even a zombie
        os.kill(pid, 0)


def test_a_closed_server_starts_again() -> None:
    server = small()
    with server:
        pass
    with server:
        assert ask(server, "Hello")["choices"]


def test_an_exception_in_the_block_ends_the_process() -> None:
    with pytest.raises(KeyError), small() as server:
        pid = server.pid
        raise KeyError
    assert pid is not None
    assert gone(pid)


def test_a_process_that_dies_is_noticed() -> None:
    with small() as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(LocalModelError, match=f"ended by itself by signal {signal.SIGKILL.value}"):
            server.wait()
        assert not server.alive


@pytest.mark.parametrize("ending", ["os.kill(os.getpid(), signal.SIGKILL)", "raise SystemExit", "1 / 0"])
def test_the_process_ends_with_its_parent(ending: str) -> None:
    script = (
        "import os, signal\n"
        "from tje_middleware.local import LocalServer\n"
        "server = LocalServer(parallel=1, context=256)\n"
        "server.start()\n"
        f"print(server.pid, flush=True)\n{ending}\n"
    )
    helper = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert gone_within(int(helper.stdout), seconds=5)


def test_a_parent_killed_while_the_model_loads_leaves_no_process() -> None:
    script = (
        "import os, sys, signal, time\n"
        "from tje_middleware.local.child import Child\n"
        "from tje_middleware.local import LocalServer, resolve_weights\n"
        "child = Child(LocalServer()._command(resolve_weights(), 'name'))\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    helper = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert gone_within(int(helper.stdout), seconds=5)


def test_ctrl_c_in_wait_closes_the_server() -> None:
    script = (
        # Shells have what they start in the background ignore it.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tje_middleware.local import LocalServer\n"
        "server = LocalServer(parallel=1, context=256)\n"
        "server.start()\n"
        "print(server.pid, flush=True)\n"
        "server.wait()\n"
        "print('closed', server.alive)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as helper:
        assert helper.stdout is not None
        pid = int(helper.stdout.readline())
        time.sleep(0.2)  # into wait()
        helper.send_signal(signal.SIGINT)
        assert helper.communicate(timeout=60)[0] == "closed False\n"
    assert gone(pid)


@pytest.mark.parametrize("size", [100, 2_000_000])
def test_a_truncated_file_is_refused_with_the_reason_of_llama_cpp(weights: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.gguf"
    with weights.open("rb") as whole:
        path.write_bytes(whole.read(size))
    with pytest.raises(LocalModelError, match=r"log ends with:\n(.|\n)*(failed to read|not within the file)"):
        small(path).start()


def test_a_taken_port_is_named_in_the_error(server: LocalServer) -> None:
    port = int(server.base_url.removesuffix("/v1").rpartition(":")[2])
    with pytest.raises(LocalModelError, match=f"couldn't bind .* port: {port}"):
        small(port=port).start()


def test_a_model_that_loads_too_slowly_is_given_up() -> None:
    server = small(startup_timeout=0.001)
    with pytest.raises(LocalModelError, match=r"did not load within 0\.001 s.*startup_timeout"):
        server.start()
    assert not server.alive


def test_a_server_that_is_not_started_says_so() -> None:
    with pytest.raises(LocalModelError, match=r"call start\(\)"):
        _ = LocalServer().base_url


@pytest.mark.parametrize("settings", [{"parallel": 0}, {"threads": 0}, {"context": 0}, {"port": 65536}])
def test_a_number_out_of_range_is_refused(settings: dict[str, int]) -> None:
    with pytest.raises(LocalModelError, match=next(iter(settings))):
        LocalServer(**settings)


def test_without_xllamacpp_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)  # as the import system marks what is not there
    with pytest.raises(LocalModelError, match=r'pip install "tje-middleware\[local\]"'):
        small().start()


def test_importing_the_package_loads_neither_engine_nor_clients() -> None:
    heavy = "{'xllamacpp', 'huggingface_hub', 'httpx'}"
    script = f"import sys, tje_middleware.local; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_long_log_neither_blocks_the_child_nor_grows() -> None:
    from tje_middleware.local.child import Child  # noqa: PLC0415

    script = "import sys; sys.stderr.write('x' * 99 + '\\n' + 'y\\n' * 100_000); print('ready')"
    child = Child([sys.executable, "-c", script])
    assert child.first_line(timeout=20) == "ready\n"
    assert child.wait() == 0
    assert set(child.log()) == {"y"}
    child.stop()
