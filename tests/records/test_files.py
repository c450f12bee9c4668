"""Records on disk: what is read from which files, what is refused and how it is named, what comes back as written."""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import resource
import signal
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tje_middleware import CalibrationError, CalibrationRecord, SequenceLogprobs
from tje_middleware.records import read_records, write_records

LINE = {"id": "q17", "correct": True, "tokens": 211, "signals": {"mean_entropy": 0.31}}
RAW = {
    "correct": False,
    "top_logprobs": [[-0.1, -3.0], [-0.2]],
    "token_texts": ["<think>", "no"],
    "sampled_logprobs": [-0.1, -0.2],
}
GOOD = json.dumps(LINE)
ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")


def written(folder, text, name="records.jsonl"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path, **options):
    return list(read_records(path, **options))


def table(folder, rows, name="records.parquet", **options):
    path = folder / name
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def contents(record):
    """All that a record holds; two sequences are equal when all their parts are."""
    sequence = record.sequence
    parts = sequence and (
        sequence.top_logprobs.tolist(),
        sequence.tokens,
        None if sequence.sampled_logprobs is None else sequence.sampled_logprobs.tolist(),
        None if sequence.marked_thinking is None else sequence.marked_thinking.tolist(),
    )
    return record.model_dump(), parts


class TestJsonLines:
    def test_are_records_one_a_line(self, tmp_path):
        [first, second] = read(written(tmp_path, f"{GOOD}\n{json.dumps(RAW)}\n"))
        assert (first.id, first.correct, first.tokens, first.signals) == ("q17", True, 211, {"mean_entropy": 0.31})
        assert first.sequence is None
        assert second.sequence.tokens == ("<think>", "no")
        assert second.sequence.top_logprobs.tolist() == [[-0.1, -3.0], [-0.2, -math.inf]]

    @pytest.mark.parametrize("name", ["records.jsonl", "records.json", "records", "records.gz", "records.parquet"])
    @pytest.mark.parametrize("packed", [False, True])
    def test_are_known_by_their_content_and_not_by_their_name(self, tmp_path, name, packed):
        text = GOOD.encode()
        assert read(written(tmp_path, gzip.compress(text) if packed else text, name))[0].id == "q17"

    @pytest.mark.parametrize("text", [f"{GOOD}", f"{GOOD}\r\n", f"\ufeff{GOOD}\n", f"\n  \n{GOOD}\n\n"])
    @pytest.mark.parametrize("pack", [bytes, gzip.compress])
    def test_may_have_a_byte_order_mark_blank_lines_and_any_line_ending(self, tmp_path, text, pack):
        assert [record.id for record in read(written(tmp_path, pack(text.encode())))] == ["q17"]

    def test_may_hold_fields_of_the_users_own(self, tmp_path):
        own = {**LINE, "text": "an answer", "score": math.nan}
        assert read(written(tmp_path, json.dumps(own)))[0] == CalibrationRecord(**LINE)

    def test_may_hold_characters_of_any_language_and_half_of_one(self, tmp_path):
        texts = ["é", "数", "😀", "\ud83d"]
        line = {"correct": True, "id": "数😀", "top_logprobs": [[-1.0]] * 4, "token_texts": texts}
        [record] = read(written(tmp_path, json.dumps(line)))
        assert (record.id, record.sequence.tokens) == ("数😀", tuple(texts))

    def test_of_standard_input_are_read_under_the_name_of_a_dash(self, monkeypatch):
        for sent in (GOOD.encode(), gzip.compress(GOOD.encode())):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sent)))
            assert read("-")[0].id == "q17"
            assert not sys.stdin.closed

    def test_of_standard_input_are_named_so_in_errors(self, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n{")))
        with pytest.raises(CalibrationError, match=r"^standard input, line 2: not JSON"):
            read("-")

    def test_may_come_through_a_pipe(self, tmp_path):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        sender = threading.Thread(target=pipe.write_text, args=(GOOD,))
        sender.start()
        assert read(pipe)[0].id == "q17"
        sender.join()


class TestLaziness:
    def test_a_record_is_given_out_before_the_next_line_is_looked_at(self, tmp_path):
        records = read_records(written(tmp_path, f"{GOOD}\nnothing"))
        assert next(records).id == "q17"

    def test_a_bad_last_line_is_still_named(self, tmp_path):
        records = read_records(written(tmp_path, f"{GOOD}\n" * 1000 + "nothing"))
        assert sum(1 for _, _ in zip(range(1000), records, strict=False)) == 1000
        with pytest.raises(CalibrationError, match=r"records\.jsonl, line 1001: not JSON"):
            next(records)

    def test_the_file_is_closed_when_the_reader_is(self, tmp_path):
        records = read_records(written(tmp_path, f"{GOOD}\n" * 2))
        next(records)
        records.close()
        (tmp_path / "records.jsonl").unlink()


class TestProgress:
    @pytest.mark.parametrize("pack", [bytes, gzip.compress])
    def test_goes_to_the_size_of_the_file_on_disk(self, tmp_path, pack):
        rng = np.random.default_rng(0)
        lines = (json.dumps({**LINE, "text": rng.bytes(300).hex()}) for _ in range(3000))
        path = written(tmp_path, pack("\n".join(lines).encode()))
        told = []
        read(path, progress=lambda *at: told.append(at))
        size = path.stat().st_size
        assert told == sorted(told)
        assert {total for _, total in told} == {size}
        assert told[-1] == (size, size)
        assert 2 < len(told) < 300

    def test_is_in_rows_of_a_table(self, tmp_path):
        told = []
        read(table(tmp_path, [LINE] * 10_000), progress=lambda *at: told.append(at))
        assert told[-1] == (10_000, 10_000)
        assert 1 < len(told) < 20

    def test_of_a_stream_has_no_known_end(self, monkeypatch):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode())))
        told = []
        read("-", progress=lambda *at: told.append(at))
        assert told[-1] == (len(GOOD), 0)

    def test_may_stop_the_reading(self, tmp_path):
        def stop(_done, _total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            read(written(tmp_path, GOOD), progress=stop)


FAULTS = [
    ("nothing", "not JSON: expected ident at column 2"),
    ('{"correct": true} {}', "not JSON: trailing characters at column 19"),
    ("{'correct': true}", "not JSON: key must be a string at column 2"),
    ("{", "not JSON: the line ends while parsing an object (a record stands on one line)"),
    ("[" * 1000 + '"\\u0041"', "not JSON: recursion limit exceeded at column 202"),
    ('{"id": "\\u12', "not JSON: the line ends while parsing a string (a record stands on one line)"),
    (b'{"id": "\xff"}', "not UTF-8: the byte 0xff at column 9"),
    ("[1, 2]", "not an object but a list"),
    ("3", "not an object but 3"),
    ("null", "not an object but null"),
    ('"text"', 'not an object but "text"'),
    ('{"signals": {"x": 1}}', "correct: missing"),
    ('{"correct": 1, "signals": {"x": 1}}', "correct: must be true or false, not 1"),
    ('{"correct": null}', "correct: must be true or false, not null"),
    ('{"correct": "yes"}', 'correct: must be true or false, not "yes"'),
    ('{"correct": "a long answer, none of our business"}', "correct: must be true or false, not a text"),
    ('{"correct": true, "deeper_correct": 0}', "deeper_correct: must be true or false, not 0"),
    ('{"correct": true, "tokens": -1}', "tokens: must be greater than or equal to 0, not -1"),
    ('{"correct": true, "tokens": 1.5}', "tokens: must be a valid integer, not 1.5"),
    ('{"correct": true, "tokens": NaN}', "tokens: must be a finite number, not NaN"),
    ('{"correct": true, "id": [1]}', "id: must be a valid string, not a list"),
    ('{"correct": true, "signals": [1]}', "signals: must be an object, not a list"),
    ('{"correct": true, "signals": {"x": NaN}}', "signals.x: must be a finite number, not NaN"),
    ('{"correct": true, "signals": {"x": -Infinity}}', "signals.x: must be a finite number, not -Infinity"),
    ('{"correct": true, "signals": {"x": 1e999}}', "signals.x: must be a finite number, not Infinity"),
    ('{"correct": true, "signals": {"x": true}}', "signals.x: a signal is a number, not true or false"),
    ('{"correct": true, "signals": {"x": "much"}}', "signals.x: a signal is a number, not text"),
    ('{"correct": true, "signals": {"x": null}}', "signals.x: must be a valid number, not null"),
    ('{"correct": 1, "tokens": -1, "signals": {"x": NaN}}', "correct: must be true or false, not 1 (and 2 more)"),
    ('{"correct": true}', "neither signals nor logprobs (top_logprobs) are there: one of them is needed"),
    ('{"correct": true, "top_logprobs": []}', "logprobs: no position has alternatives; ask"),
    ('{"correct": true, "top_logprobs": [[0.5]]}', "logprobs: top_logprobs[0, 0] is 0.5, which is no log-prob"),
    ('{"correct": true, "top_logprobs": [[-1, NaN]]}', "logprobs: top_logprobs[0, 1] is nan, which is no log-prob"),
    ('{"correct": true, "top_logprobs": [["a"]]}', "logprobs: top_logprobs[0, 0] is no log-probability but a str"),
    (
        '{"correct": true, "top_logprobs": [[-1]], "sampled_logprobs": [-1, -1]}',
        "logprobs: sampled_logprobs has 2 entries, but there are 1 positions",
    ),
    (
        '{"correct": true, "top_logprobs": [[-1]], "marked_thinking": [true, 1]}',
        "logprobs: marked_thinking must be true or false for each of the 1 positions",
    ),
    (
        '{"correct": true, "top_logprobs": [[-1]], "marked_thinking": "no"}',
        "logprobs: marked_thinking must be true or false for each of the 1 positions",
    ),
]


class TestABadLine:
    @pytest.mark.parametrize(("line", "reason"), FAULTS, ids=[reason for _, reason in FAULTS])
    @pytest.mark.parametrize("pack", [bytes, gzip.compress])
    def test_is_named_by_file_number_and_reason(self, tmp_path, line, reason, pack):
        bad = line if isinstance(line, bytes) else line.encode()
        path = written(tmp_path, pack(b"\n".join([GOOD.encode(), b"", bad, GOOD.encode()])))
        with pytest.raises(CalibrationError) as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(f"{path}, line 3: {reason}")
        assert "\n" not in message

    def test_of_a_record_that_goes_over_several_lines_is_its_first(self, tmp_path):
        with pytest.raises(CalibrationError, match=r"line 1: not JSON: the line ends.*a record stands on one line"):
            read(written(tmp_path, json.dumps(LINE, indent=2)))


class TestABadFile:
    @pytest.mark.parametrize(
        ("text", "reason"), [(b"", "is empty"), (b"\n \r\n", "no records"), (b"\xef\xbb\xbf", "no")]
    )
    def test_is_one_without_records(self, tmp_path, text, reason):
        with pytest.raises(CalibrationError, match=rf"records\.jsonl .*{reason}"):
            read(written(tmp_path, text))

    def test_is_one_that_does_not_exist_or_is_a_folder(self, tmp_path):
        with pytest.raises(CalibrationError, match=r"none\.jsonl cannot be read: No such file"):
            read(tmp_path / "none.jsonl")
        with pytest.raises(CalibrationError, match="cannot be read: Is a directory"):
            read(tmp_path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_is_one_that_may_not_be_read(self, tmp_path):
        path = written(tmp_path, GOOD)
        path.chmod(0)
        with pytest.raises(CalibrationError, match="cannot be read: Permission denied"):
            read(path)

    def test_is_one_in_utf_16(self, tmp_path):
        with pytest.raises(CalibrationError, match="line 1: not UTF-8 but UTF-16: save the file as UTF-8"):
            read(written(tmp_path, GOOD.encode("utf-16")))

    @pytest.mark.parametrize("cut", [3, 12, 40, -9, -8, -1])
    def test_is_a_gzip_that_was_cut(self, tmp_path, cut):
        packed = gzip.compress(f"{GOOD}\n".encode() * 100)
        with pytest.raises(CalibrationError, match=r"damaged or cut off"):
            read(written(tmp_path, packed[:cut]))

    def test_is_a_gzip_that_was_changed(self, tmp_path):
        packed = bytearray(gzip.compress(f"{GOOD}\n".encode()))
        packed[-6] ^= 1
        with pytest.raises(CalibrationError, match="damaged or cut off: CRC check failed"):
            read(written(tmp_path, bytes(packed)))

    @settings(max_examples=200, deadline=None)
    @given(data=st.data())
    def test_of_any_kind_of_damage_is_an_error_of_ours_or_harmless(self, tmp_path_factory, data):
        whole = data.draw(st.sampled_from([GOOD.encode() + b"\n" + json.dumps(RAW).encode(), b"\x1f\x8b", b""]))
        packed = gzip.compress(whole) if data.draw(st.booleans()) else whole
        start = data.draw(st.integers(0, len(packed)))
        changed = packed[:start] + data.draw(st.binary(max_size=4)) + packed[start + data.draw(st.integers(0, 4)) :]
        path = written(tmp_path_factory.mktemp("damage"), changed)
        try:
            read(path)
        except CalibrationError as error:
            assert str(path) in str(error)


class TestParquet:
    @pytest.mark.parametrize(
        "columns",
        [
            {"signals": {"mean_entropy": 0.31, "other": None}},
            {"signals.mean_entropy": 0.31, "signals.other": None},
            {"signals": {"other": None}, "signals.mean_entropy": 0.31},
        ],
    )
    def test_has_its_signals_in_a_struct_or_in_columns_of_their_own(self, tmp_path, columns):
        row = {"id": "q17", "correct": True, "tokens": 211, **columns, "text": "kept out"}
        filled = {**row, **dict.fromkeys((name for name in columns if name != "signals"), 1.0)}
        [record, _] = read(table(tmp_path, [row, filled]))
        assert record == CalibrationRecord(**LINE)

    def test_has_its_signals_in_a_map(self, tmp_path):
        kind = pa.map_(pa.string(), pa.float64())
        column = pa.array([[("mean_entropy", 0.31)], [("total_entropy", 9.0)]], kind)
        pq.write_table(pa.table({"correct": [True, False], "signals": column}), tmp_path / "t")
        assert [record.signals for record in read(tmp_path / "t")] == [{"mean_entropy": 0.31}, {"total_entropy": 9.0}]

    @pytest.mark.parametrize("number", [pa.float64(), pa.float32()])
    @pytest.mark.parametrize("kind", [pa.list_, pa.large_list, lambda inner: pa.list_(inner, 2)])
    @pytest.mark.parametrize("rows", [[[-0.5, -3.0], [-0.25, -2.0]], [[-0.5, -3.0]] * 2])
    def test_has_raw_logprobs_in_lists_of_lists(self, tmp_path, number, kind, rows):
        top = pa.array([rows, rows], kind(kind(number)))
        columns = {"correct": [True, True], "top_logprobs": top, "token_texts": [["a", "b"]] * 2}
        pq.write_table(pa.table(columns), tmp_path / "t")
        for record in read(tmp_path / "t"):
            assert record.sequence.top_logprobs.tolist() == rows
            assert record.sequence.tokens == ("a", "b")

    def test_has_positions_with_fewer_alternatives(self, tmp_path):
        [record] = read(table(tmp_path, [RAW]))
        assert record.sequence.top_logprobs.tolist() == [[-0.1, -3.0], [-0.2, -math.inf]]

    def test_mixes_rows_with_signals_and_rows_with_logprobs(self, tmp_path):
        records = read(table(tmp_path, [{**LINE, "top_logprobs": None}, {**RAW, "signals": None}]))
        assert [record.sequence is None for record in records] == [True, False]

    def test_is_read_in_batches(self, tmp_path):
        path = table(tmp_path, [{**LINE, "id": str(row)} for row in range(20_000)])
        assert [record.id for record in read(path)] == [str(row) for row in range(20_000)]

    @pytest.mark.parametrize(
        ("column", "value", "reason"),
        [
            ("correct", None, "correct: missing"),
            ("correct", 1, "correct: must be true or false, not 1"),
            ("signals", None, "neither signals nor logprobs"),
            ("signals", {"mean_entropy": math.nan}, "signals.mean_entropy: must be a finite number, not NaN"),
            ("signals", 0.31, "signals: must be an object, not 0.31"),
            ("signals", "mean_entropy", "signals: must be an object, not "),
            ("top_logprobs", [[0.5]], r"logprobs: top_logprobs\[0, 0\] is 0.5"),
            ("top_logprobs", [[None]], r"logprobs: top_logprobs\[0, 0\] is no log-probability but a NoneType"),
            ("top_logprobs", [None], "logprobs: no position has alternatives"),
            ("top_logprobs", [], "logprobs: no position has alternatives"),
            ("top_logprobs", "text", "logprobs: the alternatives are no list but a str"),
            ("top_logprobs", [["a"]], r"logprobs: top_logprobs\[0, 0\] is no log-probability but a str"),
        ],
    )
    def test_a_bad_row_is_named_by_its_number_and_reason(self, tmp_path, column, value, reason):
        path = table(tmp_path, [{**LINE, column: value}])
        with pytest.raises(CalibrationError, match=rf"records\.parquet, row 1: {reason}"):
            read(path)

    def test_a_bad_row_far_down_is_named(self, tmp_path):
        path = table(tmp_path, [LINE] * 9000 + [{**LINE, "tokens": -1}])
        with pytest.raises(CalibrationError, match=r"row 9001: tokens: must be greater than or equal to 0, not -1"):
            read(path)

    def test_without_rows_holds_no_records(self, tmp_path):
        pq.write_table(pa.table({"correct": pa.array([], pa.bool_())}), tmp_path / "t")
        with pytest.raises(CalibrationError, match="holds no records"):
            read(tmp_path / "t")

    def test_without_a_column_of_ours_says_what_is_missing(self, tmp_path):
        with pytest.raises(CalibrationError, match=r"has no column correct \(the first columns: question\)"):
            read(table(tmp_path, [{"question": "?"}]))

    @pytest.mark.parametrize("cut", [4, 100, -1, -200])
    def test_that_was_cut_is_refused(self, tmp_path, cut):
        path = table(tmp_path, [LINE] * 1000)
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(CalibrationError, match=r"records\.parquet is damaged or cut off: "):
            read(path)

    def test_with_a_changed_byte_is_refused(self, tmp_path):
        write_records(tmp_path / "t.parquet", [CalibrationRecord(**LINE, deeper_tokens=i) for i in range(2000)])
        content = bytearray((tmp_path / "t.parquet").read_bytes())
        content[len(content) // 3] ^= 255
        with pytest.raises(CalibrationError, match=r"damaged"):
            read(written(tmp_path, bytes(content)))

    def test_of_standard_input_is_refused(self, tmp_path, monkeypatch):
        sent = table(tmp_path, [LINE]).read_bytes()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sent)))
        with pytest.raises(CalibrationError, match="standard input: Parquet is read from a file"):
            read("-")

    def test_without_pyarrow_says_what_to_install(self, tmp_path, monkeypatch):
        path = table(tmp_path, [LINE])
        monkeypatch.delitem(sys.modules, "tje_middleware.records.parquet", raising=False)
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(CalibrationError, match=r'needs: pip install "tje-middleware\[parquet\]"'):
            read(path)
        with pytest.raises(CalibrationError, match=r'needs: pip install "tje-middleware\[parquet\]"'):
            write_records(tmp_path / "new.parquet", [CalibrationRecord(**LINE)])
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


