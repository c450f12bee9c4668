"""Files that mean harm are refused with the line and the reason, and nothing of them is stored."""

from __future__ import annotations

import hashlib
import io
import json

import pytest

from tests.samples import KEY, profile
from tje_middleware import CalibrationRegistry, ProfileKey
from tje_middleware.errors import RegistryError, UnreadableExport
from tje_middleware.registry import transfer_format


@pytest.fixture
def registry(tmp_path):
    """On a file: what is refused before a database is asked for anything need not be tried on both."""
    with CalibrationRegistry(f"sqlite:///{tmp_path}/tje.db") as opened:
        yield opened


@pytest.fixture
def on_either(url):
    with CalibrationRegistry(url) as opened:
        yield opened


@pytest.fixture(scope="module")
def version_line(tmp_path_factory):
    """A line that is good."""
    with CalibrationRegistry(f"sqlite:///{tmp_path_factory.mktemp('good')}/tje.db") as registry:
        registry.put(profile(0.1), by="ana")
        stream = io.BytesIO()
        registry.export_to(stream)
    return stream.getvalue().splitlines()[1]


def header(profiles=1, aliases=0, promotions=0, **changed):
    return json.dumps(
        {"tje_export": 1, "profiles": profiles, "promotions": promotions, "aliases": aliases, "library_version": "1"}
        | changed
    ).encode()


def sealed(*lines):
    """A file of these lines with the checksum that they should have: whoever means harm can count, too."""
    body = b"".join(line + b"\n" for line in lines)
    return body + b'{"sha256":"%s"}\n' % hashlib.sha256(body).hexdigest().encode()


def changed(line, **fields):
    return json.dumps(json.loads(line) | fields).encode()


def with_profile(line, **fields):
    return changed(line, profile=json.loads(line)["profile"] | fields)


def refused(registry, file, said):
    with pytest.raises(UnreadableExport, match=said) as error:
        registry.import_from(io.BytesIO(file))
    assert "nothing was stored" in str(error.value)
    assert len(str(error.value)) < 600
    assert list(registry.list()) == list(registry.history(KEY)) == []
    assert registry.aliases() == {}


def test_what_they_are_made_from_is_accepted(on_either, version_line):
    assert on_either.import_from(io.BytesIO(sealed(header(), version_line))).stored == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"version": "1"}, "line 2: version: Input should be a valid integer"),
        ({"version": 1.5}, "line 2: version"),
        ({"version": 0}, "line 2: version"),
        ({"version": 2**31}, "line 2: version"),
        ({"version": True}, "line 2: version"),
        ({"version": 2}, "profile is of another key or version"),
        ({"is_active": 1}, "line 2: is_active"),
        ({"put_at": 0}, "line 2: put_at"),
        ({"put_at": "2026-01-01T00:00:00"}, "line 2: put_at: .* timezone"),
        ({"put_at": "0001-01-01T00:00:00+14:00"}, "line 2: put_at"),
        ({"put_at": "9999-12-31T23:59:59-14:00"}, "line 2: put_at"),
        ({"put_by": "a\0b"}, "line 2: put_by"),
        ({"put_by": "a\x1b[2Jb"}, "line 2: put_by: .* control character"),
        ({"source": "a\nb"}, "line 2: source: .* control character"),
        ({"records_fingerprint": "\x9b31m"}, "line 2: records_fingerprint: .* control character"),
        ({"\x1b[2J": True}, "line 2: {2}.2J: Extra"),
        ({"put_by": ["x"]}, "line 2: put_by"),
        ({"put_by": "x" * 2001}, "line 2: put_by"),
        ({"profile": None}, "line 2: profile"),
        ({"profile": []}, "line 2: profile"),
        ({"key": "m / t"}, "line 2: key"),
        ({"admin": True}, "line 2: admin: Extra inputs are not permitted"),
        ({"x" * 100_000: True}, r"line 2: x+\.\.\."),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_field_of_another_type(registry, version_line, fields, said):
    refused(registry, sealed(header(), changed(version_line, **fields)), said)


