"""What there is to look at in a SQLite file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import Engine, text

from ....storage import Database
from ..finding import Check, Finding

_MOUNTS = Path("/proc/self/mountinfo")
# Where a folder's name has a space, a tab, a line break or a backslash.
_ESCAPED = re.compile(rb"\\([0-3][0-7]{2})")
# As the kernel names them; "fuse.sshfs" and the like by their first part and their last.
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "glusterfs", "sshfs", "beegfs"}


def on_sqlite(database: Database, engine: Engine) -> Iterator[tuple[str, Check]]:
    """The checks of a file, by name."""
    path = database.url.path
    yield "private file", partial(private, path)
    yield "write-ahead log", partial(written_ahead, engine)
    yield "file system", partial(on_this_machine, path)
    yield "integrity", partial(intact, engine)


def private(path: Path) -> Iterator[Finding]:
    """Whether the owner alone can read the file and those beside it."""
    if os.name != "posix":
        return
    files = [file for ending in ("", "-wal", "-shm") if (file := Path(f"{path}{ending}")).exists()]
    modes = {file: stat.S_IMODE(file.stat().st_mode) for file in files}
    open_to_others = [file for file, mode in modes.items() if mode & 0o077]
    if not open_to_others:
        yield Finding("private file", "ok", f"mode {modes[path]:o}, its owner alone")
        return
    listed = ", ".join(f"{file.name} has mode {modes[file]:o}" for file in open_to_others)
    remedy = f"chmod 600 {' '.join(map(str, open_to_others))}, unless that is wanted"
    yield Finding("private file", "warn", f"others may open it: {listed}", remedy)


def written_ahead(engine: Engine) -> Iterator[Finding]:
    """Whether readers can go on while somebody writes."""
    with engine.connect() as connection:
        mode = str(connection.execute(text("PRAGMA journal_mode")).scalar_one())
    if mode == "wal":
        yield Finding("write-ahead log", "ok", "on")
    else:
        remedy = "tje registry migrate switches it on; a file system that cannot do it is no place for a registry"
        words = f"off (journal mode {mode}): who writes makes everyone else wait"
        yield Finding("write-ahead log", "warn", words, remedy)


def on_this_machine(path: Path) -> Iterator[Finding]:
    """Whether the file lies on a disk of this machine, as far as the system tells."""
    kind = file_system_of(path)
    if kind is None:
        return
    if not _NETWORK & {kind, kind.split(".")[0], kind.split(".")[-1]}:
        yield Finding("file system", "ok", kind)
        return
    words = f"{kind} is reached over a network, where SQLite's locks and its log do not hold"
    remedy = "keep the file on a local disk, or use PostgreSQL for more than one machine"
    yield Finding("file system", "warn", words, remedy)


def intact(engine: Engine) -> Iterator[Finding]:
    """Whether SQLite finds its pages in order."""
    with engine.connect() as connection:
        said = [str(line) for line in connection.execute(text("PRAGMA quick_check(3)")).scalars()]
    if said == ["ok"]:
        yield Finding("integrity", "ok", "every page is in order")
    else:
        words = "; ".join(" ".join(line.split()) for line in said)
        remedy = "restore a copy, or save what can be read: tje registry export, then import into a new file"
        yield Finding("integrity", "fail", words, remedy)


def file_system_of(path: Path, mounts: Path | None = None) -> str | None:
    """The kind of file system that a path is on; None where the system does not tell."""
    try:
        lines = (mounts or _MOUNTS).read_bytes().splitlines()
    except OSError:  # no Linux
        return None
    kinds: dict[Path, str] = {}  # of two mounts on one place the later one is seen
    for line in lines:
        before, _, after = line.partition(b" - ")
        mounted = _ESCAPED.sub(lambda octal: bytes([int(octal[1], 8)]), before.split(b" ")[4])
        kinds[Path(os.fsdecode(mounted))] = os.fsdecode(after.split(b" ")[0])
    place_of_file = path.resolve()
    return next((kinds[place] for place in (place_of_file, *place_of_file.parents) if place in kinds), None)
