"""What people prefer: comparisons of two scores, guards against floods and scripts, and a jury that turns
them into a reward.

The jury has some seats for every user id, each a Bradley-Terry model (Bradley & Terry 1952) on the features
of models/judge/style_classifier.py, fitted to
a part of that user's comparisons alone. Its verdict on a score is the mean of what the seats say, weighted by
how much each user has said but by
at most CAP comparisons, drawn to one half while few have spoken, and then by SURE times the root of the sum
of squares of what the seats add:
where they agree no more than tossed coins would, it stays at one half (for signs that are symmetric, that
ratio exceeds z with a probability
of at most exp(-z^2/2): Efron 1969). So whatever one user id sends, the reward of no score moves by more than
`bound(1)`; whatever all
send, by no more than the share that the jury is given.
"""

import base64
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from symusic import Score

from models.align.parts import Heard
from models.judge.style_classifier import features
from music.reading.files import read_midi
from music.score.errors import UnreadableScore
from music.score.form import Limits, normalise

CAP, SILENT_MASS = 20.0, 40.0  # comparisons of one user id that count; of the imaginary users who cannot tell
SEATS, A_SEAT = 8, 10  # most seats of a user; comparisons that a seat is fitted to, at least
SURE, CLEAR = (
    1.5,
    0.1,
    # how much more than by chance the seats must agree; difference of two verdicts that makes a comparison
    # count in full
)
RIDGE, FURTHEST = 0.1, 3.0  # of a member's weights; standard deviations of a feature that are told apart
A_MINUTE, ONE_SIDED, FEW = (
    20,
    0.95,
    20,
    # comparisons of a user in a minute past which it is a script; share of one side past which nobody looked;
    # comparisons below which no side is suspicious
)
UPLOAD = Limits(max_bytes=2_000_000, max_quarters=4_000, max_notes=20_000, max_tracks=32)


@dataclass(frozen=True)
class Preference:
    """`chosen` and `rejected` are base64 MIDI. side: where the chosen one was shown, "first" or "second", ""
    where it is not known; asked: the request of both as JSON, "" where they had none in common; by: "pair",
    "likes" or "edits"."""

    user: str
    time: str
    chosen_id: str
    rejected_id: str
    chosen: str
    rejected: str
    side: str = ""
    asked: str = ""
    by: str = "pair"


def guarded(preferences: Iterable[Preference]) -> tuple[list[Preference], dict[str, list[Preference]]]:
    """Those to learn from, and the others by the reason why they are not: both ways, scripts, one-sided
    users, and scores that cannot be read."""
    rows, gone = list(preferences), defaultdict[str, list[Preference]](list)
    said = {(p.user, p.chosen_id, p.rejected_id) for p in rows}
    minutes = Counter((p.user, p.time[:16]) for p in rows if p.by == "pair")
    sides = defaultdict[str, Counter[str]](Counter)
    for p in rows:
        sides[p.user][p.side] += bool(p.side)
    kept = []
    for p in rows:
        told = sum(sides[p.user].values())
        if p.chosen_id == p.rejected_id or (p.user, p.rejected_id, p.chosen_id) in said:
            gone["preferred both of two"].append(p)
        elif minutes[p.user, p.time[:16]] > A_MINUTE:
            gone[f"more than {A_MINUTE} comparisons of one user in a minute"].append(p)
        elif told >= FEW and max(sides[p.user].values()) >= ONE_SIDED * told:
            gone["always the same side"].append(p)
        elif _unreadable(p):
            gone["a score cannot be read"].append(p)
        else:
            kept.append(p)
    return kept, dict(gone)


def _unreadable(preference: Preference) -> bool:
    try:
        datetime.fromisoformat(preference.time)
        return any(not score_of(midi).note_num() for midi in (preference.chosen, preference.rejected))
    except (UnreadableScore, ValueError):
        return True


def score_of(midi: str, ticks_per_quarter: int = 12, velocity: int = 80) -> Score:
    """Base64 MIDI in normal form. Raises UnreadableScore, or ValueError where it is not base64."""
    return normalise(
        read_midi(base64.b64decode(midi, validate=True), UPLOAD),
        ticks_per_quarter=ticks_per_quarter,
        velocity=velocity,
    )