@pytest.mark.parametrize(
    "fields",
    [
        {"n_correct": "12"},
        {"n_correct": 10**400},
        {"auroc": "0.5"},
        {"verdict": "splendid"},
        {"schema_version": 99},
        {"thresholds": []},
        {"thresholds": {"mean": {"value": "0.5"}}},
        {"thresholds": {"mean": {"value": 0.5, "run": "rm"}}},
        {"created_at": "yesterday"},
        {"__class__": "os.system"},
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_profile_that_is_none(registry, version_line, fields):
    refused(registry, sealed(header(), with_profile(version_line, **fields)), "line 2: ")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (b"NaN", "profile.auroc: Input should be a finite number"),
        (b"Infinity", "profile.auroc: Input should be a finite number"),
        (b"-Infinity", "profile.auroc: Input should be a finite number"),
        (b"1e999", "profile.auroc: Input should be a finite number"),
        (b"9" * 100_000, "Invalid JSON: number out of range"),
    ],
    ids=["nan", "inf", "-inf", "1e999", "digits"],
)
def test_a_number_that_is_none(registry, version_line, number, said):
    line = with_profile(version_line, auroc="HERE").replace(b'"HERE"', number)
    refused(registry, sealed(header(), line), f"line 2: {said}")


@pytest.mark.parametrize("odd", ["\x1b]0;x\x07", "\x9b2J", "\r", "\x7f", "\u202e", "\u2028", "\\\x1b"])
def test_a_text_that_a_terminal_would_obey(registry, version_line, odd):
    refused(registry, sealed(header(), with_profile(version_line, verdict_reason=f"a{odd}b")), "line 2: .* control")
    for part in ("model", "task", "signal", "prompt_fingerprint"):
        key = json.loads(version_line)["key"] | {part: f"a{odd}b"}
        refused(
            registry, sealed(header(), with_profile(changed(version_line, key=key), key=key)), "line 2: .* control"
        )


def test_a_text_of_several_lines_is_a_text(registry, version_line):
    line = with_profile(version_line, verdict_reason="one\n\ttwo \\u001b[2J")
    assert registry.import_from(io.BytesIO(sealed(header(), line))).stored == 1


def test_a_key_whose_names_have_several_lines(registry, version_line):
    key = json.loads(version_line)["key"] | {"task": "a\nb"}
    line = with_profile(changed(version_line, key=key), key=key)
    with pytest.raises(RegistryError, match="the task's name has a control character"):
        registry.import_from(io.BytesIO(sealed(header(), line)))
    assert list(registry.list()) == []


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_a_nest_of_countless_brackets(registry, version_line, opening):
    refused(registry, sealed(header(), opening * 600_000), "line 2: Invalid JSON: recursion limit exceeded")


@pytest.mark.parametrize("part", [b'\\"', b"\\\\", b'"', b"\\"])
def test_a_text_that_a_scanner_might_go_over_again_and_again(registry, part):
    refused(registry, sealed(header(), b'{"a": "' + part * 1_000_000), "line 2: ")


def test_brackets_in_a_text_are_text(registry, version_line):
    line = with_profile(version_line, verdict_reason="[" * 1000 + '\\"{')
    assert registry.import_from(io.BytesIO(sealed(header(), line))).stored == 1


def test_a_name_twice(registry, version_line):
    line = version_line.replace(b'"version":1,', b'"version":1,"version":1,', 1)
    refused(registry, sealed(header(), line), "line 2: a name twice in one object")


def test_a_version_twice(registry, version_line):
    refused(registry, sealed(header(2), version_line, version_line), "line 3: version 1 of .* twice")


def test_two_active_versions(registry, version_line):
    second = with_profile(changed(version_line, version=2), version=2)
    refused(registry, sealed(header(2), version_line, second), "line 3: an active version of .* twice")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, None),
        ({"to_version": 2}, "line 3: a promotion of version 2 of .*, which is not before it"),
        ({"from_version": 0}, "line 3: from_version"),
        ({"action": "rm"}, "line 3: action"),
        ({"by": "\x1b[2J"}, "line 3: by: .* control character"),
        ({"at": "yesterday"}, "line 3: at"),
    ],
    ids=str,
)
def test_a_promotion_that_is_none(registry, version_line, fields, said):
    at = {"action": "put", "at": "2026-01-01T00:00:00Z", "by": "ana"}
    key = json.loads(version_line)["key"]
    line = json.dumps({"key": key, "from_version": None, "to_version": 1, **at, **fields}).encode()
    file = sealed(header(promotions=1), version_line, line)
    if said is not None:
        refused(registry, file, said)
    else:
        assert registry.import_from(io.BytesIO(file)).stored == 1
        assert [one.by for one in registry.promotions(KEY)] == ["ana"]


