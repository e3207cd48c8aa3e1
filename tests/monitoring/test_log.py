import errno
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from monitoring.log import EventLog, feedback_once
from monitoring.rows import Row, row_of


def row(n: int = 0) -> Row:
    return Row("answer", "compose", f"r{n}", "m", seed=n, side="output", descriptors={"polyphony": 1.0})


def _append_many(folder: Path, who: int) -> None:
    log = EventLog(folder)
    for i in range(200):
        log.append(Row("answer", "compose", f"{who}-{i}", "m", body={"pad": "x" * 500}))


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    rows = [row(i) for i in range(3)]
    log.append(rows[0])
    log.append(*rows[1:])
    assert list(log.rows()) == rows


def test_processes_that_append_at_once_lose_and_mix_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_many, args=(tmp_path, who)) for who in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = list(EventLog(tmp_path).rows())
    assert len({r.request_id for r in found}) == len(found) == 600


def test_a_cut_last_line_is_passed_over_and_the_next_row_is_whole(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append(row(1))
    path = next(tmp_path.glob("*.jsonl"))
    path.write_bytes(path.read_bytes() + b'{"kind": "answ')
    log.append(row(2))
    assert [r.seed for r in log.rows()] == [1, 2]
    assert log.broken() == 1


def test_what_was_appended_survives_a_kill(tmp_path: Path) -> None:
    code = (
        f"import os, signal; from pathlib import Path; from monitoring.log import EventLog, row_of, Row, "
        f"feedback_once; EventLog(Path({str(tmp_path)!r})).append(Row('answer','score','r','m')); "
        f"os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == -9
    assert [r.request_id for r in EventLog(tmp_path).rows()] == ["r"]


def test_a_full_disk_is_an_error_and_leaves_no_half_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(tmp_path)
    log.append(row(1))
    real = os.write

    def short(descriptor: int, data: bytes) -> int:
        real(descriptor, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OSError, match="No space"):
        log.append(row(2))
    monkeypatch.undo()
    assert [r.seed for r in log.rows()] == [1]
    assert log.broken() == 0


def test_a_clock_that_jumps_back_loses_nothing(tmp_path: Path) -> None:
    log, places, heard = EventLog(tmp_path), {}, []
    for day in ("2026-12-02", "2026-12-01", "2026-12-02"):
        log.append(
            Row("answer", "compose", "r", "m", id=f"{day}-{len(heard)}", time=f"{day}T00:00:00.000+00:00")
        )
        heard += [r.id for r in log.news(places, heard.clear)]
    assert heard == ["2026-12-02-0", "2026-12-01-1", "2026-12-02-2"]
    assert len(list(log.rows())) == 3
    assert all(log.answer(each) is not None for each in heard)


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        EventLog(tmp_path).append(Row("answer", "score", "r", "m", nats_per_note=float("nan")))


def test_every_row_is_one_json_line_of_one_schema(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append(row(1), Row("request", "compose", "x", "m", body={"style": "irish"}))
    lines = [json.loads(line) for line in next(tmp_path.glob("*.jsonl")).read_text().splitlines()]
    assert lines[0].keys() == lines[1].keys()


def feedback(user: str, n: int, key: str = "") -> Row:
    return Row(
        "feedback",
        "feedback",
        f"f{n}",
        "m",
        body={"user": user, "item": f"i{n}", "event": "like", "key": key},
    )


def test_a_forgotten_user_is_gone_and_all_else_stays(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append(feedback("ann", 1), feedback("bob", 2), row(3), feedback("ann", 4), feedback("annabel", 5))
    assert log.forget("ann") == 2
    assert [r.request_id for r in log.rows()] == ["f2", "r3", "f5"]
    assert b'"ann"' not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert log.forget("ann") == 0
    log.append(feedback("bob", 6))
    assert [r.request_id for r in log.rows()][-1] == "f6"


def _forget_often(folder: Path) -> None:
    for _ in range(50):
        EventLog(folder).forget("ann")


def test_forgetting_while_others_append_loses_nothing(tmp_path: Path) -> None:
    EventLog(tmp_path).append(*(feedback("ann", n) for n in range(5)))
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_many, args=(tmp_path, who)) for who in range(2)] + [
        context.Process(target=_forget_often, args=(tmp_path,))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = list(EventLog(tmp_path).rows())
    assert len({r.request_id for r in found}) == len(found) == 400


def test_a_key_counts_once_for_each_user(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append(
        feedback("ann", 1, "k"),
        feedback("ann", 2, "k"),
        feedback("bob", 3, "k"),
        feedback("ann", 4),
        feedback("ann", 5),
    )
    assert [r.request_id for r in feedback_once(log.rows())] == ["f1", "f3", "f4", "f5"]


def test_news_are_what_came_since_and_everything_after_a_file_was_replaced(tmp_path: Path) -> None:
    log, places, again = EventLog(tmp_path), dict[str, tuple[int, int]](), list[int]()
    log.append(feedback("ann", 1), feedback("bob", 2))
    assert len(list(log.news(places, lambda: again.append(1)))) == 2
    assert list(log.news(places, lambda: again.append(1))) == []
    log.append(feedback("bob", 3))
    assert [r.request_id for r in log.news(places, lambda: again.append(1))] == ["f3"]
    assert not again
    log.forget("ann")
    assert [r.request_id for r in log.news(places, lambda: again.append(1))] == ["f2", "f3"]
    assert again == [1]


def test_a_folder_that_a_container_shares_has_files_that_both_can_write(tmp_path: Path) -> None:
    for mode, wanted in ((0o755, 0o640), (0o777, 0o666)):
        folder = tmp_path / oct(mode)
        folder.mkdir()
        folder.chmod(mode)
        EventLog(folder).append(Row("request", "compose", "r", "m"))
        assert next(folder.glob("events-*.jsonl")).stat().st_mode & 0o777 == wanted


def test_an_answer_is_found_without_reading_the_log_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = EventLog(tmp_path)
    for n in range(50):
        log.append(Row("answer", "compose", f"r{n}", "m", id=f"a{n}", body={"midi": str(n)}))
    assert log.answer("a7").body == {"midi": "7"}  # type: ignore[union-attr]
    parsed = []
    monkeypatch.setattr("monitoring.log.row_of", lambda line: parsed.append(line) or row_of(line))
    assert [log.answer(f"a{n}").request_id for n in range(50)] == [f"r{n}" for n in range(50)]  # type: ignore[union-attr]
    assert log.answer("never") is None
    assert len(parsed) == 50
    log.append(Row("answer", "compose", "new", "m", id="a50"))
    assert log.answer("a50").request_id == "new"  # type: ignore[union-attr]
    assert len(parsed) == 52


def test_answers_are_found_after_forgetting_and_where_files_went(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append(Row("answer", "recommend", "r1", "m", id="a1", body={"user": "u1"}))
    log.append(Row("answer", "compose", "r2", "m", id="a2", body={"midi": "2"}))
    assert log.answer("a2") is not None
    assert log.forget("u1") == 1
    assert log.answer("a1") is None
    assert log.answer("a2").body == {"midi": "2"}  # type: ignore[union-attr]
    for path in tmp_path.glob("events-*"):
        path.unlink()
    assert log.answer("a2") is None
