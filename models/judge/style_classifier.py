"""Classifiers that name the style or the dance of a piece. Trained on the train split; read with NumPy alone.

Two logistic regressions see different things, descriptors and words (n-grams of intervals, rhythms of bars),
and their log-probabilities are averaged: a product of experts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
from symusic import Score

from music.analysis.descriptors import NAMES, describe, histograms
from music.analysis.words import buckets, interval_words, rhythm_words
from music.score.form import bar_table, note_array

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

GRID = 16  # onset profile: the bar in sixteen parts
BUCKETS = 2**14  # of hashed words


def features(score: Score) -> np.ndarray:
    """Descriptors, histograms of note lengths and intervals, where in the bar notes start, bar length and
    number of tracks; no pitch or key."""
    table, vectors, scalars = bar_table(score), histograms(score), describe(score)
    notes = np.concatenate([note_array(track) for track in score.tracks])
    bar = np.searchsorted(table[:, 0], notes[:, 0], side="right") - 1
    where = ((notes[:, 0] - table[bar, 0]) * GRID // np.maximum(table[bar, 1], 1)).clip(0, GRID - 1)
    onsets = np.bincount(where, minlength=GRID) / max(len(notes), 1)
    shape = [float(np.median(table[:, 1])) / score.tpq, float(table[0, 2] % 3 == 0), float(len(score.tracks))]
    kept = [scalars[name] for name in NAMES if name != "mean_pitch"]
    return np.concatenate(
        [kept, vectors["note_length_histogram"], vectors["interval_histogram"], onsets, shape]
    )


def word_counts(score: Score) -> np.ndarray:
    """log(1 + count) of interval trigrams, rhythms of bars and pairs of them, hashed, float32 (BUCKETS,)."""
    words = np.concatenate([interval_words(score, (3,)), rhythm_words(score)])
    return np.log1p(np.bincount(buckets(words, BUCKETS), minlength=BUCKETS)).astype(np.float32)


@dataclass(frozen=True)
class Labeller:
    """Multinomial logistic regressions on standardised `features` (F) and on unit TF-IDF vectors of
    `word_counts`. weights: (labels, F); bias: (labels,)."""

    labels: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    idf: np.ndarray
    word_weights: np.ndarray
    word_bias: np.ndarray

    def log_probabilities(self, scores: Sequence[Score]) -> np.ndarray:
        """(scores, labels), nats."""
        seen = (np.stack([features(score) for score in scores]) - self.mean) / self.scale
        read = _unit(np.stack([word_counts(score) for score in scores]) * self.idf)
        return _log_softmax(
            (
                _log_softmax(seen @ self.weights.T + self.bias)
                + _log_softmax(read @ self.word_weights.T + self.word_bias)
            )
            / 2
        )

    def name(self, scores: Sequence[Score]) -> list[str]:
        """The label of each score."""
        return [self.labels[i] for i in self.log_probabilities(scores).argmax(axis=1)]

    def accuracy(self, scores: Sequence[Score], labels: Sequence[str]) -> float:
        return float(np.mean([a == b for a, b in zip(self.name(scores), labels, strict=True)]))


Judges = Mapping[str, Labeller]  # by what they name: "style", "rhythm"
ARRAYS = tuple(field.name for field in fields(Labeller) if field.name != "labels")


def _unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1, keepdims=True)
    return np.asarray(logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True)))


def train_labeller(scores: Sequence[Score], labels: Sequence[str]) -> Labeller:
    """Fit a labeller to scores with two labels or more."""
    from scipy.sparse import csr_matrix, diags_array
    from sklearn.linear_model import LogisticRegression  # training only: the service reads what was fitted
    from sklearn.preprocessing import StandardScaler, normalize

    scaler = StandardScaler()
    seen = LogisticRegression(max_iter=400, C=0.3).fit(
        scaler.fit_transform(np.stack([features(score) for score in scores])), labels
    )
    counts = csr_matrix(np.stack([word_counts(score) for score in scores]))
    idf = np.log((1 + len(scores)) / (1 + np.bincount(counts.indices, minlength=BUCKETS))).astype(np.float32)
    read = LogisticRegression(max_iter=400, C=10.0).fit(normalize(counts @ diags_array(idf)), labels)
    return Labeller(
        tuple(map(str, seen.classes_)), scaler.mean_, scaler.scale_, *_both_ways(seen), idf, *_both_ways(read)
    )


def _both_ways(model: "LogisticRegression") -> tuple[np.ndarray, np.ndarray]:
    """Weights and bias with a row for each label, also where there are two and scikit-learn keeps one."""
    if len(model.classes_) > 2:
        return model.coef_, model.intercept_
    return np.concatenate([-model.coef_, model.coef_]) / 2, np.concatenate(
        [-model.intercept_, model.intercept_]
    ) / 2


def save_judges(path: Path, judges: Judges) -> None:
    """Write all judges to one safetensors file."""
    arrays = {
        f"{kind}.{part}": np.ascontiguousarray(getattr(judge, part), dtype=np.float32)
        for kind, judge in judges.items()
        for part in ARRAYS
    }
    save_file(
        arrays, path, metadata={"labels": json.dumps({kind: judge.labels for kind, judge in judges.items()})}
    )


def load_judges(path: Path) -> dict[str, Labeller]:
    """What `save_judges` wrote."""
    with safe_open(path, "numpy") as stored:
        labels = json.loads(stored.metadata()["labels"])
        return {
            kind: Labeller(tuple(names), *(stored.get_tensor(f"{kind}.{part}") for part in ARRAYS))
            for kind, names in labels.items()
        }
