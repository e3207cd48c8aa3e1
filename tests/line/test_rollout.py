"""The drill: a challenger that is worse answers a share of users, and is turned away by itself."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.bundle import MANIFEST, digest_of, file_digests, open_bundle
from tests.conftest import run
from tests.server import Server, served

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("registry")]


def spoilt(bundle: Path, target: Path) -> Path:
    """The same bundle with noise for weights, sealed: it answers, and its music is no music."""
    shutil.copytree(bundle, target)
    graph = onnx.load(str(target / "decoder.onnx"))
    chance = np.random.default_rng(1)
    for weights in graph.graph.initializer:
        values = numpy_helper.to_array(weights)
        if values.dtype.kind in "iu" and values.ndim == 2:
            values = chance.permutation(values.reshape(-1)).reshape(values.shape)
        elif values.dtype.kind == "f" and values.ndim == 2:
            values = chance.permuted(values)
        weights.CopyFrom(numpy_helper.from_array(values, weights.name))
    onnx.save(graph, str(target / "decoder.onnx"))
    manifest = json.loads((target / MANIFEST).read_text())
    manifest["files"] = file_digests(target)
    manifest["digest"] = digest_of(manifest["files"])
    (target / MANIFEST).write_text(json.dumps(manifest))
    return target


def ask_as(server: Server, users: range) -> dict[str, int]:
    """How many of these users each model answered."""
    found: dict[str, int] = {}
    for user in users:
        status, answer = server.ask("/v1/compose", {"bars": 4, "seed": user}, user=f"u{user}")
        assert status == 200, answer
        found[answer["model"]] = found.get(answer["model"], 0) + 1
    return found


def test_a_canary_that_is_worse_is_turned_away_by_itself(tiny_line: Path, tmp_path: Path) -> None:
    top = tmp_path / "line"
    shutil.copytree(tiny_line, top, symlinks=True)
    params = (top / "params.yaml").read_text()
    (top / "params.yaml").write_text(params.replace("  fewest: 30  ", "  fewest: 12  "))
    champion, worse = (
        open_bundle(top / "bundle").tag,
        open_bundle(spoilt(top / "bundle", tmp_path / "worse")).tag,
    )
    run(top, "register", "--bundle", str(tmp_path / "worse"))
    with served(top, OSTINATO_LOG=str(tmp_path / "log")) as server:
        assert set(ask_as(server, range(4))) == {champion}
        assert "no rollout" in run(top, "rollout", "status", check=False).stderr
        assert "is the champion" in run(top, "rollout", "canary", "champion", check=False).stderr
        run(top, "rollout", "shadow")
        until = time.monotonic() + 60
        while 'outcome="answered"' not in server.ask("/metrics")[1]:
            assert set(ask_as(server, range(2))) == {champion}  # nobody sees the shadow
            assert time.monotonic() < until, "the shadow was never asked"
        run(top, "rollout", "end")
        run(top, "rollout", "canary", "--share", "0.5")
        until, tried = time.monotonic() + 90, set[str]()
        while True:
            tried |= set(ask_as(server, range(20)))
            told = run(top, "rollout", "status", "--log", str(tmp_path / "log")).stdout
            if "turned away" in told:
                break
            assert time.monotonic() < until, told
        assert tried == {champion, worse}
        assert "surprises" in told, told
        time.sleep(2)
        assert set(ask_as(server, range(20))) == {champion}
        assert "ostinato_rollouts_aborted_total 1.0" in server.ask("/metrics")[1]
