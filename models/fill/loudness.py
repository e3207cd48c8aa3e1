"""How loud new notes of a file are."""

import numpy as np


def loudness_at(onsets: np.ndarray, old: np.ndarray, velocity: int) -> np.ndarray:
    """Velocities of new notes at `onsets` (m,): each is as loud as the note of the file's track, `old`
    (n, 4), that begins nearest; `velocity` where the track has none."""
    if not len(old):
        return np.full(len(onsets), velocity)
    told = old[np.argsort(old[:, 0], kind="stable")]
    after = np.clip(np.searchsorted(told[:, 0], onsets), 1, max(len(told) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(told) - 1)
    nearer = np.abs(onsets - told[before, 0]) <= np.abs(told[after, 0] - onsets)
    return np.where(nearer, told[before, 3], told[after, 3])
