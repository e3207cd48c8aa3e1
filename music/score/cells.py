"""A score as a grid of cells, one per (bar, track): statistics of each, their classes as controls, and
digests for the edit contract.

Statistics are sums, so those of any region of cells are sums of sums, and a control asked for eight bars is
measured on eight bars. A note belongs to the cell in which it starts.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from symusic import Score

from music.score.form import bar_table, note_array

STATISTICS = (
    "notes",
    "duration_ticks",
    "covered_ticks",
    "off_beat",
    "low",
    "high",
)  # columns of `cell_statistics`
EMPTY_LOW, EMPTY_HIGH = 127, 0


@dataclass(frozen=True)
class CellControl:
    """One controllable number of a track: name, unit, and the inner edges of its classes (class i holds [edge
    i-1, edge i))."""

    name: str
    unit: str
    edges: tuple[float, ...]

    @property
    def classes(self) -> int:
        return len(self.edges) + 1

    def class_of(self, value: float) -> int:
        return int(np.searchsorted(self.edges, value, side="right"))

    def bounds(self, index: int) -> tuple[float, float]:
        """Lower and upper edge of a class; the highest ends at 1.5 times its edge, for something to aim
        at."""
        edges = (0.0, *self.edges, 1.5 * self.edges[-1])
        return edges[index], edges[index + 1]

    def describe_class(self, index: int) -> str:
        """E.g. "1.25-1.75 notes per quarter"."""
        low = f"{self.edges[index - 1]:g}" if index else "0"
        return (
            f"{low}-{self.edges[index]:g} {self.unit}" if index < len(self.edges) else f"{low}+ {self.unit}"
        )


CELL_CONTROLS = (
    CellControl("density", "notes per quarter", (0.25, 0.75, 1.25, 1.75, 2.25, 3.0, 4.0)),
    CellControl("polyphony", "sounding notes", (1.05, 1.5, 2.5, 3.5)),
    CellControl("range", "semitones", (5, 8, 12, 15, 18, 24)),
    CellControl("note_length", "quarters", (0.3, 0.45, 0.6, 0.85, 1.1, 1.6, 2.5)),
    CellControl("syncopation", "share of onsets", (0.005, 0.05, 0.15, 0.3)),
)
BY_NAME = {control.name: control for control in CELL_CONTROLS}
PER_BAR = ("density", "polyphony")  # these can also be asked for one cell
TEMPO_EDGES_QPM, TEMPO_CLASSES = (72.0, 108.0, 144.0), ("slow", "moderate", "fast", "very_fast")


def tempo_class(qpm: float) -> str:
    """Name of the tempo class of a tempo in quarters a minute."""
    return TEMPO_CLASSES[int(np.searchsorted(TEMPO_EDGES_QPM, qpm, side="right"))]


def cell_statistics(score: Score) -> np.ndarray:
    """Sums of every cell, int32 (bars, tracks, 6), columns STATISTICS.

    covered_ticks: ticks in which a note of the track starts or goes on that no earlier note covered;
    off_beat: onsets off the beat that sound through the next one (a beat is a quarter, or a dotted quarter in
    n/8 with n divisible by 3).
    """
    bars = bar_table(score)
    table = np.zeros((len(bars), len(score.tracks), len(STATISTICS)), dtype=np.int32)
    table[:, :, 4], table[:, :, 5] = EMPTY_LOW, EMPTY_HIGH
    compound = (bars[:, 3] == 8) & (bars[:, 2] % 3 == 0)
    for k, track in enumerate(score.tracks):
        notes = note_array(track)
        if not len(notes):
            continue
        onset, duration, pitch = notes.T
        end = onset + duration
        bar = np.searchsorted(bars[:, 0], onset, side="right") - 1
        covered_before = np.concatenate([[0], np.maximum.accumulate(end)[:-1]])
        beat = np.where(compound[bar], 3 * score.tpq // 2, score.tpq)
        phase = (onset - bars[bar, 0]) % beat
        columns = (
            np.ones(len(notes), dtype=np.int64),
            duration,
            np.maximum(end - np.maximum(onset, covered_before), 0),
            (phase > 0) & (phase + duration > beat),
        )
        for i, values in enumerate(columns):
            np.add.at(table[:, k, i], bar, values)
        np.minimum.at(table[:, k, 4], bar, pitch)
        np.maximum.at(table[:, k, 5], bar, pitch)
    return table


def control_values(
    statistics: np.ndarray, length_ticks: int, ticks_per_quarter: int
) -> dict[str, float] | None:
    """Value of each CELL_CONTROLS of one track over some bars: `statistics` (bars, 6), `length_ticks` their
    total. None where nothing starts."""
    notes, duration, covered, off_beat = (int(x) for x in statistics[:, :4].sum(axis=0))
    if not notes:
        return None
    low, high = int(statistics[:, 4].min()), int(statistics[:, 5].max())
    return {
        "density": notes * ticks_per_quarter / length_ticks,
        "polyphony": duration / max(covered, 1),
        "range": float(high - low),
        "note_length": duration / notes / ticks_per_quarter,
        "syncopation": off_beat / notes,
    }


def control_classes(statistics: np.ndarray, length_ticks: int, ticks_per_quarter: int) -> dict[str, int]:
    """Class of each control over some bars of a track, {} where nothing starts. Arguments as in
    `control_values`."""
    values = control_values(statistics, length_ticks, ticks_per_quarter)
    return {name: BY_NAME[name].class_of(value) for name, value in values.items()} if values else {}


def digest_outside(score: Score, region: Iterable[tuple[int, int]]) -> str:
    """sha256 over tracks, bars and every note of the cells outside `region`, pairs (bar, track): the edit
    contract, as one number."""
    bars = bar_table(score)
    inside = set(region)
    digest = hashlib.sha256(bars.tobytes())
    for k, track in enumerate(score.tracks):
        notes = note_array(track)
        bar = np.searchsorted(bars[:, 0], notes[:, 0], side="right") - 1
        kept = np.array([(int(b), k) not in inside for b in bar], dtype=bool)
        digest.update(f"{k} {track.program} {track.is_drum}".encode() + notes[kept].tobytes())
    return digest.hexdigest()
