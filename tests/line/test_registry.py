"""Versions, the gate, people, and models made from the champion."""

import json
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models.bundle import BundleError, copy_bundle, digest_of, open_bundle
from pipelines.release.gate import judge
from pipelines.running.params import load_params
from tests.conftest import SHARED, environment, run
from tests.places import placed_tensor
from tests.server import Server, served

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("registry")]


def test_second_model_is_refused_forced_and_rolled_back(tiny_line: Path, tmp_path: Path) -> None:
    top = tmp_path / "again"
    shutil.copytree(tiny_line, top, symlinks=True)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "run", "-S", "finetune.max_steps=20", "-S", "align.method=none"],
        cwd=top,
        env=environment(top),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert run(top, "register").stdout.startswith("version 2")
    refused = run(top, "promote", check=False)
    assert refused.returncode == 1
    assert "FAIL  worse_nats_upper_bound" in refused.stderr
    assert "champion stays version 1" in refused.stderr
    assert "--force needs --reason" in run(top, "promote", "--force", check=False).stderr
    follow_promotion_and_rollback(top)
    listing = run(top, "versions").stdout
    for word in ("refused", "forced", "rolled back", "trying the worse one"):
        assert word in listing
    assert re.search(r"1  \w{16}  champion", listing)
    assert re.search(r"2  \w{16}  previous", listing)


def follow_promotion_and_rollback(top: Path) -> None:
    """A running service answers with what is champion, and drops nothing while it changes."""
    with served(top) as server:
        statuses, over = list[int](), threading.Event()

        def keep_asking() -> None:
            while not over.is_set():
                statuses.append(server.ask("/v1/compose", {"bars": 2, "seed": len(statuses)})[0])

        asking = [threading.Thread(target=keep_asking) for _ in range(3)]
        for thread in asking:
            thread.start()
        first = server.ask("/v1/model")[1]["model"]
        run(top, "promote", "--force", "--reason", "trying the worse one")
        second = answered_by(server, lambda told: told["version"] == "2")
        assert "champion: version 1 (was 2)" in run(top, "rollback", "--reason", "it was worse").stdout
        assert answered_by(server, lambda told: told["version"] == "1") == first
        over.set()
        for thread in asking:
            thread.join()
        assert set(statuses) == {200}
        metrics = server.ask("/metrics")[1]
        assert re.search(r"ostinato_serves_promoted(\{.*\})? 1.0", metrics)
        assert f'model="{second[:16]}"' in metrics
    assert first != second


def answered_by(server: Server, when: Callable[[Any], bool]) -> str:
    """Digest of the model that answers, as soon as it is the one that is waited for."""
    until = time.monotonic() + 60
    while not when(told := server.ask("/v1/model")[1]):
        assert time.monotonic() < until, "the service did not follow"
        time.sleep(0.2)
    return str(told["model"])


def test_people_compare_two_models_and_the_loop_learns_from_them(tiny_line: Path, tmp_path: Path) -> None:
    top = tmp_path / "improved"
    shutil.copytree(tiny_line, top, symlinks=True)
    params = (top / "params.yaml").read_text()
    (top / "params.yaml").write_text(params.replace("fewest_new: 20 ", "fewest_new: 3 "))
    compared = subprocess.run(
        [
            sys.executable,
            "-m",
            "pipelines.commands.app",
            "rate",
            "--pairs",
            "4",
            "--bars",
            "4",
            "--seed",
            "3",
            "--log",
            "said",
        ],
        cwd=top,
        env=environment(top),
        input="1\n2\n=\n1\n",
        capture_output=True,
        text=True,
    )
    assert compared.returncode == 0, compared.stderr
    assert (top / "rate/first.mid").is_file() and (top / "rate/second.png").is_file()
    assert "no two models have been compared yet" in compared.stdout
    before = len(run(top, "versions").stdout)
    done = run(top, "improve", "--log", "said")
    assert "version 2 is registered, not promoted" in done.stdout
    assert len(run(top, "versions").stdout) > before
    told = (top / "reports/improve.md").read_text()
    assert "Learned from 3 comparisons of 1 users" in told and "| style |" in told
    assert "nothing to do: 0 new" in run(top, "improve", "--log", "said").stdout
    against = ["rate", "--against", "2", "--pairs", "2", "--bars", "4", "--seed", "9", "--log", "said"]
    duel = subprocess.run(
        [sys.executable, "-m", "pipelines.commands.app", *against],
        cwd=top,
        env=environment(top),
        input="1\n1\n",
        capture_output=True,
        text=True,
    )
    assert re.search(r"\w{16} against \w{16}: \d won, \d lost, 0 alike", duel.stdout), (
        duel.stdout + duel.stderr
    )
    with served(
        top,
        OSTINATO_RIVAL=str(top / ".ostinato/bundles" / open_bundle(top / "bundle").tag),
        OSTINATO_LOG=str(top / "said"),
    ) as rivals:
        pair = rivals.ask("/v1/pair", {"style": "irish", "bars": 4})[1]
        assert (
            rivals.ask(
                "/v1/feedback",
                {
                    "user": "eva",
                    "event": "tie",
                    "item": pair["takes"][0]["id"],
                    "over": pair["takes"][1]["id"],
                },
            )[0]
            == 200
        )
        (found,) = rivals.ask("/v1/wins")[1]["duels"]
        assert (
            found["won"] + found["lost"] == 2
            and found["tied"] == 1
            and found["low"] < found["rate"] < found["high"]
        )


