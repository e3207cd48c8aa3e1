"""Steering: what is asked comes, even of a decoder that knows nothing."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from models.decoding.grammar import Grammar
from models.decoding.locks import Locks
from models.decoding.loop import generate
from models.decoding.script import Plan
from models.decoding.steering import Steering
from models.fill.asked import chord_line
from models.fill.region import Region
from models.fill.request import FillRequest, empty
from models.tokens.labels import Labels, TrackAsk
from models.tokens.place import Told
from models.tokens.place_tracks import Standing
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import BY_NAME, cell_statistics, control_values
from music.score.form import bar_table, note_array
from tests.models.decoding.random_fills import RandomDecoder


class PlainDecoder(RandomDecoder):
    """Nearly flat scores: notes of up to two quarters, rests now and then."""

    def __init__(self, tokenizer: CellTokenizer, seed: int) -> None:
        super().__init__(len(tokenizer), 32, seed)
        self._usual = np.full(len(tokenizer), -4.0)
        for kind, count, worth in (("Duration", 24, 0.0), ("Pitch", 128, -1.0)):
            first = tokenizer.first_id[kind]
            self._usual[first : first + count] = worth

    def step(self, slots: np.ndarray, placed: np.ndarray, count: int = 1) -> np.ndarray:
        super().step(slots, placed, count)
        return self._usual + self.random.normal(size=(len(slots), self.vocabulary))


BARS = 8
PLAN = Plan(((4, 4),) * BARS, (40,))
ALONE = Locks(ranges={0: (55, 96)}, lines=frozenset({0}))


def written(tokenizer: CellTokenizer, requests: list[FillRequest]) -> list:
    decoder = PlainDecoder(tokenizer, 5)
    regions = [Region(tokenizer, request) for request in requests]
    jobs = [region.job(decoder.context, float("inf")) for region in regions]
    found = generate(decoder, Grammar(tokenizer, decoder.slots), jobs)
    return [region.answer(ids).score for region, ids in zip(regions, found, strict=True)]


def asking(name: str, index: int, seed: int, steered: bool = True) -> FillRequest:
    labels = Labels(bars=BARS, tracks=(TrackAsk(40, ((name, index),)),))
    return FillRequest(PLAN, empty(PLAN), labels, seed, locks=ALONE, steered=steered)


def values(tokenizer: CellTokenizer, name: str, steered: bool) -> tuple[list[int], list[float]]:
    classes = [index for index in range(BY_NAME[name].classes) for _ in range(6)]
    requests = [asking(name, index, seed, steered) for seed, index in enumerate(classes)]
    found = []
    for score in written(tokenizer, requests):
        length = int(bar_table(score)[:, 1].sum())
        value = control_values(cell_statistics(score)[:, 0], length, score.tpq)
        found.append(value[name] if value else 0.0)
    return classes, found


@pytest.mark.parametrize("name", ["density", "range", "note_length", "syncopation"])
def test_what_is_asked_comes_over_the_whole_range(tokenizer: CellTokenizer, name: str) -> None:
    classes, found = values(tokenizer, name, steered=True)
    untold = values(tokenizer, name, steered=False)[1]
    assert spearmanr(classes, found).statistic > 0.6
    assert abs(spearmanr(classes, untold).statistic) < 0.45, "of itself the decoder follows nothing"


def test_chords_asked_are_heard_on_the_beats(tokenizer: CellTokenizer) -> None:
    chords = chord_line(tokenizer, PLAN, " | ".join(["C", "F", "G7", "C"] * 2))

    def share(steered: bool) -> float:
        labels = Labels(bars=BARS)
        requests = [
            FillRequest(PLAN, empty(PLAN), labels, seed, locks=ALONE, chords=chords, steered=steered)
            for seed in range(24)
        ]
        inside = []
        for score in written(tokenizer, requests):
            for onset, _, pitch in note_array(score.tracks[0]).tolist():
                root = int(chords[onset, 0])
                tones = {0: (0, 4, 7), 5: (5, 9, 0), 7: (7, 11, 2, 5)}[root]
                if onset % 12 == 0:
                    inside.append(pitch % 12 in tones)
        return float(np.mean(inside))

    assert share(steered=True) > share(steered=False) + 0.1


def test_where_nothing_is_asked_nothing_is_moved_but_the_last_bar(tokenizer: CellTokenizer) -> None:
    """Same seed, same notes up to the last bar, which is written with more care."""

    def take(steered: bool) -> list[list[int]]:
        request = FillRequest(PLAN, empty(PLAN), Labels(bars=BARS), 3, locks=ALONE, steered=steered)
        notes = note_array(written(tokenizer, [request])[0].tracks[0])
        return notes[notes[:, 0] < 48 * (BARS - 1)].tolist()

    assert take(True) == take(False)


def test_only_copies_of_bars_are_made_less_likely_where_form_tells_of_a_new_one(
    tokenizer: CellTokenizer,
) -> None:
    told = Told(1, sections=((0, 0, 0), (1, 0, 0)))
    plain = Standing(0, 1, 12, 48, 12, 12, False, 0, 1, 60, 60, (), 60, ())
    steering = Steering(tokenizer)
    assert steering.lean(told, plain) is None
    lean = steering.lean(told, replace(plain, worn=(70, 75)))
    assert lean is not None
    assert lean[70] == lean[75] < 0
    assert np.count_nonzero(lean) == 2


def test_a_note_to_the_end_of_a_piece_is_likelier_the_tonic(tokenizer: CellTokenizer) -> None:
    told = Told(1, key=(2, 0))
    last = Standing(0, 1, 24, 48, 12, 24, True, 1, 1, 60, 60, (), 24, ())
    lean = Steering(tokenizer).lean(told, last)
    assert lean is not None
    assert {tokenizer[int(token)] for token in np.flatnonzero(lean)} == {
        f"Pitch_{p}" for p in range(2, 128, 12)
    }
    for other in (replace(last, closing=False), replace(last, duration=12)):
        lean = Steering(tokenizer).lean(told, other)
        assert lean is None or not lean.any()