def test_numbers_that_would_leave_no_room_are_not_kept(on_either, version_line):
    line = with_profile(changed(version_line, version=2**31 - 1), version=2**31 - 1)
    on_either.import_from(io.BytesIO(sealed(header(), line)))
    assert on_either.get(KEY).version == 1
    assert on_either.put(profile()) == 2
    assert on_either.export_to(io.BytesIO()) == 2


@pytest.mark.parametrize("content", [b'{"id": "q1", "correct": true}\n', b"\x1f\x8b\x08\0", b"SQLite format 3\0"])
def test_a_file_of_another_kind_is_said_to_be_none(registry, content):
    refused(registry, content * 3, "the file is no file that tje registry export wrote: line 1: ")


def test_a_line_that_is_too_long(registry, version_line):
    line = with_profile(version_line, verdict_reason="x" * transfer_format.MOST_LINE_BYTES)
    refused(registry, sealed(header(), line), "line 2: longer than 4,194,304 bytes")


def test_a_file_that_is_too_large(registry, version_line, monkeypatch):
    monkeypatch.setattr(transfer_format, "MOST_BYTES", 2 * len(version_line))
    refused(registry, sealed(header(3), *[version_line] * 3), "the file has more than .* bytes; nothing was stored")


def test_a_file_of_too_many_lines(registry):
    alias = json.dumps({"alias": "a", "model": "m"}).encode()
    many = [alias.replace(b'"a"', b'"a%d"' % number) for number in range(transfer_format.MOST_LINES)]
    refused(registry, sealed(header(0, len(many)), *many), "line 1: the file has more than")


@pytest.mark.parametrize(
    "first",
    [
        b"{}",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"",
        header(tje_export=2),
        header(tje_export=True),
        header(profiles=-1),
        header(x=1),
    ],
    ids=lambda value: value.decode()[:20],
)
def test_a_header_that_is_none(registry, version_line, first):
    refused(registry, sealed(first, version_line), "line 1: ")


def test_a_header_that_counts_otherwise(registry, version_line):
    refused(registry, sealed(header(2), version_line), "the header counts other profiles")


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"not json", b"{", b"null", b'{"alias": "a"}', b'{"alias": 1, "model": "m"}', b'{"sha256": ""}'],
)
def test_a_line_that_is_none(registry, version_line, line):
    refused(registry, sealed(header(), version_line, line), "line 3: ")


@pytest.mark.parametrize("name", ["a\0b", "a\x1b[2J", "", "x" * 2001])
def test_an_alias_that_is_no_name(registry, version_line, name):
    alias = json.dumps({"alias": name, "model": "m"}).encode()
    refused(registry, sealed(header(1, 1), version_line, alias), "line 3: alias")


@pytest.mark.parametrize("name", ["../../../etc/passwd", "'; DROP TABLE tje_profiles; --", "%s%n{0}", "$(reboot)"])
def test_names_that_would_be_commands_elsewhere_are_names(on_either, version_line, name, tmp_path):
    key = json.loads(version_line)["key"] | {"model": name, "task": name}
    line = with_profile(changed(version_line, key=key, put_by=name), key=key)
    alias = json.dumps({"alias": f"also {name}", "model": name}).encode()
    before = sorted(path.name for path in tmp_path.iterdir())
    on_either.import_from(io.BytesIO(sealed(header(1, 1), line, alias)))
    stored = on_either.versions(ProfileKey(model=name, task=name))
    assert [one.put_by for one in stored] == [name]
    assert on_either.aliases() == {f"also {name}": name}
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("tje.db")) == before


def test_a_key_that_is_too_long_refuses_all_of_it(on_either, version_line):
    long = json.loads(version_line)["key"] | {"task": "x" * 3000}
    line = with_profile(changed(version_line, key=long), key=long)
    with pytest.raises(Exception, match="at most 2,000 can be looked up") as error:
        on_either.import_from(io.BytesIO(sealed(header(2), version_line, line)))
    assert type(error.value).__name__ == "RegistryError"
    assert list(on_either.list()) == []