@dataclass(frozen=True)
class Jury:
    """mean, scale (F,): of features of real music; weights (seats, F); masses (seats,): how much each counts,
    at most CAP all seats of a user."""

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    masses: np.ndarray

    def __call__(self, heard: Heard) -> float:
        """Reward of a score, 0 to 1; one half where nobody has spoken, or where the seats do not agree."""
        return float(self.verdicts([heard.score])[0])

    def verdicts(self, scores: Sequence[Score]) -> np.ndarray:
        """Rewards of scores, float64 (n,)."""
        x = standard(np.stack([features(score) for score in scores]), self.mean, self.scale)
        said, share = (
            1 / (1 + np.exp(-(x @ self.weights.T))) - 0.5,
            self.masses / (self.masses.sum() + SILENT_MASS),
        )
        ahead, by_chance = said @ share, np.sqrt(said**2 @ share**2)
        return np.asarray(0.5 + np.sign(ahead) * np.maximum(np.abs(ahead) - SURE * by_chance, 0))

    def bound(self, users: int) -> float:
        """Most by which `users` more ids, whatever they send, can move the reward of a score.

        With a share p of all masses they push the mean by at most p / 2 farther from one half; the others'
        voice, at most v there, they make weaker by p v, by p / 2 with what they say against it, and by SURE p
        / 2 with the doubt that they sow, but by no more than v."""
        spoken, new = float(self.masses.sum()), users * CAP
        p, v = new / (spoken + SILENT_MASS + new), spoken / (spoken + SILENT_MASS) / 2
        return min(v + p / 2, p * (v + 0.5 + SURE / 2))


def standard(x: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Features in standard deviations of real music, clipped, and shrunk so that a typical score has length
    1."""
    return np.asarray(np.clip((x - mean) / scale, -FURTHEST, FURTHEST) / np.sqrt(x.shape[-1]))


def seat(
    preferences: Sequence[Preference], real: Sequence[Score], ticks_per_quarter: int, velocity: int
) -> Jury:
    """The jury of guarded comparisons; `real`: music that says what a feature's spread is."""
    table = np.stack([features(score) for score in real])
    mean, scale = table.mean(axis=0), np.maximum(table.std(axis=0), 1e-6)
    by_user: dict[str, list[np.ndarray]] = {}
    for p in preferences:
        ahead, behind = (
            standard(features(score_of(midi, ticks_per_quarter, velocity)), mean, scale)
            for midi in (p.chosen, p.rejected)
        )
        by_user.setdefault(p.user, []).append(ahead - behind)
    fitted, masses = list[np.ndarray](), list[float]()
    for _, rows in sorted(by_user.items()):
        seats = min(max(len(rows) // A_SEAT, 1), SEATS)
        fitted += [bradley_terry(np.stack(rows[first::seats])) for first in range(seats)]
        masses += [min(float(len(rows)), CAP) / seats] * seats
    return Jury(mean, scale, np.array(fitted).reshape(len(fitted), len(mean)), np.array(masses))


def weights_of(
    preferences: Sequence[Preference], jury: Jury, ticks_per_quarter: int, velocity: int
) -> np.ndarray:
    """How much each comparison counts, 0 to 1, float64 (n,): less where its user has made more than CAP, and
    where the jury's verdicts do not bear it out."""
    if not preferences:
        return np.zeros(0)
    made = Counter(p.user for p in preferences)
    chosen, rejected = (
        jury.verdicts([score_of(midi, ticks_per_quarter, velocity) for midi in side])
        for side in zip(*((p.chosen, p.rejected) for p in preferences), strict=True)
    )
    return np.asarray(
        np.array([min(1.0, CAP / made[p.user]) for p in preferences])
        * np.clip((chosen - rejected) / CLEAR, 0, 1)
    )


def bradley_terry(differences: np.ndarray) -> np.ndarray:
    """Weights (F,) that make chosen minus rejected (n, F) most likely, with a ridge: Newton's method, a few
    steps."""
    F = differences.shape[1]
    w = np.zeros(F)
    for _ in range(20):
        p = 1 / (1 + np.exp(-(differences @ w)))
        gradient = RIDGE * w - differences.T @ (1 - p)
        hessian = RIDGE * np.eye(F) + (differences * (p * (1 - p))[:, None]).T @ differences
        move = np.linalg.solve(hessian, gradient)
        w = w - move
        if np.abs(move).max() < 1e-8:
            break
    return w
