"""Classifiers that name the style or the dance of a piece from its descriptors: the judges of style obedience. Trained on the train split."""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from symusic import Score

from music.descriptors import NAMES, describe, histograms
from music.score import bar_table, note_array

GRID = 16  # onset profile: the bar in sixteen parts


def features(score: Score) -> np.ndarray:
    """Descriptors, histograms of note lengths and intervals, where in the bar notes start, bar length and number of tracks; no pitch or key."""
    table, vectors, scalars = bar_table(score), histograms(score), describe(score)
    notes = np.concatenate([note_array(track) for track in score.tracks])
    bar = np.searchsorted(table[:, 0], notes[:, 0], side="right") - 1
    where = ((notes[:, 0] - table[bar, 0]) * GRID // np.maximum(table[bar, 1], 1)).clip(0, GRID - 1)
    onsets = np.bincount(where, minlength=GRID) / len(notes)
    shape = [float(np.median(table[:, 1])) / score.tpq, float(table[0, 2] % 3 == 0), float(len(score.tracks))]
    kept = [scalars[name] for name in NAMES if name != "mean_pitch"]
    return np.concatenate([kept, vectors["note_length_histogram"], vectors["interval_histogram"], onsets, shape])


class Labeller:
    """Multinomial logistic regression on `features`."""

    def __init__(self, scores: Sequence[Score], labels: Sequence[str]) -> None:
        self._model: Pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=400, C=0.3))
        self._model.fit(np.stack([features(score) for score in scores]), labels)

    def name(self, scores: Sequence[Score]) -> list[str]:
        """The label of each score."""
        return [str(label) for label in self._model.predict(np.stack([features(score) for score in scores]))]

    def accuracy(self, scores: Sequence[Score], labels: Sequence[str]) -> float:
        return float(np.mean([a == b for a, b in zip(self.name(scores), labels, strict=True)]))
