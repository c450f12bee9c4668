"""``tje calibrate``, ``tje evaluate`` and ``tje report``: from a file of labelled records."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group

from ..errors import CalibrationError
from .console import Json, explained, print_result, progress, say, with_options
from .request import Request, known_method, with_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..calibration.key import ProfileKey
    from ..calibration.profile import CalibrationProfile
    from ..evaluation import Evaluation
    from ..evaluation.sample_size import LearningCurve
    from ..records.columns import Observations
    from ..records.record import CalibrationRecord
    from ..registry import CalibrationRegistry

Records = Annotated[
    str,
    typer.Argument(metavar="FILE", help="Labelled records: JSON Lines, also .gz, or Parquet; - for standard input."),
]


@dataclass(frozen=True)
class ReplayOptions:
    """How recorded outcomes are replayed."""

    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Parts of the records, each decided by a profile of the others.", show_default="5"),
    ] = None
    margin: Annotated[
        float, typer.Option(min=0, max=1, help="Accuracy that a policy may lose and still count as not worse.")
    ] = 0.02
    test: Annotated[
        str | None, typer.Option(metavar="FILE", help="Decide the records of this file instead of splitting.")
    ] = None
    deeper_includes_draft: Annotated[
        bool,
        typer.Option(
            "--deeper-includes-draft",
            help="Always going deeper costs the draft too, as a refinement does; else the deeper "
            "branch stands alone.",
        ),
    ] = False


with_replay = with_options(ReplayOptions, "how")


@with_request
def calibrate(
    file: Records,
    request: Request,
    registry: Annotated[
        str | None, typer.Option(metavar="URL", help="Store the profile there, e.g. sqlite:///tje.db.")
    ] = None,
    candidate: Annotated[
        bool, typer.Option("--candidate", help="Leave the active version as it is: this one waits to be promoted.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Calibrate from labelled records: which signal, which thresholds, and how sure that is."""
    if registry is not None and not request.is_named:
        raise typer.BadParameter("a profile is stored under its model and task: give --model and --task")
    if candidate and registry is None:
        raise typer.BadParameter("a candidate is one of a registry: give --registry")
    with explained("parquet"):
        from ..calibration.calibration import calibrate_observations  # noqa: PLC0415 (--help must not wait for scipy)
        from ..evaluation.table import profile_table  # noqa: PLC0415

        key, settings = request.key, request.settings
        where = ""
        with _registry(registry) as store:
            profile = calibrate_observations(_observations(file, key), key=key, settings=settings)
            if store is not None:
                kept = _better_active(store, profile)
                profile = store.get(key, version=store.put(profile, candidate=candidate or kept is not None))
                where = _where(store, profile, request, waits=candidate, kept=kept)
        print_result(profile_table(profile), profile.model_dump(mode="json"), as_json=as_json)
        say(where or "Not stored: --registry URL --model NAME --task NAME keeps it.")