class TestWriting:
    @pytest.mark.parametrize("ending", ENDINGS)
    def test_gives_back_records_as_they_were(self, tmp_path, ending):
        sequence = SequenceLogprobs(
            np.array([[-0.1, -3.0, -np.inf], [-np.inf, -0.2, -np.inf]]), ("a", "\n"), np.array([-0.1, -np.inf])
        )
        marked = SequenceLogprobs(np.array([[-0.1], [-0.2]]), marked_thinking=np.array([True, False]))
        records = [
            CalibrationRecord(**LINE, deeper_correct=False, deeper_tokens=640),
            CalibrationRecord(correct=False, sequence=sequence),
            CalibrationRecord(correct=False, signals={"a": 1.0, "b": -0.0}, sequence=marked),
        ]
        path = tmp_path / f"records{ending}"
        assert write_records(path, iter(records)) == 3
        assert [*map(contents, read(path))] == [*map(contents, records)]
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_goes_by_the_ending_of_the_name(self, tmp_path, ending):
        path = tmp_path / f"records{ending.upper()}"
        write_records(str(path), [CalibrationRecord(**LINE)])
        start = {".jsonl": b'{"id"', ".jsonl.gz": b"\x1f\x8b", ".parquet": b"PAR1"}[ending]
        assert path.read_bytes().startswith(start)

    def test_leaves_padding_out_and_has_no_infinity(self, tmp_path):
        top = np.array([[-0.1, -np.inf, -np.inf], [-0.2, -np.inf, -np.inf], [-np.inf, -0.5, -np.inf]])
        write_records(tmp_path / "r", [CalibrationRecord(correct=True, sequence=SequenceLogprobs(top))])
        line = json.loads((tmp_path / "r").read_text())
        assert line == {"correct": True, "top_logprobs": [[-0.1, -9999.0, -9999.0], [-0.2], [-9999.0, -0.5]]}

    def test_writes_the_same_bytes_each_time(self, tmp_path):
        for name in ("a.gz", "b.gz"):
            write_records(tmp_path / name, [CalibrationRecord(**LINE)])
        assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()

    def test_keeps_half_a_character_in_json_and_has_no_place_for_it_in_a_table(self, tmp_path):
        record = CalibrationRecord(correct=True, sequence=SequenceLogprobs(np.array([[-1.0]]), ("\ud83d",)))
        write_records(tmp_path / "r.jsonl", [record])
        assert read(tmp_path / "r.jsonl")[0].sequence.tokens == ("\ud83d",)
        with pytest.raises(CalibrationError, match=r"r\.parquet: a record has no place in a table"):
            write_records(tmp_path / "r.parquet", [record])

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_that_fails_on_the_way_leaves_what_was_there(self, tmp_path, ending):
        def interrupted():
            yield CalibrationRecord(**LINE)
            raise ConnectionError("the provider is gone")

        path = written(tmp_path, "before", f"records{ending}")
        with pytest.raises(ConnectionError, match="the provider is gone"):
            write_records(path, interrupted())
        assert path.read_text() == "before"
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_of_what_could_not_be_read_back_is_refused(self, tmp_path, ending):
        good, path = CalibrationRecord(**LINE), written(tmp_path, "before", f"records{ending}")
        nothing = SequenceLogprobs(np.empty((0, 0)))
        for records, reason in (
            ([], "no records"),
            ([good, CalibrationRecord(correct=True)], "record 2: neither signals nor logprobs"),
            ([CalibrationRecord(correct=True, sequence=nothing)], "record 1: neither signals nor logprobs"),
            ([good, LINE], "record 2 is no CalibrationRecord but a dict"),
        ):
            with pytest.raises(CalibrationError, match=reason):
                write_records(path, records)
        assert path.read_text() == "before"

    def test_onto_a_folder_or_into_none_is_refused(self, tmp_path):
        with pytest.raises(CalibrationError, match="is a folder"):
            write_records(tmp_path, [CalibrationRecord(**LINE)])
        with pytest.raises(CalibrationError, match=r"cannot be written: No such file or directory"):
            write_records(tmp_path / "none" / "r.jsonl", [CalibrationRecord(**LINE)])

    def test_through_a_link_keeps_the_link(self, tmp_path):
        target, link = written(tmp_path, "before", "target.jsonl"), tmp_path / "link.jsonl"
        link.symlink_to(target)
        write_records(link, [CalibrationRecord(**LINE)])
        assert link.is_symlink()
        assert read(target) == [CalibrationRecord(**LINE)]

    @pytest.mark.parametrize("ending", ENDINGS)
    def test_onto_a_full_disk_says_so(self, tmp_path, ending):
        path = tmp_path / f"r{ending}"
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        rng = np.random.default_rng(0)
        many = (CalibrationRecord(correct=True, signals={rng.bytes(20).hex(): 1.0}) for _ in range(2000))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            with pytest.raises(CalibrationError, match=rf"r{ending} cannot be written: File too large"):
                write_records(path, many)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, ignored)
        assert list(tmp_path.iterdir()) == []


