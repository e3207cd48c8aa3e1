import errno
from pathlib import Path

import pytest

from pipelines.running.files import StageError, run_stage, whole_file, write_json


def test_a_file_that_fails_half_way_leaves_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), whole_file(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_ends_a_stage_in_one_clear_line(tmp_path: Path) -> None:
    def stage() -> None:
        with whole_file(tmp_path / "out.bin") as temporary:
            temporary.write_bytes(b"some")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SystemExit, match="the disk is full. Free some space and run `dvc repro` again"):
        run_stage(stage)
    assert list(tmp_path.iterdir()) == []


def test_mendable_errors_are_one_line_and_others_keep_their_traceback() -> None:
    def mendable() -> None:
        raise StageError("do this")

    def bug() -> None:
        raise KeyError("x")

    with pytest.raises(SystemExit, match="error: do this"):
        run_stage(mendable)
    with pytest.raises(KeyError):
        run_stage(bug)


def test_nan_is_not_written_as_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []
