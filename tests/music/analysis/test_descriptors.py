import numpy as np
import pytest
from hypothesis import given
from symusic import Score

from music.analysis.descriptors import NAMES, describe, histograms
from music.analysis.overlap import overlap
from music.analysis.similarity import RunIndex, groups_of, melody, ngram_codes, similar_pairs
from music.score.form import build
from tests.conftest import TPQ, normal_scores


def tune(pitches: list[int], duration: int = 12, metre: tuple[int, int] = (4, 4)) -> Score:
    return build(
        [(40, False, np.array([(i * duration, duration, p) for i, p in enumerate(pitches)]))],
        [(0, *metre)],
        TPQ,
        80,
    )


SCALE = [60, 62, 64, 65, 67, 69, 71, 72]


def test_a_scale_in_crotchets_is_what_a_musician_would_say() -> None:
    facts = describe(tune(SCALE))
    assert facts["note_density"] == 1
    assert facts["polyphony"] == 1
    assert facts["pitch_range"] == 12
    assert facts["mean_note_length"] == 1
    assert facts["note_length_entropy"] == 0
    assert facts["stepwise_motion"] == 1
    assert facts["syncopation"] == 0
    assert facts["bar_repetition"] == 0
    assert facts["key_clarity"] > 0.75


def test_repeated_bars_thick_chords_and_syncopation_are_seen() -> None:
    assert describe(tune(SCALE[:4] * 4))["bar_repetition"] == 0.75
    chord = build([(0, False, np.array([(0, 48, 60), (0, 48, 64), (0, 48, 67)]))], [(0, 4, 4)], TPQ, 80)
    assert describe(chord)["polyphony"] == 3
    off = build([(0, False, np.array([(6, 12, 60), (18, 12, 62), (30, 12, 64)]))], [(0, 4, 4)], TPQ, 80)
    assert describe(off)["syncopation"] == 1


@given(normal_scores())
def test_every_descriptor_is_finite_and_histograms_sum_to_one(score: Score) -> None:
    facts = describe(score)
    assert tuple(facts) == NAMES
    assert np.isfinite(list(facts.values())).all()
    if any(not track.is_drum for track in score.tracks):
        assert histograms(score)["pitch_class_histogram"].sum() == pytest.approx(1)


def test_transposed_tunes_are_near_duplicates_and_others_are_not() -> None:
    random = np.random.default_rng(0)
    tunes = [random.integers(60, 80, 60).tolist() for _ in range(4)]
    tunes.append([p + 5 for p in tunes[1]])
    tunes.append(tunes[2][:50] + random.integers(60, 80, 10).tolist())
    grams = [ngram_codes(melody(tune(pitches)), 6) for pitches in tunes]
    assert similar_pairs(grams, 0.5).tolist() == [[1, 4], [2, 5]]
    groups = groups_of(similar_pairs(grams, 0.5), 6)
    assert len(set(groups.tolist())) == 4
    assert groups[1] == groups[4]


def test_the_longest_shared_run_is_found_in_any_key() -> None:
    random = np.random.default_rng(1)
    lines = [melody(tune(random.integers(55, 85, 100).tolist()))[0] for _ in range(5)]
    index = RunIndex(lines, owners=[10, 11, 12, 13, 14])
    query = np.concatenate([random.integers(0, 49, 20), lines[3][40:57], random.integers(0, 49, 20)])
    run, owner = index.longest_run([query])
    assert owner == 13
    assert run == 16, "17 shared intervals, told as the step of RunIndex.LENGTHS below"
    assert index.longest_run([lines[3]], exclude=13)[0] < 6
    assert index.longest_run([np.array([1, 2, 3])]) == (0, -1)


def test_overlap_is_near_one_with_its_like_and_lower_with_its_unlike() -> None:
    random = np.random.default_rng(2)

    def calm() -> Score:
        return tune((60 + np.cumsum(random.choice([-2, -1, 1, 2], 40)) % 24).tolist(), duration=6)

    def wild() -> Score:
        return tune(random.integers(30, 100, 40).tolist(), duration=int(random.choice([1, 24])))

    reference, same, other = ([make() for _ in range(40)] for make in (calm, calm, wild))
    assert overlap(reference, same, 0)["mean"]["oa"] > 0.85
    assert overlap(reference, other, 0)["mean"]["oa"] < 0.5
