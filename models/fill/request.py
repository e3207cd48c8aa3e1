"""What is to be filled, and what comes of it."""

from dataclasses import dataclass, field

import numpy as np
from symusic import Score

from models.decoding.locks import Locks
from models.decoding.script import Plan
from models.tokens.labels import Labels
from models.tokens.layout import CellAsks
from music.score.form import DEFAULT_TEMPO_QPM, bar_table, build, note_array
from music.score.instruments import DRUMS


class ContractBroken(RuntimeError):
    """A cell outside the region changed. This must never happen: it is a bug, please report the request."""


@dataclass(frozen=True)
class FillRequest:
    """What to fill. `score` is in normal form, or None for an empty grid of `plan`; `missing` is bool (bars,
    tracks).

    labels: what is asked of the whole, `labels.bars` counts the bars from the first of the plan to the end of
    the piece (0: not told). cells: classes asked of single cells. first_bar: number in the piece of the
    plan's first. chords: of each tick from the plan's start, int (ticks, 3), as `Told` has them. form: of
    each bar its letter, bars since its section began, bars to its end and the bar it comes back from, int
    (bars, 4), -1: none. copied: bars that come back note for note. held: of each track notes (n, 3) inside
    the region that stay. steered: the music is moved towards what is asked as it is written
    (models/decoding/steering.py); without it the network's own probabilities are drawn from. tracks: numbers
    in the piece of the plan's tracks, where they are not the same.
    """

    plan: Plan
    missing: np.ndarray
    labels: Labels
    seed: int
    score: "Score | None" = None  # quoted: symusic.Score is a factory, and `|` asks for a type
    locks: Locks = field(default_factory=Locks)
    cells: CellAsks = field(default_factory=dict)
    temperature: float = 1.0
    top_p: float = 1.0
    guidance: float = 1.0
    tempo: float = DEFAULT_TEMPO_QPM
    first_bar: int = 0
    chords: "np.ndarray | None" = None
    form: "np.ndarray | None" = None
    copied: tuple[int, ...] = ()
    held: tuple[np.ndarray, ...] = ()
    steered: bool = True
    tracks: tuple[int, ...] = ()

    @property
    def bars(self) -> tuple[int, int]:
        """[first, last) of the bars with a missing cell."""
        hit = np.flatnonzero(self.missing.any(axis=1))
        return int(hit[0]), int(hit[-1]) + 1

    @property
    def given(self) -> tuple[int, ...]:
        """Tracks of which nothing is missing."""
        return tuple(int(k) for k in np.flatnonzero(~self.missing.any(axis=0)))


@dataclass(frozen=True)
class Filled:
    """An answer: the score, the tokens written for the region, and the digest of everything outside it,
    before and after."""

    score: Score
    ids: np.ndarray
    contract: str


def plan_of(score: Score) -> Plan:
    """Metres and programs of a score."""
    return Plan(
        tuple((int(n), int(d)) for _, _, n, d in bar_table(score)),
        tuple(DRUMS if t.is_drum else t.program for t in score.tracks),
    )


def empty(plan: Plan) -> np.ndarray:
    """The region of a whole grid."""
    return np.ones((len(plan.metres), len(plan.programs)), dtype=bool)


def extended(score: Score, plan: Plan, bars: int, at_start: bool = False) -> tuple[Score, Plan, np.ndarray]:
    """`score` with `bars` empty bars in the metre of its last (or first) bar, the plan of both, and those
    bars as region."""
    table = bar_table(score)
    metre = plan.metres[0] if at_start else plan.metres[-1]
    metres = (metre,) * bars + plan.metres if at_start else plan.metres + (metre,) * bars
    shift = bars * int(table[0, 1]) if at_start else 0
    tracks = [(t.program, t.is_drum, note_array(t) + np.array([shift, 0, 0])) for t in score.tracks]
    missing = np.zeros((len(metres), len(plan.programs)), dtype=bool)
    missing[:bars] = at_start
    missing[len(metres) - bars :] |= not at_start
    changes = [(0, *metre)] if at_start else []
    changes += [(ts.time + shift, ts.numerator, ts.denominator) for ts in score.time_signatures]
    kept = [c for i, c in enumerate(changes) if not i or c[1:] != changes[i - 1][1:]]
    return build(tracks, kept, score.tpq, 80), Plan(metres, plan.programs), missing
