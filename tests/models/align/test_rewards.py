"""Rewards: real music is worth most, over-regular and wild music lose, and a fault points at the note that
makes it."""

import numpy as np
import pytest
from symusic import Score

from models.align.parts import NAMES, Heard, Tools
from models.align.rewards import Reference, Rewards, metre_profiles, worth
from models.tokens.labels import Labels
from music.analysis.endings import ends_on_tonic, key_margin
from music.analysis.similarity import RunIndex, distinct_ngrams, melody
from music.analysis.voices import parallels, voice_grid
from music.score.form import build, note_array
from tests.conftest import TPQ

SCALE = np.array([0, 2, 4, 5, 7, 9, 11, 12])


def tune(seed: int, bars: int = 8) -> Score:
    """A walk up and down G major in quavers and crotchets that ends on its tonic."""
    random = np.random.default_rng(seed)
    notes, time, step = [], 0, 3
    while time < 48 * bars - 24:
        length = int(random.choice([6, 6, 12, 12, 24]))
        step = int(np.clip(step + random.choice([-2, -1, -1, 1, 1, 2]), 0, 7))
        notes.append((time, min(length, 48 * bars - 24 - time), 67 + int(SCALE[step])))
        time += length
    return build([(40, False, np.array([*notes, (48 * bars - 24, 24, 67)]))], [(0, 4, 4)], TPQ, 80)


def rewards(weights: dict[str, float] | None = None) -> Rewards:
    real = [tune(seed) for seed in range(60)]
    other = [line for seed in range(100, 110) for line in melody(tune(seed))]
    tools = Tools({}, metre_profiles(real), RunIndex(other, list(range(len(other)))))
    labels = Labels("irish", key="G major", bars=8)
    return Rewards(
        weights or dict.fromkeys(NAMES, 1.0),
        tools,
        Reference.of([Heard(score, labels) for score in real], tools),
    )


@pytest.fixture(scope="module")
def judged() -> Rewards:
    return rewards()


def total(judged: Rewards, score: Score, key: str = "G major") -> float:
    return judged.total(Heard(score, Labels("irish", key=key, bars=8)))


def test_music_that_is_too_regular_loses(judged: Rewards) -> None:
    one_note = build([(40, False, np.array([(12 * i, 12, 67) for i in range(32)]))], [(0, 4, 4)], TPQ, 80)
    one_bar = build(
        [
            (
                40,
                False,
                np.array(
                    [(48 * b + 12 * i, 12, 67 + p) for b in range(8) for i, p in enumerate((0, 4, 7, 4))]
                ),
            )
        ],
        [(0, 4, 4)],
        TPQ,
        80,
    )
    real = np.mean([total(judged, tune(seed)) for seed in range(200, 220)])
    assert total(judged, one_note) < real - 0.2
    assert total(judged, one_bar) < real - 0.2


def test_music_that_is_too_wild_loses(judged: Rewards) -> None:
    random = np.random.default_rng(0)
    wild = build(
        [(40, False, np.array([(3 * i, 3, int(random.integers(30, 100))) for i in range(128)]))],
        [(0, 4, 4)],
        TPQ,
        80,
    )
    assert total(judged, wild) < np.mean([total(judged, tune(seed)) for seed in range(200, 220)]) - 0.2


def test_the_asked_key_is_worth_more_than_another(judged: Rewards) -> None:
    assert total(judged, tune(200)) > total(judged, tune(200), key="Db major")


def test_nothing_is_won_beyond_what_real_music_does() -> None:
    real = np.linspace(0.2, 0.8, 50)
    assert worth("reach", 0.55, real) == worth("reach", 1.0, real) == 1.0
    assert worth("reach", 0.3, real) < 1
    assert worth("near", 0.5, real) == 1.0
    assert worth("near", 0.0, real) == worth("near", 1.0, real) == 0.0
    assert worth("rare", 0.0, real) == 1.0 > worth("rare", 10.0, real) > worth("rare", 20.0, real)


def chorale(bass: list[int]) -> Score:
    voices = [[67, 69, 71, 67], [64, 64, 67, 64], [60, 60, 62, 60], bass]
    return build(
        [(52, False, np.array([(12 * i, 12, p) for i, p in enumerate(voice)])) for voice in voices],
        [(0, 4, 4)],
        TPQ,
        80,
    )


def test_wrong_pitches_are_those_that_make_parallels_with_a_voice_above(judged: Rewards) -> None:
    labels = Labels("chorale", key="C major", bars=1)
    heard = Heard(chorale([43, 45, 43, 48]), labels)  # soprano G-A over bass G-A: octaves
    assert heard.voices is not None and heard.voices.parallel_octaves > 0
    wrong = rewards({"octaves": 1.0}).faults(heard)
    assert note_array(heard.score.tracks[3])[1, 2] == 45 and wrong[3, 1][45] >= 1
    grid = voice_grid(heard.score, TPQ // 2)
    for (track, number), pitches in wrong.items():
        for pitch in (50, *pitches):
            other = grid.copy()
            onset, duration, _ = note_array(heard.score.tracks[track])[number]
            other[onset * 2 // TPQ : (onset + duration) * 2 // TPQ, track] = pitch
            step = onset * 2 // TPQ
            made = sum(each.step == step and each.low == track for each in parallels(other))
            assert made == pitches.get(pitch, 0), (track, number, pitch)
    assert rewards({"style": 1.0}).faults(heard) == {}
    assert judged.faults(heard)[0, 0][30] == 1.0, "out of the soprano's compass"


def test_endings_and_key_are_what_a_musician_says() -> None:
    assert ends_on_tonic(tune(3), "G major") == (True, True)
    assert ends_on_tonic(tune(3), "A major") == (False, False)
    profile = np.zeros(12)
    profile[[7, 9, 11, 0, 2, 4, 6]] = [4, 2, 3, 2, 3, 2, 1]
    assert key_margin(profile, "G major") > 0 > key_margin(profile, "Db minor")


def test_a_line_that_repeats_has_few_distinct_ngrams() -> None:
    line = np.array([24, 26, 22, 28] * 10)
    assert distinct_ngrams([line], 4) == 4 / 37
    assert distinct_ngrams([line[:4]], 4) == 1.0
    assert distinct_ngrams([line[:3]], 4) == 0.0
