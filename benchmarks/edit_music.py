"""Measures of edited music: realism of a region by a classifier, content kept by a change of style, chords in
common."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from symusic import Score

from models.judge.style_classifier import features, word_counts
from music.analysis.descriptors import histograms
from music.analysis.similarity import melody
from music.analysis.voices import chord_of, voice_grid
from music.score.file_cells import FileCells
from music.score.form import note_array

FEATURES = 36
Region = tuple[FileCells, tuple[int, int]]


def region_features(file: FileCells, bars: tuple[int, int]) -> np.ndarray:
    """Numbers of a region of a tune and of how it sits between what lies around it: rhythm, intervals, seams,
    and bars in common."""
    notes = note_array(file.score.tracks[0])
    bar = file.bar_of(notes[:, 0])
    tpq = file.score.tpq
    inside = notes[(bar >= bars[0]) & (bar < bars[1])]
    outside = notes[(bar < bars[0]) | (bar >= bars[1])]
    if not len(inside) or not len(outside):
        return np.zeros(FEATURES)
    steps = np.diff(inside[:, 2])
    lengths = np.histogram(inside[:, 1] / tpq, [0, 0.2, 0.3, 0.45, 0.6, 0.9, 1.1, 1.6, 2.1, 99])[0] / len(
        inside
    )
    intervals = np.histogram(np.abs(steps), [0, 1, 2, 3, 4, 5, 6, 8, 13, 99])[0] / max(len(steps), 1)
    key: list[np.ndarray] = [
        np.bincount(part[:, 2] % 12, weights=part[:, 1], minlength=12).astype(np.float64)
        for part in (inside, outside)
    ]
    alike = float(key[0] @ key[1] / max(np.linalg.norm(key[0]) * np.linalg.norm(key[1]), 1e-9))
    strange = float(key[0][key[1] == 0].sum() / key[0].sum())
    before, after = notes[bar < bars[0]], notes[bar >= bars[1]]
    seams = [
        abs(int(inside[0, 2] - before[-1, 2])) if len(before) else -1,
        abs(int(after[0, 2] - inside[-1, 2])) if len(after) else -1,
    ]
    cells = {
        b: tuple(map(tuple, (notes[bar == b] - np.array([file.bars[b, 0], 0, 0])).tolist()))
        for b in range(len(file.bars))
    }
    rhythms = {b: tuple((o, d) for o, d, _ in cell) for b, cell in cells.items()}
    others = [b for b in cells if not bars[0] <= b < bars[1]]
    mine = range(*bars)
    repeats = [
        float(np.mean([any(table[b] == table[o] for o in others) for b in mine]))
        for table in (cells, rhythms)
    ]
    own = [len({table[b] for b in mine}) / len(mine) for table in (cells, rhythms)]
    spread = [
        float(inside[:, 2].mean() - outside[:, 2].mean()),
        float(np.ptp(inside[:, 2])),
        float(np.ptp(outside[:, 2])),
        len(inside) / len(mine),
        len(inside) / len(mine) - len(outside) / max(len(others), 1),
    ]
    gaps = inside[1:, 0] - inside[:-1, 0] - inside[:-1, 1]
    holes = [
        float((gaps > 0).mean()) if len(gaps) else 0.0,
        float((gaps < 0).mean()) if len(gaps) else 0.0,
        float((steps == 0).mean()) if len(steps) else 0.0,
    ]
    per_bar = np.array([len(cells[b]) for b in mine], dtype=float)
    return np.concatenate(
        [
            lengths,
            intervals,
            [alike, strange],
            seams,
            repeats,
            own,
            spread,
            holes,
            [per_bar.std(), float(np.abs(steps).mean()) if len(steps) else 0.0],
        ]
    )


def realism(
    made: Sequence[Region], real: Sequence[Region], pieces: Sequence[int]
) -> tuple[float, float, float]:
    """Accuracy of a boosted-tree classifier that tells made regions from real ones, cross-validated by piece,
    with a 95 % bootstrap interval."""
    x = np.stack([region_features(*region) for region in (*made, *real)])
    y = np.repeat([1, 0], [len(made), len(real)])
    groups = np.array([*pieces, *pieces])
    found = cross_val_predict(
        HistGradientBoostingClassifier(max_iter=80, learning_rate=0.08, random_state=0),
        x,
        y,
        groups=groups,
        cv=GroupKFold(5),
    )
    right = (found == y).astype(float)
    random = np.random.default_rng(0)
    samples = [right[random.integers(len(right), size=len(right))].mean() for _ in range(1000)]
    return float(right.mean()), float(np.quantile(samples, 0.025)), float(np.quantile(samples, 0.975))


class TreeJudge:
    """Names a style by boosted trees on descriptors and on the main components of the words: another kind of
    judge than the bundle's."""

    def __init__(self, scores: Sequence[Score], labels: Sequence[str]) -> None:
        self._components = make_pipeline(
            TfidfTransformer(sublinear_tf=True), TruncatedSVD(60, random_state=0)
        ).fit(self._counts(scores))
        self._model = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.06, random_state=0).fit(
            self._x(scores), labels
        )

    @staticmethod
    def _counts(scores: Sequence[Score]) -> csr_matrix:
        return csr_matrix(np.expm1(np.stack([word_counts(score) for score in scores])))

    def _x(self, scores: Sequence[Score]) -> np.ndarray:
        return np.concatenate(
            [
                np.stack([features(score) for score in scores]),
                self._components.transform(self._counts(scores)),
            ],
            axis=1,
        )

    def name(self, scores: Sequence[Score]) -> list[str]:
        return [str(label) for label in self._model.predict(self._x(scores))]


def content_similarity(a: Score, b: Score) -> float:
    """Mean of two cosines, 0-1: of pitch-class histograms, and of counts of melodic-interval pairs."""
    pc = [histograms(score)["pitch_class_histogram"] for score in (a, b)]
    pairs = []
    for score in (a, b):
        line = (
            np.concatenate([np.asarray(part) for part in melody(score)])
            if len(melody(score))
            else np.zeros(0)
        )
        pairs.append(Counter(zip(line[:-1].tolist(), line[1:].tolist(), strict=True)))
    dot = sum(count * pairs[1][pair] for pair, count in pairs[0].items())
    norm = np.sqrt(sum(c * c for c in pairs[0].values()) * sum(c * c for c in pairs[1].values()))
    tonal = float(pc[0] @ pc[1] / max(np.linalg.norm(pc[0]) * np.linalg.norm(pc[1]), 1e-9))
    return (tonal + (dot / norm if norm else 0.0)) / 2


def chord_agreement(original: Score, other: Score, ticks_per_quarter: int) -> tuple[float, float]:
    """Share of beats with the same triad in both, and with the original's most frequent triad."""
    grids = [voice_grid(score, ticks_per_quarter) for score in (original, other)]
    pairs = [(chord_of(a), chord_of(b)) for a, b in zip(*grids, strict=False)]
    pairs = [(a, b) for a, b in pairs if a is not None]
    most = Counter(a for a, _ in pairs).most_common(1)[0][1]
    return float(np.mean([a == b for a, b in pairs])), most / len(pairs)