def test_two_promotes_at_once_leave_one_champion_and_a_whole_log(tiny_line: Path, tmp_path: Path) -> None:
    top = tmp_path / "race"
    shutil.copytree(tiny_line, top, symlinks=True)
    command = [
        sys.executable,
        "-m",
        "pipelines.commands.app",
        "promote",
        "--version",
        "1",
        "--force",
        "--reason",
        "race",
    ]
    both = [
        subprocess.Popen(
            command, cwd=top, env=environment(top), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    assert [process.wait(180) for process in both] == [0, 0]
    told = run(top, "versions").stdout
    assert told.count("promoted") == 1, "version 1 was champion already: nothing to log"


def test_the_champion_is_exported_for_other_engines(tiny_line: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    run(tiny_line, "export", str(tmp_path / "hf"), "--format", "hf")
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "hf").eval()
    placed = placed_tensor(torch.randint(0, theirs.config.vocab_size, (1, 40)), theirs.config.vocab_size)
    network = open_bundle(tiny_line / "bundle").network
    with torch.inference_mode():
        logits = theirs(inputs_embeds=network.embed(placed)).logits
        torch.testing.assert_close(logits, network(placed), atol=1e-3, rtol=1e-3)
    assert "inputs_embeds" in (tmp_path / "hf" / "README.md").read_text()
    assert (
        "is not known"
        in run(tiny_line, "export", str(tmp_path / "x"), "--format", "gguf", check=False).stderr
    )


def test_a_folder_of_songs_is_learned_on_top_of_the_champion(tiny_line: Path, tmp_path: Path) -> None:
    packed = SHARED / "data/lieder.tar.gz"
    if not packed.exists():
        pytest.skip("the Lieder archive lies beside the checkout in development and CI only")
    top = tmp_path / "mine"
    shutil.copytree(tiny_line, top, symlinks=True)
    with tarfile.open(packed) as archive:
        archive.extractall(
            tmp_path / "songs",
            members=[m for m in archive.getmembers() if m.name.endswith(".mid")][:60],
            filter="data",
        )
    assert (
        "no licence class"
        in run(
            top, "finetune", str(tmp_path / "songs"), "--name", "lieder", "--licence", "mine", check=False
        ).stderr
    )
    (top / "params.yaml").write_text(
        (top / "params.yaml").read_text().replace("max_steps: 40", "max_steps: 20")
    )
    run(
        top,
        "finetune",
        str(tmp_path / "songs"),
        "--name",
        "lieder",
        "--licence",
        "public-domain",
        "--style",
        "lied",
        "--method",
        "lora",
        "--steps",
        "20",
    )
    metrics = json.loads((top / "reports/metrics.json").read_text())
    assert metrics["training"]["pretrain"]["steps"] == 0
    assert metrics["by_collection"]["lieder"]["pieces"] > 0
    assert "lied" in open_bundle(top / "bundle").tokenizer.styles
    assert run(top, "register").stdout.startswith("version 2")


def test_a_changed_bundle_is_refused(tiny_line: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_line / "bundle", tmp_path / "bundle")
    (tmp_path / "bundle/config.json").write_text("{}")
    with pytest.raises(BundleError, match=r"changed after it was sealed \(config.json\)"):
        open_bundle(tmp_path / "bundle")
    (tmp_path / "bundle/config.json").unlink()
    with pytest.raises(BundleError, match=r"lacks config.json"):
        open_bundle(tmp_path / "bundle")


def test_a_bundle_of_an_older_format_is_kept_and_asks_for_a_word_before_it_is_followed(
    tiny_line: Path, tmp_path: Path
) -> None:
    old = tmp_path / "bundle"
    shutil.copytree(tiny_line / "bundle", old)
    manifest = json.loads((old / "bundle.json").read_text())
    (old / "judges.safetensors").unlink()
    del manifest["files"]["judges.safetensors"]
    manifest |= {"format": 1, "digest": digest_of(manifest["files"])}
    (old / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="has format 1"):
        open_bundle(old)
    found = open_bundle(old, older=True)
    (tmp_path / "copy").mkdir()
    copy_bundle(found, tmp_path / "copy")
    assert open_bundle(tmp_path / "copy", older=True).digest == found.digest
    verdict = judge(open_bundle(tiny_line / "bundle"), found, load_params(tiny_line / "params.yaml").gate)
    assert [check.name for check in verdict.checks if not check.passed] == ["champion_can_be_run"]
    with pytest.raises(BundleError, match="--force --reason"):
        _ = found.network
