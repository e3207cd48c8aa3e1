"""Lines of the log: whole ones are told from those that were cut or changed."""

import json

import pytest

from monitoring.rows import Row, line_of, row_of

ROW = Row("answer", "compose", "r", "m", seed=3, body={"midi": "TVRo", "crc": "x", "said": 'a, "crc": "b"'})


def test_a_line_is_its_row_and_json() -> None:
    line = line_of(ROW)
    assert row_of(line) == ROW
    assert list(json.loads(line))[-1] == "crc"
    assert line.endswith("\n") and line.count("\n") == 1


def test_any_change_of_a_byte_is_seen() -> None:
    line = line_of(ROW)
    for at in range(len(line) - 1):
        changed = line[:at] + chr((ord(line[at]) + 1) % 128) + line[at + 1 :]
        assert row_of(changed) is None, changed


@pytest.mark.parametrize("length", [0, 1, 40, -2, -5, -30])
def test_a_line_that_was_cut_is_none(length: int) -> None:
    assert row_of(line_of(ROW)[:length]) is None


def test_lines_of_the_version_before_have_no_checksum() -> None:
    told = {name: value for name, value in json.loads(line_of(ROW)).items() if name != "crc"}
    assert row_of(json.dumps({**told, "version": 1})) is not None
    assert row_of(json.dumps(told)) is None  # of this version it would have one
