import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from models.fill.request import ContractBroken
from serving.errors import Refused
from serving.in_flight import cancelled, current
from serving.jobs import MOST_TRIES, Job, Jobs


class Said(BaseModel):
    text: str


def settled(jobs: Jobs, job_id: str, seconds: float = 5.0) -> Job:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        job = jobs.of(job_id, "k")
        if job and job.state != "waiting":
            return job
        time.sleep(0.02)
    raise AssertionError("the job is not settled")


def soon(true: Callable[[], bool], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def stop() -> Any:
    event = threading.Event()
    yield event
    event.set()


def test_a_job_is_carried_out_and_what_was_sent_is_not_kept(tmp_path: Path, stop: threading.Event) -> None:
    jobs = Jobs(tmp_path)
    jobs.add(Job("1" * 32, "k", "/v1/compose", {"bars": 2}))
    assert jobs.of("1" * 32, "other") is None
    jobs.work(lambda path, body: Said(text=f"{path} {body} {current().id[:2]} {current().owner}"), stop)
    job = settled(jobs, "1" * 32)
    assert (job.state, job.answer) == ("done", {"text": "/v1/compose {'bars': 2} 11 k"})
    assert job.body == {}
    soon(lambda: not list(tmp_path.glob("*.waiting")))


@pytest.mark.parametrize(
    ("error", "code"), [(Refused("no such style"), "invalid"), (ContractBroken("a bug"), "internal")]
)
def test_a_job_that_fails_says_why(
    tmp_path: Path, stop: threading.Event, error: Exception, code: str
) -> None:
    jobs = Jobs(tmp_path)
    jobs.add(Job("1" * 32, "k", "/v1/compose"))

    def fails(path: str, body: Any) -> BaseModel:
        raise error

    jobs.work(fails, stop)
    job = settled(jobs, "1" * 32)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["code"] == code


def test_what_a_process_left_is_taken_up_but_not_for_ever(tmp_path: Path, stop: threading.Event) -> None:
    jobs = Jobs(tmp_path)
    jobs.add(Job("1" * 32, "k", "/v1/compose", tries=1))  # as a process that was killed leaves it
    jobs.add(Job("2" * 32, "k", "/v1/compose", tries=MOST_TRIES))
    jobs.work(lambda path, body: Said(text=""), stop)
    assert settled(jobs, "1" * 32).state == "done"
    assert settled(jobs, "2" * 32).state == "failed"


def test_a_job_settled_by_a_process_that_was_killed_then_is_not_done_again(
    tmp_path: Path, stop: threading.Event
) -> None:
    jobs, done = Jobs(tmp_path), []
    jobs.add(Job("1" * 32, "k", "/v1/compose", state="done", answer={"text": "once"}))  # its mark is left
    jobs.work(lambda path, body: done.append(path) or Said(text="twice"), stop)  # type: ignore[func-returns-value]
    soon(lambda: not list(tmp_path.glob("*.waiting")))
    assert not done
    assert settled(jobs, "1" * 32).answer == {"text": "once"}


@pytest.mark.parametrize("text", ["{", "[]", '{"id": "1", "colour": "blue"}'])
def test_a_file_that_is_no_job_stops_no_other(tmp_path: Path, stop: threading.Event, text: str) -> None:
    (tmp_path / f"{'1' * 32}.json").write_text(text)
    (tmp_path / f"{'1' * 32}.waiting").touch()
    jobs = Jobs(tmp_path)
    assert jobs.of("1" * 32, "k") is None
    jobs.add(Job("2" * 32, "k", "/v1/compose"))
    jobs.work(lambda path, body: Said(text="x"), stop)
    assert settled(jobs, "2" * 32).state == "done"
    soon(lambda: not list(tmp_path.glob("*.waiting")))
    assert (tmp_path / f"{'1' * 32}.json").read_text() == text


def test_jobs_of_many_workers_are_done_once(tmp_path: Path, stop: threading.Event) -> None:
    done: list[str] = []
    for n in range(20):
        Jobs(tmp_path).add(Job(f"{n:032x}", "k", "/v1/compose"))

    def work(path: str, body: Any) -> BaseModel:
        done.append(current().id)
        time.sleep(0.01)
        return Said(text="")

    for _ in range(3):
        Jobs(tmp_path).work(work, stop)
    for n in range(20):
        settled(Jobs(tmp_path), f"{n:032x}", 20)
    assert sorted(done) == [f"{n:032x}" for n in range(20)]


def test_jobs_end_when_they_are_told(tmp_path: Path, stop: threading.Event) -> None:
    jobs, begun = Jobs(tmp_path), threading.Event()
    jobs.add(Job("1" * 32, "k", "/v1/compose"))
    assert not jobs.end("1" * 32, "other")
    assert jobs.end("1" * 32, "k")
    assert settled(jobs, "1" * 32).state == "ended"

    class Ticket:
        ended = False

        def cancel(self) -> None:
            self.ended = True

    def work(path: str, body: Any) -> BaseModel:
        ticket = Ticket()
        current().add(ticket)  # type: ignore[arg-type]
        begun.set()
        while not ticket.ended:
            time.sleep(0.01)
        raise Refused("cancelled")

    jobs.add(Job("2" * 32, "k", "/v1/compose"))
    jobs.work(work, stop)
    assert begun.wait(5)
    assert not jobs.end("2" * 32, "k")  # at work: its request is ended instead
    assert cancelled("2" * 32, "k")
    assert settled(jobs, "2" * 32).state == "failed"
