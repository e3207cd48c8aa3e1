"""The same training twice gives the same bits; what differs is found and explained; several processes give
the same loss."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import copy_checkout, dvc, environment, run, run_git, set_param

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("twice")]


def test_the_line_run_twice_gives_one_bundle_and_a_clean_checkout(tiny_line: Path, tmp_path: Path) -> None:
    again = copy_checkout(tmp_path / "again")
    run(again, "profile", "tiny")
    for name in ["dvc.lock", *run_git(tiny_line, "ls-files", "reports").splitlines()]:
        (again / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tiny_line / name, again / name)
    run_git(again, "add", "-A")
    run_git(again, "commit", "-qm", "what another computer wrote")
    dvc(again, "repro")
    digests = [json.loads((top / "bundle/bundle.json").read_text())["digest"] for top in (tiny_line, again)]
    assert digests[0] == digests[1]
    assert run_git(again, "status", "--porcelain") == ""


def test_reproduce_says_that_all_is_the_same_or_what_is_not(tiny_line: Path, tmp_path: Path) -> None:
    top = tmp_path / "reproduce"
    shutil.copytree(tiny_line, top, symlinks=True)
    told = run(top, "reproduce", "pretrain").stdout
    assert "| pretrain | data/pretrain | same |" in told
    assert "bit for bit" in told
    lock = yaml.safe_load((top / "dvc.lock").read_text())
    for out in lock["stages"]["pretrain"]["outs"]:
        if out["path"] == "data/pretrain":
            out["md5"] = "0" * 32 + ".dir"
    (top / "dvc.lock").write_text(yaml.safe_dump(lock))
    told = top / "reports/pretrain/metrics.json"
    metrics = json.loads(told.read_text())
    old = "x86_64 of 1999; " + metrics["made_on"].split("; ", 1)[1]
    told.write_text(json.dumps({**metrics, "made_on": old}))
    done = run(top, "reproduce", "pretrain", check=False)
    assert done.returncode == 1
    assert "| pretrain | data/pretrain | DIFFERS |" in done.stdout
    assert "the first stage that differs is pretrain: the machine: x86_64 of 1999 then" in done.stdout
    set_param(top, "pretrain", seed=5)
    assert (
        "params.yaml is not what dvc.lock was made with"
        in run(top, "reproduce", "pretrain", check=False).stdout
    )
    assert "no stage pretraining" in run(top, "reproduce", "pretraining", check=False).stderr


def looks(top: Path) -> list[dict[str, float]]:
    with (top / "reports/pretrain/looks.csv").open() as handle:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(handle)]


def pretrain(top: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.pretrain"],
        cwd=top,
        env=environment(top),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def runs(top: Path) -> list[str]:
    """Status of every run of pretrain in the store."""
    code = (
        "import mlflow; from pipelines.running.tracking import open_experiment; i = [open_experiment()];"
        "print([r.info.status for r in mlflow.MlflowClient().search_runs(i) if "
        "r.info.run_name == 'pretrain'])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=top,
        env=environment(top),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: list[str] = yaml.safe_load(told.splitlines()[-1])
    return found


def test_two_processes_train_as_one_does(tiny_line: Path, tmp_path: Path) -> None:
    found = {}
    for processes in (1, 2):
        top = tmp_path / str(processes)
        shutil.copytree(tiny_line, top, symlinks=True)
        values = {"devices": processes, "strategy": "ddp" if processes > 1 else "auto"}
        set_param(top, "pretrain", max_steps=6, validate_every_steps=1, precision="32-true", **values)
        before = len(runs(top))
        pretrain(top)
        assert runs(top)[: len(runs(top)) - before] == ["FINISHED"], (
            "one run, whatever the number of processes"
        )
        found[processes] = looks(top)
        told = json.loads((top / "reports/pretrain/metrics.json").read_text())
        assert f"; {processes} processes; " in told["made_on"]
    assert [row["step"] for row in found[2]] == [1, 2, 3, 4, 5, 6], "as many looks as one process has"
    for one, two in zip(found[1], found[2], strict=True):
        # the first step to rounding; later ones drift apart as Muon works in bfloat16
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=2e-4)
        assert two["valid_nats_per_note"] == pytest.approx(one["valid_nats_per_note"], rel=2e-4)
    assert found[2][0]["train_loss"] == pytest.approx(found[1][0]["train_loss"], rel=1e-6)


def test_a_time_limit_cuts_all_processes_and_says_so(tiny_line: Path, tmp_path: Path) -> None:
    top = tmp_path / "cut"
    shutil.copytree(tiny_line, top, symlinks=True)
    values = {"devices": 2, "strategy": "ddp", "time_limit_min": 0.05}
    set_param(top, "pretrain", max_steps=100000, validate_every_steps=10, **values)
    pretrain(top)
    told = json.loads((top / "data/pretrain/training.json").read_text())
    assert told["cut_by_time_limit"] is True
    assert 0 < told["steps"] < 100000
