"""The whole line for real on the tiny profile: dvc repro, registry, gate, bento, and the served bento."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from symusic import Score

from models.bundle import open_bundle
from tests.conftest import copy_checkout, environment, run
from tests.server import free_port

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("line")]


def test_every_output_is_there_and_the_bundle_is_sealed(tiny_line: Path) -> None:
    metrics = json.loads((tiny_line / "reports/metrics.json").read_text())
    assert metrics["validity"] == 1.0
    assert 0 < metrics["nats_per_note"] < metrics["uniform_nats_per_note"]
    listed = json.loads((tiny_line / "samples/index.json").read_text())
    assert {"compose", "continue", "infill", "harmonise", "one voice"} == {
        sample["task"] for sample in listed
    }
    for sample in listed:
        assert Score.from_midi((tiny_line / "samples" / sample["file"]).read_bytes()).note_num() > 0
        assert (tiny_line / "samples" / sample["file"]).with_suffix(".png").is_file()
    assert {"key", "density", "syncopation", "density of a bar"} <= set(metrics["obedience"])
    assert {"continue 8 bars", "infill 4 bars", "harmonise"} <= set(metrics["fill"])
    assert metrics["structure"]["4 bars"]["test"] > 0
    assert abs(metrics["decoder"]["eight_bit_lost"]) < 0.05
    bundle = open_bundle(tiny_line / "bundle")
    assert bundle.lineage["licence"] == "non-commercial"
    assert "Licence class: non-commercial" in (tiny_line / "bundle/MODEL_CARD.md").read_text()
    assert bundle.network.parameter_count() == metrics["training"]["parameters"]


def test_training_was_tracked_with_its_data(tiny_line: Path) -> None:
    code = (
        "import mlflow, json; from pipelines.running.tracking import open_experiment; e = open_experiment();"
        "r = [r for r in mlflow.MlflowClient().search_runs([e]) if r.info.run_name == 'pretrain'][0];"
        "print(json.dumps([sorted(r.data.metrics), r.data.tags, "
        "[d.dataset.digest for d in r.inputs.dataset_inputs], r.data.params.get('batch_size')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tiny_line,
        env=environment(tiny_line),
        capture_output=True,
        text=True,
        check=True,
    )
    names, tags, digests, batch = json.loads(done.stdout.splitlines()[-1])
    assert {"train_loss", "learning_rate", "tokens_per_s", "valid_nats_per_note"} <= set(names)
    assert any(name.startswith("system/") for name in names)
    assert (tags["DVC_STAGE"], batch, len(digests)) == ("pretrain", "8", 2)
    assert tags["bundle_digest"] == open_bundle(tiny_line / "bundle").digest


def test_a_second_run_computes_nothing_and_changes_nothing(tiny_line: Path) -> None:
    before = run(tiny_line, "versions").stdout
    done = run(tiny_line, "repro")
    assert "Running stage" not in done.stdout
    assert run(tiny_line, "versions").stdout == before
    assert before.count("promoted") == 1


@pytest.mark.parametrize("stage", ["pretrain", "finetune", "align"])
def test_a_killed_training_resumes_to_the_same_weights(tiny_line: Path, tmp_path: Path, stage: str) -> None:
    top = tmp_path / "killed"
    shutil.copytree(tiny_line, top, symlinks=True)
    shutil.rmtree(top / f"data/{stage}")
    process = subprocess.Popen(
        [sys.executable, "-m", f"pipelines.{stage}"],
        cwd=top,
        env=environment(top),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while (
        not list((top / f".ostinato/{stage}").glob("*/last.ckpt"))
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (top / f"data/{stage}/model.safetensors").exists(), (
        "the run must be killed before it ends for this test to mean anything"
    )
    done = subprocess.run(
        [sys.executable, "-m", f"pipelines.{stage}"],
        cwd=top,
        env=environment(top),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    resumed, unbroken = (load_file(where / f"data/{stage}/model.safetensors") for where in (top, tiny_line))
    apart = {
        name: float(abs(resumed[name] - unbroken[name]).max())
        for name in unbroken
        if (resumed[name] != unbroken[name]).any()
    }
    assert not apart, (
        apart,
        [json.loads((where / f"data/{stage}/training.json").read_text()) for where in (top, tiny_line)],
    )
    for name in (
        f"data/{stage}/training.json",
        f"reports/{stage}/looks.csv",
        f"reports/{stage}/metrics.json",
    ):
        assert (top / name).read_text() == (tiny_line / name).read_text(), f"{name} is as it would have been"
    assert not list((top / f".ostinato/{stage}").glob("*/last.ckpt"))


@pytest.mark.parametrize("stage", ["ingest", "prepare", "tokenise", "evaluate"])
def test_a_stage_killed_half_way_is_run_again_and_ends_whole(
    tiny_line: Path, tmp_path: Path, stage: str
) -> None:
    top = tmp_path / "stage"
    shutil.copytree(tiny_line, top, symlinks=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "-f", "-s", stage],
        cwd=top,
        env=environment(top),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(4)
    import os

    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = run(top, "repro", check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    open_bundle(top / "bundle")


def test_two_repros_at_once_do_not_harm_each_other(tiny_line: Path, tmp_path: Path) -> None:
    top = tmp_path / "two"
    shutil.copytree(tiny_line, top, symlinks=True)
    first = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "-f", "-s", "prepare"],
        cwd=top,
        env=environment(top),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(3)
    second = run(top, "repro", check=False)
    first.wait(180)
    assert second.returncode == 0 or "another `dvc repro` is at work" in second.stderr
    assert run(top, "repro").returncode == 0


def test_commands_before_there_is_anything_say_what_to_run(tmp_path: Path) -> None:
    top = copy_checkout(tmp_path / "empty")
    for command, message in (
        (["serve", "--port", str(free_port())], "no champion yet: run `make repro`"),
        (["promote"], "no version is registered yet"),
        (["rollback"], "no previous champion"),
        (["register"], "no bundle in bundle"),
    ):
        done = run(top, *command, check=False)
        assert done.returncode == 1
        assert message in done.stderr


def test_a_misspelt_param_stops_the_line_before_any_work(tmp_path: Path) -> None:
    top = copy_checkout(tmp_path / "wrong")
    params = (top / "params.yaml").read_text()
    (top / "params.yaml").write_text(params.replace("  batch_size: 8 ", "  batch_sise: 8 "))
    done = run(top, "repro", check=False)
    assert done.returncode == 1
    assert "did you mean 'batch_size'" in done.stderr
    (top / "params.yaml").write_text(
        params.replace(
            "licences: [public-domain, permissive, share-alike, unstated, non-commercial]  # classes",
            "licences: [public-domain]  # classes",
        ).replace("max_pieces_per_source: 0", "max_pieces_per_source: 3")
    )
    done = run(top, "repro", check=False)
    assert done.returncode == 1
    assert "no piece has a licence class that prepare.licences lets in" in done.stderr + done.stdout
