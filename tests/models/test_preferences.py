"""The jury recovers a taste, and no flood moves it by more than it says."""

import base64
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.labels import Labels
from models.preferences import A_MINUTE, CAP, SILENT_MASS, Jury, Preference, guarded, seat, weights_of
from models.rewards import Heard
from music.descriptors import describe
from music.score import to_midi
from tests.models.test_rewards import tune

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
REAL = [tune(seed) for seed in range(40)]
MIDI = [base64.b64encode(to_midi(score)).decode() for score in REAL]


def preference(user: str, number: int, chosen: int, rejected: int, side: str = "", seconds: int = 60) -> Preference:
    return Preference(user, (START + timedelta(seconds=seconds * number)).isoformat(timespec="milliseconds"), f"{user}-{number}-a", f"{user}-{number}-b", MIDI[chosen], MIDI[rejected], side)


def jury(preferences: list[Preference]) -> Jury:
    return seat(preferences, REAL, 12, 80)


def lover_of_steps(user: str, count: int, seed: int) -> list[Preference]:
    random = np.random.default_rng(seed)
    found = []
    for n in range(count):
        a, b = (int(i) for i in random.choice(len(REAL), 2, replace=False))
        better = describe(REAL[a])["stepwise_motion"] >= describe(REAL[b])["stepwise_motion"]
        found.append(preference(user, n, a if better else b, b if better else a, ("first", "second")[n % 2]))
    return found


def test_the_taste_of_some_users_is_recovered_on_music_they_did_not_hear() -> None:
    members = jury([p for k in range(10) for p in lover_of_steps(f"u{k}", 20, k)])
    new = [tune(seed) for seed in range(300, 360)]
    said = [members(Heard(score, Labels())) for score in new]
    steps = [describe(score)["stepwise_motion"] for score in new]
    assert np.corrcoef(said, steps)[0, 1] > 0.7


def test_nobody_moves_nothing_and_the_jury_is_the_same_when_read_again(tmp_path: object) -> None:
    from pathlib import Path

    assert jury([])(Heard(REAL[0], Labels())) == 0.5
    members = jury(lover_of_steps("u", 5, 0))
    members.save(Path(str(tmp_path)) / "jury.safetensors")
    assert Jury.load(Path(str(tmp_path)) / "jury.safetensors")(Heard(REAL[3], Labels())) == members(Heard(REAL[3], Labels()))


@settings(max_examples=12)
@given(seed=st.integers(0, 1000), users=st.integers(0, 5), flood=st.integers(1, 200))
def test_a_flood_of_one_user_moves_no_reward_beyond_the_bound(seed: int, users: int, flood: int) -> None:
    honest = [p for k in range(users) for p in lover_of_steps(f"u{k}", 8, k)]
    random = np.random.default_rng(seed)
    rows = [preference("flooder", n, *(int(i) for i in random.choice(4, 2, replace=False))) for n in range(flood)]
    before, after = jury(honest), jury([*honest, *rows])
    moved = max(abs(after(Heard(score, Labels())) - before(Heard(score, Labels()))) for score in REAL[:10])
    assert moved <= before.bound(1) <= CAP / (CAP + SILENT_MASS)


def test_floods_scripts_and_nonsense_are_quarantined_with_a_reason() -> None:
    honest = lover_of_steps("ann", 10, 1)
    both_ways = [preference("bob", 0, 1, 2), replace(preference("bob", 0, 2, 1), chosen_id="bob-0-b", rejected_id="bob-0-a")]
    script = [preference("bot", n, n % 5, 5 + n % 5, seconds=1) for n in range(A_MINUTE + 5)]
    lazy = [preference("lazy", n, n % 5, 5 + n % 5, side="first", seconds=600) for n in range(30)]
    broken = [replace(preference("cid", 0, 1, 2), chosen="AAAA"), replace(preference("cid", 1, 1, 2), time="yesterday")]
    kept, gone = guarded([*honest, *both_ways, *script, *lazy, *broken])
    assert kept == honest
    assert {why: len(rows) for why, rows in gone.items()} == {"preferred both of two": 2, f"more than {A_MINUTE} comparisons of one user in a minute": len(script), "always the same side": 30, "a score cannot be read": 2}


def test_a_user_has_at_most_the_weight_of_the_cap() -> None:
    rows = [*lover_of_steps("loud", 200, 0), *lover_of_steps("quiet", 5, 1)]
    weights = weights_of(rows)
    assert np.isclose(weights[:200].sum(), CAP) and weights[200:].sum() == 5
    assert jury(rows).masses.tolist() == [CAP, 5.0]