@with_replay
@with_request
def evaluate(
    file: Records,
    request: Request,
    how: ReplayOptions,
    fewer_labels: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD",
            callback=known_method,
            help="Show, too, how this method's figures spread with fewer labels.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Replay recorded outcomes: what every policy would have cost and got right, on records it was not made from."""
    with explained("parquet"):
        from ..evaluation.table import as_dict, evaluation_table, learning_table  # noqa: PLC0415

        observations = _observations(file, request.key)
        evaluation, curve = _replayed(observations, request, how, learns=fewer_labels is not None)
        shown, plain = evaluation_table(evaluation), as_dict(evaluation)
        if curve is not None and fewer_labels is not None:
            shown = Group(shown, "", learning_table(curve, fewer_labels))
            plain["fewer_labels"] = [asdict(size) for size in curve.sizes]
        print_result(shown, plain, as_json=as_json)


@with_replay
@with_request
def report(
    file: Records,
    request: Request,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the page goes.")] = Path("tje-report.html"),
    *,
    how: ReplayOptions,
    drafts: Annotated[int, typer.Option(min=0, help="Drafts whose tokens are shown, where the file has texts.")] = 6,
) -> None:
    """Write one HTML page that shows what a calibration rests on; it needs no network to be read."""
    with explained("report,parquet"):
        from ..evaluation.report import DraftText, write_report  # noqa: PLC0415

        if not output.resolve().parent.is_dir() or output.is_dir():
            raise typer.BadParameter(f"{output} cannot be written: name a file in a folder that exists")
        kept: list[CalibrationRecord] = []
        observations = _observations(file, request.key, keep=drafts, kept=kept)
        evaluation, curve = _replayed(observations, request, how, learns=True)
        texts = [DraftText.of_record(record, evaluation.profile) for record in kept]
        title = None if request.is_named else f"Records of {Path(file).name}"
        write_report(output, evaluation, observations, curve=curve, drafts=texts, title=title)
        typer.echo(output)


@contextmanager
def _registry(url: str | None) -> Iterator[CalibrationRegistry | None]:
    """The registry, where one is named: what is wrong with it is better known before the work is done."""
    if url is None:
        yield None
        return
    from ..registry import CalibrationRegistry  # noqa: PLC0415

    with CalibrationRegistry(url) as store:
        store.list()
        yield store


def _better_active(store: CalibrationRegistry, profile: CalibrationProfile) -> CalibrationProfile | None:
    """The active profile, where gates can use that and could not use this one."""
    from ..errors import ProfileNotFound  # noqa: PLC0415

    if profile.verdict != "unusable":
        return None
    try:
        active = store.get(profile.key)
    except ProfileNotFound:
        return None
    return active if active.key == profile.key and active.verdict != "unusable" else None


def _where(
    store: CalibrationRegistry,
    profile: CalibrationProfile,
    request: Request,
    *,
    waits: bool,
    kept: CalibrationProfile | None,
) -> str:
    """Where a profile was stored, whether gates use it now, and how they open it."""
    promote = shlex.join(["tje", "registry", "promote", request.model, request.task, str(profile.version)])
    state = f"a candidate; {promote} makes it active" if waits else "active"
    if kept is not None:
        state = (
            f"a candidate, as it is unusable and version {kept.version}, which is active, is {kept.verdict}; "
            f"{promote} makes it active all the same"
        )
    stored = f"The profile is version {profile.version} of {profile.key} in {store.url}: {state}."
    return f"{stored}\nA gate opens it by {request.opening}"


def _replayed(
    observations: Observations, request: Request, how: ReplayOptions, *, learns: bool
) -> tuple[Evaluation, LearningCurve | None]:
    """What every policy would have cost and, where that is wanted, how figures spread with fewer labels."""
    from ..evaluation import replay  # noqa: PLC0415
    from ..evaluation.sample_size import learning_curve  # noqa: PLC0415

    tested = None if how.test is None else _observations(how.test, request.key)
    if how.folds is not None and tested is not None:
        raise typer.BadParameter("with --test nothing is split: --folds has no meaning there")
    asked: dict[str, Any] = {
        "key": request.key,
        "settings": request.settings,
        "deeper_includes_draft": how.deeper_includes_draft,
    }
    with progress() as show:
        told = partial(show, "replaying")
        evaluation = replay(
            observations, **asked, folds=how.folds or 5, margin=how.margin, test=tested, progress=told
        )
        curve = learning_curve(observations, **asked, progress=partial(show, "fewer labels")) if learns else None
    return evaluation, curve


def _observations(
    file: str, key: ProfileKey, *, keep: int = 0, kept: list[CalibrationRecord] | None = None
) -> Observations:
    """All records of a file as columns; nothing is done with them unless every line can be read."""
    from ..records import read_records  # noqa: PLC0415
    from ..records.columns import Observations  # noqa: PLC0415

    with progress(of_bytes=True) as show:
        records = read_records(file, progress=lambda done, total: show("reading", done, total))
        if kept is not None:
            records = _keeping(records, keep, kept)
        try:
            return Observations.of(records, key.signal, key.top_k)
        except CalibrationError as error:
            if str(error).startswith(file):
                raise
            raise CalibrationError(f"{file}: {error} (records are counted from 0)") from error


def _keeping(
    records: Iterable[CalibrationRecord], count: int, kept: list[CalibrationRecord]
) -> Iterator[CalibrationRecord]:
    """Pass records on, and keep the first few right and wrong ones that have texts."""
    room = {True: (count + 1) // 2, False: count // 2}
    for record in records:
        if room[record.correct] and record.sequence is not None and record.sequence.tokens is not None:
            room[record.correct] -= 1
            kept.append(record)
        yield record
