import numpy as np
import pytest

from pipelines.release.gate import Check, Verdict, alignment_floors, bootstrap_upper_bound, floors
from pipelines.running.params import load_params
from tests.conftest import ROOT

GATE = load_params(ROOT / "params.yaml").gate
GOOD = {
    "validity": 1.0,
    "below_ngram": 0.3,
    "overlap_gain": 0.05,
    "obedience": {"key": {"obeyed": 0.8}},
    "originality": {"excess": 0.0},
    "music": {"model": {"tunes": {"tonic": 0.7}, "chorales": {"chords": 0.8}}},
    "controls_earned": ["density", "note_length"],
}


def test_a_good_candidate_passes_the_floors() -> None:
    assert Verdict("a" * 64, "", tuple(floors(GOOD, GATE))).passed


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("validity", {"validity": 0.995}),
        ("below_ngram", {"below_ngram": 0.05}),
        ("overlap_gain", {"overlap_gain": -0.01}),
        ("key_obedience", {"obedience": {"key": {"obeyed": 0.1}}}),
        ("originality_excess", {"originality": {"excess": 0.4}}),
        ("validity", {"validity": float("nan")}),
        ("ends_on_tonic", {"music": {"model": {"tunes": {"tonic": 0.2}, "chorales": {"chords": 0.8}}}}),
        ("chords", {"music": {"model": {"tunes": {"tonic": 0.7}, "chorales": {"chords": 0.4}}}}),
        ("controls_earned", {"controls_earned": ["density"]}),
    ],
)
def test_each_floor_can_fail_alone(name: str, change: dict[str, object]) -> None:
    verdict = Verdict("a" * 64, "", tuple(floors(GOOD | change, GATE)))
    assert [check.name for check in verdict.checks if not check.passed] == [name]
    assert f"FAIL  {name}" in str(verdict)


def test_nan_never_passes_in_either_direction() -> None:
    assert not Check("x", float("nan"), "<=", 1.0).passed
    assert not Check("x", float("nan"), ">=", -1.0).passed
    assert '"value": null' in Verdict("a", "", (Check("x", float("nan"), "<=", 1.0),)).to_json()


def test_the_bootstrap_tells_better_from_worse_and_from_equal() -> None:
    random = np.random.default_rng(0)
    notes = random.integers(50, 300, 200)
    champion = notes * random.normal(2.5, 0.4, 200)
    noise = notes * random.normal(0, 0.1, 200)
    assert bootstrap_upper_bound(champion - notes * 0.1 + noise, champion, notes, 2000, 0.95) < 0
    assert bootstrap_upper_bound(champion + notes * 0.1 + noise, champion, notes, 2000, 0.95) > 0
    assert bootstrap_upper_bound(champion, champion, notes, 2000, 0.95) == 0


ALIGNED = {
    "nats_per_note": {"ratio": 1.005},
    "distinct": {"before": 0.4, "after": 0.41},
    "overlap": {"before": 0.9, "after": 0.91},
    "copied": {"before": 0.05, "after": 0.06, "real": 0.05},
    "kept_out": {"low": -0.02, "high": 0.03},
    "reward": {"low": 0.01, "high": 0.04},
}


def test_an_alignment_that_cost_nothing_passes() -> None:
    assert all(check.passed for check in alignment_floors(ALIGNED, GATE))
    assert alignment_floors({}, GATE) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("align_nats_ratio", {"nats_per_note": {"ratio": 1.05}}),
        ("align_distinct_ratio", {"distinct": {"before": 0.4, "after": 0.2}}),
        ("align_overlap_gain", {"overlap": {"before": 0.9, "after": 0.7}}),
        ("align_copied_more", {"copied": {"before": 0.05, "after": 0.4, "real": 0.05}}),
        ("align_kept_out_upper_bound", {"kept_out": {"low": -0.3, "high": -0.1}}),
        ("align_reward_upper_bound", {"reward": {"low": -0.2, "high": -0.1}}),
    ],
)
def test_a_reward_that_was_hacked_is_refused_for_what_it_cost(name: str, change: dict[str, object]) -> None:
    assert [check.name for check in alignment_floors(ALIGNED | change, GATE) if not check.passed] == [name]
