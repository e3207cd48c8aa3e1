"""The registry of hosts that share a store: one log, one experiment, and a gate that many small steps cannot
lead down."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.release import gate as gates
from pipelines.release.gate import Check, Verdict, judge
from pipelines.running.params import Gate, load_params
from tests.conftest import ROOT

GATE = load_params(ROOT / "params.yaml").gate


def python(code: str, **variables: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", **variables}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(process: "subprocess.Popen[str]") -> str:
    out, error = process.communicate(timeout=180)
    assert process.returncode == 0, error[-3000:]
    return out.strip().splitlines()[-1]


def test_two_first_starts_at_once_make_one_experiment(tmp_path: Path) -> None:
    code = "from pipelines.running.tracking import open_experiment; print(open_experiment())"
    started = [python(code, OSTINATO_HOME=str(tmp_path)) for _ in range(3)]
    assert len({done(process) for process in started}) == 1


def test_hosts_that_share_the_store_share_the_promotion_log(tmp_path: Path) -> None:
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/shared.db"}
    first, second = ({**store, "OSTINATO_HOME": str(tmp_path / host)} for host in ("a", "b"))
    prepare = (
        "from pipelines.release import registry as r, versions as v; from "
        "pipelines.release.promotion_log import append\n"
        "client = v.open_client(); client.create_registered_model(r.MODEL)\n"
        "for n in (1, 2): client.create_model_version(r.MODEL, 'file:///nowhere', "
        "tags={'bundle_digest': f'{n}' * 64})\nfor n, before in ((1, None), (2, 1)):\n"
        "    client.set_registered_model_alias(r.MODEL, 'champion', str(n))\n"
        "    append(client, action='promoted', before=before, to=n, verdict=None, digest='', "
        "reason=f'reason {n}')\nclient.set_registered_model_alias(r.MODEL, 'previous', '1'); print('ok')"
    )
    done(python(prepare, **first))
    look = (
        "import json; from pipelines.release import registry as r, versions as v\nwith r._locked(): pass\n"
        "print(json.dumps([[row['reason'] for row in r.history()], {a: x.number for x in "
        "v.versions() for a in x.aliases}]))"
    )
    reasons, aliases = json.loads(done(python(look, **second)))
    assert reasons == ["reason 1", "reason 2"], "the other host reads why, and has nothing to recover"
    assert aliases["previous"] == 1, "and leaves the alias where it was"


class FakeBundle:
    """A bundle's evaluation, without its parts."""

    def __init__(self, name: str, nats: float, low: float = 0.01) -> None:
        self.digest, self.tag, self.runs = name * 64, name * 16, True
        pieces = {f"p{i}": {"nats": 100 * nats * (1 + 0.001 * (i % 7)), "notes": 100} for i in range(60)}
        change = {"before": 1.0, "after": 1.0, "ratio": 1.0, "high": 0.1, "low": low}
        parts = ("nats_per_note", "distinct", "overlap", "copied", "kept_out", "reward")
        metrics = {"validity": 1.0, "below_ngram": 0.5, "overlap_gain": 0.1, "originality": {"excess": 0.0}}
        metrics |= {
            "music": {"model": {"tunes": {"tonic": 0.7}, "chorales": {}}},
            "controls_earned": ["density"] * 2,
        }
        metrics |= {"obedience": {"key": {"obeyed": 0.6}}, "alignment": dict.fromkeys(parts, change)}
        self.evaluation: dict[str, Any] = {"pieces": pieces, "test_digest": "t", "metrics": metrics}


@pytest.fixture(autouse=True)
def _no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "decoding_seconds", lambda bundles: [1.0] * len(bundles))


def failed(verdict: Verdict) -> set[str]:
    return {check.name for check in verdict.checks if not check.passed}


def asked(
    candidate: float, champion: float, best: float | None = None, gate: Gate = GATE, **more: Any
) -> Verdict:
    bundles: list[Any] = [FakeBundle("a", candidate, more.pop("low", 0.01)), FakeBundle("b", champion)]
    third: Any = FakeBundle("c", best) if best is not None else None
    return judge(bundles[0], bundles[1], gate, best=third, **more)


def test_many_small_losses_are_held_against_the_best_ever() -> None:
    step = GATE.max_worse_nats - 0.005
    assert not failed(asked(1.5 + step, 1.5))
    assert failed(asked(1.5 + 2 * step, 1.5 + step, best=1.5)) == {"worse_than_best_ever_upper_bound"}


def test_an_improvement_by_feedback_must_show_one() -> None:
    assert failed(asked(1.5, 1.5, improved=True, low=-0.002)) == {"align_reward_lower_bound"}
    assert not failed(asked(1.5, 1.5, improved=True, low=0.002))
    assert not failed(asked(1.5, 1.5, low=-0.002))


def test_lowered_floors_are_named_and_cannot_follow_a_champion_that_was_held_to_all() -> None:
    low = GATE.model_copy(update={"min_below_ngram": -10.0, "max_originality_excess": 1.0})
    assert not GATE.lowered()
    verdict = asked(1.5, 1.5, gate=low, held_to_all=True)
    assert failed(verdict) == {"floors_lowered"}
    assert "min_below_ngram -10 below 0.1" in str(verdict)
    assert Verdict.of(json.loads(verdict.to_json())).lowered == verdict.lowered
    assert not failed(asked(1.5, 1.5, gate=low))


def test_a_strict_bound_is_strict() -> None:
    assert not Check("x", 0.0, ">", 0.0).passed
    assert Check("x", 1e-9, ">", 0.0).passed
    assert not Check("x", float(np.nan), ">", 0.0).passed
