"""How alike two sets of pieces are, after Yang & Lerch, "On the evaluation of generative models in music",
2020.

For each feature: distances between pieces within the reference (intra) and between the sets (inter) become
two densities by Gaussian kernels; OA is the overlapped area of the densities (1 = same), KLD the
Kullback-Leibler divergence (0 = same).
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import gaussian_kde
from symusic import Score

from music.analysis.descriptors import describe, histograms
from music.score.form import end_tick, note_array

GRID = 200


def features(score: Score) -> dict[str, np.ndarray]:
    """The nine features of the paper that do not need bars of equal length, each a vector."""
    vectors, scalars = histograms(score), describe(score)
    notes = np.concatenate(
        [note_array(track) for track in score.tracks if len(track.notes)]
        or [np.zeros((0, 3), dtype=np.int64)]
    )
    onsets = np.unique(notes[:, 0])
    lengths = vectors["note_length_histogram"]
    transitions = vectors["pitch_class_transitions"]
    return {
        "pitch_count": np.array([float(len(np.unique(notes[:, 2])))]),
        "pitch_class_histogram": vectors["pitch_class_histogram"],
        "pitch_class_transitions": (transitions / max(transitions.sum(), 1.0)).ravel(),
        "pitch_range": np.array([scalars["pitch_range"]]),
        "average_pitch_interval": np.array([scalars["mean_leap"]]),
        "note_count": np.array([len(notes) / max(end_tick(score) / score.tpq, 1e-9)]),
        "average_onset_interval": np.array(
            [float(np.diff(onsets).mean()) / score.tpq if len(onsets) > 1 else 0.0]
        ),
        "note_length_histogram": lengths,
        "bar_repetition": np.array([scalars["bar_repetition"]]),
    }


def _distances(a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    other = a if b is None else b
    distance = np.sqrt(np.maximum((a**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * a @ other.T, 0))
    return distance[np.triu_indices(len(a), 1)] if b is None else distance.ravel()


def overlap(
    reference: Sequence[Score], candidates: Sequence[Score], seed: int, most: int = 4000
) -> dict[str, dict[str, float]]:
    """{feature: {"oa", "kld"}} and their mean under "mean"; at most `most` distances a density, drawn with
    `seed`."""
    random = np.random.default_rng(seed)
    ref, cand = [features(s) for s in reference], [features(s) for s in candidates]
    result: dict[str, dict[str, float]] = {}
    for name in ref[0]:
        a, b = np.stack([f[name] for f in ref]), np.stack([f[name] for f in cand])
        intra, inter = _distances(a), _distances(a, b)
        intra, inter = (random.choice(d, most, replace=False) if len(d) > most else d for d in (intra, inter))
        result[name] = _compare(intra, inter)
    result["mean"] = {
        measure: float(np.mean([row[measure] for row in result.values()])) for measure in ("oa", "kld")
    }
    return {name: {k: round(v, 5) for k, v in row.items()} for name, row in result.items()}


def _compare(intra: np.ndarray, inter: np.ndarray) -> dict[str, float]:
    spread = max(float(intra.std()), float(inter.std()))
    if spread < 1e-9:  # every distance equal: the densities are points
        same = abs(float(intra.mean()) - float(inter.mean())) < 1e-9
        return {"oa": 1.0 if same else 0.0, "kld": 0.0 if same else float(np.log(1e10))}
    noise = (
        1e-3 * spread * np.linspace(-1, 1, len(intra)),
        1e-3 * spread * np.linspace(-1, 1, len(inter)),
    )  # a density needs some spread
    p_kde, q_kde = gaussian_kde(intra + noise[0]), gaussian_kde(inter + noise[1])
    low, high = min(intra.min(), inter.min()) - spread, max(intra.max(), inter.max()) + spread
    x = np.linspace(low, high, GRID)
    p, q = p_kde(x) + 1e-10, q_kde(x) + 1e-10
    p, q = p / p.sum(), q / q.sum()
    return {"oa": float(np.minimum(p, q).sum()), "kld": float((p * np.log(p / q)).sum())}
