"""Weights from the hub: a file of a repository, downloaded once and then served from the hub's own cache."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

from ..errors import LocalModelError

_PREFERRED = "*q4_k_m*"  # the usual balance of size and quality


def download(repo: str, filename: str | None) -> Path:
    """Fetch a GGUF file of a hub repository, or find it in the hub's cache.

    Args:
        repo: ``org/repo``.
        filename: A file of the repository; None for its only GGUF file, or its only Q4_K_M.

    Returns:
        The path of the file in the hub's cache.

    Raises:
        LocalModelError: The hub client is not installed; the hub cannot be reached and the cache does not hold the
            file; there is no such repository or file; or several files would do.
    """
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