finite = st.floats(allow_nan=False, allow_infinity=False)
logprob = st.one_of(st.floats(-9000, 0), st.just(-math.inf), st.floats(0, 1e-3))
count = st.none() | st.integers(0, 10**12)


@st.composite
def sequences(draw):
    positions, alternatives = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    width = st.lists(logprob, min_size=alternatives, max_size=alternatives)
    top = draw(st.lists(width.filter(lambda row: max(row) > -math.inf), min_size=positions, max_size=positions))

    def a_position(item):
        return draw(st.none() | st.lists(item, min_size=positions, max_size=positions))

    # A last token that spells nothing is the end of the turn, which reading leaves out.
    texts, sampled, marks = a_position(st.text(min_size=1)), a_position(logprob), a_position(st.booleans())
    return SequenceLogprobs(
        np.array(top),
        None if texts is None else tuple(texts),
        None if sampled is None else np.array(sampled),
        None if marks is None else np.array(marks),
    )


records_with_something = st.builds(
    CalibrationRecord,
    id=st.none() | st.text(),
    correct=st.booleans(),
    tokens=count,
    signals=st.dictionaries(st.text(), finite, max_size=3),
    sequence=st.none() | sequences(),
    deeper_correct=st.none() | st.booleans(),
    deeper_tokens=count,
).filter(lambda record: record.signals or record.sequence is not None)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no modes")
def test_a_file_is_its_owners_alone_or_as_open_as_the_one_that_it_replaces(tmp_path):
    path = tmp_path / "records.jsonl"
    for mode in (0o600, 0o644):
        write_records(path, [CalibrationRecord(correct=True, signals={"mean_entropy": 0.5})])
        assert path.stat().st_mode & 0o777 == mode
        path.chmod(0o644)


@pytest.mark.parametrize("ending", ENDINGS)
@settings(max_examples=60, deadline=None)
@given(records=st.lists(records_with_something, min_size=1, max_size=4))
def test_what_is_written_is_read_back(tmp_path_factory, ending, records):
    path = tmp_path_factory.mktemp("round") / f"records{ending}"
    assert write_records(path, records) == len(records)
    assert [*map(contents, read(path))] == [*map(contents, records)]
