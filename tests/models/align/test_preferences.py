"""The jury recovers a taste, and no flood moves it by more than it says."""

import base64
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.align.parts import Heard
from models.align.preferences import A_MINUTE, A_SEAT, CAP, SEATS, Jury, Preference, guarded, seat, weights_of
from models.align.rewards_file import load_rewards, save_rewards
from models.tokens.labels import Labels
from music.analysis.descriptors import describe
from music.score.form import to_midi
from tests.models.align.test_rewards import rewards, tune

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
REAL = [tune(seed) for seed in range(40)]
MIDI = [base64.b64encode(to_midi(score)).decode() for score in REAL]


def preference(
    user: str, number: int, chosen: int, rejected: int, side: str = "", seconds: int = 60
) -> Preference:
    return Preference(
        user,
        (START + timedelta(seconds=seconds * number)).isoformat(timespec="milliseconds"),
        f"{user}-{number}-a",
        f"{user}-{number}-b",
        MIDI[chosen],
        MIDI[rejected],
        side,
    )


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


def test_nobody_moves_nothing_and_the_jury_is_the_same_when_read_again(tmp_path: Path) -> None:
    assert jury([])(Heard(REAL[0], Labels())) == 0.5
    for members in (jury(lover_of_steps("u", A_SEAT * SEATS, 0)), None):
        stored = replace(rewards(), learned=members, learned_share=0.4 if members else 0.0)
        save_rewards(tmp_path / "rewards.safetensors", stored)
        again = load_rewards(tmp_path / "rewards.safetensors", stored.tools.judges, stored.tools.runs)
        assert (again.learned is None) == (members is None)
        assert [again.total(Heard(score, Labels("irish", key="G major"))) for score in REAL[:5]] == [
            stored.total(Heard(score, Labels("irish", key="G major"))) for score in REAL[:5]
        ]


@settings(max_examples=12)
@given(seed=st.integers(0, 1000), users=st.integers(0, 5), flood=st.integers(1, 200))
def test_a_flood_of_one_user_moves_no_reward_beyond_the_bound(seed: int, users: int, flood: int) -> None:
    honest = [p for k in range(users) for p in lover_of_steps(f"u{k}", 8, k)]
    random = np.random.default_rng(seed)
    rows = [
        preference("flooder", n, *(int(i) for i in random.choice(4, 2, replace=False))) for n in range(flood)
    ]
    before, after = jury(honest), jury([*honest, *rows])
    moved = max(abs(after(Heard(score, Labels())) - before(Heard(score, Labels()))) for score in REAL[:10])
    assert moved <= before.bound(1) < 0.33  # of the jury's share


def test_floods_scripts_and_nonsense_are_quarantined_with_a_reason() -> None:
    honest = lover_of_steps("ann", 10, 1)
    both_ways = [
        preference("bob", 0, 1, 2),
        replace(preference("bob", 0, 2, 1), chosen_id="bob-0-b", rejected_id="bob-0-a"),
    ]
    script = [preference("bot", n, n % 5, 5 + n % 5, seconds=1) for n in range(A_MINUTE + 5)]
    lazy = [preference("lazy", n, n % 5, 5 + n % 5, side="first", seconds=600) for n in range(30)]
    broken = [
        replace(preference("cid", 0, 1, 2), chosen="AAAA"),
        replace(preference("cid", 1, 1, 2), time="yesterday"),
    ]
    kept, gone = guarded([*honest, *both_ways, *script, *lazy, *broken])
    assert kept == honest
    assert {why: len(rows) for why, rows in gone.items()} == {
        "preferred both of two": 2,
        f"more than {A_MINUTE} comparisons of one user in a minute": len(script),
        "always the same side": 30,
        "a score cannot be read": 2,
    }


def tossed(user: str, count: int, seed: int) -> list[Preference]:
    random = np.random.default_rng((seed, 1))
    return [
        preference(
            user,
            n,
            *(int(i) for i in random.choice(len(REAL), 2, replace=False)),
            side=("first", "second")[n % 2],
        )
        for n in range(count)
    ]


def test_tossed_coins_have_next_to_no_voice_and_a_taste_has() -> None:
    new = [tune(seed) for seed in range(300, 360)]
    spread, weight = {}, {}
    for name, say in (("coin", tossed), ("taste", lover_of_steps)):
        rows = [p for k in range(20) for p in say(f"u{k}", 20, k)]
        members = jury(rows)
        spread[name], weight[name] = (
            float(members.verdicts(new).std()),
            float(weights_of(rows, members, 12, 80).mean()),
        )
    assert spread["coin"] < 0.01 < 5 * spread["coin"] < spread["taste"], spread
    assert weight["coin"] < 0.1, weight
    assert weight["taste"] > 0.5, weight


@pytest.mark.parametrize("before", [0, 5, 20, 40, 80, 400, 4000])
def test_the_bound_is_at_most_what_the_docs_say(before: int) -> None:
    members = Jury(np.zeros(1), np.ones(1), np.zeros((1, 1)), np.array([float(before)]))
    assert 0 < members.bound(1) <= 0.13 / 0.4 + 1e-3 and members.bound(1) <= members.bound(2) <= 1


def test_one_user_speaks_when_what_they_say_agrees_with_itself() -> None:
    new = [tune(seed) for seed in range(300, 330)]
    assert (
        np.ptp(jury(lover_of_steps("ann", 3 * A_SEAT - 1, 0)).verdicts(new)) == 0
    )  # two seats agree by chance too
    members = jury(lover_of_steps("ann", A_SEAT * SEATS, 0))
    assert (
        np.corrcoef(members.verdicts(new), [describe(score)["stepwise_motion"] for score in new])[0, 1] > 0.5
    )


def test_a_user_has_at_most_the_weight_of_the_cap() -> None:
    rows = [*lover_of_steps("loud", 200, 0), *lover_of_steps("quiet", 5, 1)]
    members = jury(rows)
    weights = weights_of(rows, members, 12, 80)
    assert (
        np.isclose(weights[:200].max(), CAP / 200)
        and 0 < weights[:200].sum() <= CAP
        and weights[200:].sum() <= 5
    )
    assert members.masses.tolist() == [CAP / SEATS] * SEATS + [5.0]
