"""What is kept ahead, as whole sequences tell it: where in its bar it stands, and how it goes on after each
token that is written."""

from dataclasses import dataclass

import numpy as np

from models.tokens.place import COLUMN, FIRST, NONE, PHRASE, SIZES, Told
from models.tokens.place_cells import Cells

FAR = np.iinfo(np.int64).max


def write_kept(columns: np.ndarray, ahead: Cells, told: Told) -> None:
    """The columns of what is kept ahead: where in its bar and phrase it stands."""
    n = len(columns)  # without Fill
    for name, values, known in (
        ("tick", ahead.x, ahead.in_cell),
        ("bar", (told.first_bar + ahead.bar) % PHRASE, (ahead.bar >= told.before) & (told.first_bar >= 0)),
    ):
        i = COLUMN[name]
        columns[:, i] = np.where(known, FIRST[i] + np.minimum(values, SIZES[name] - 1), 0)[:n]


@dataclass
class AheadReader:
    """Writes into the columns of a section's tokens how what is kept ahead goes on. m: tokens in cells, at
    `here` of the columns, of bar, track and expected onset `x` each; starts: of each bar, ticks."""

    columns: np.ndarray
    here: np.ndarray
    bar: np.ndarray
    track: np.ndarray
    x: np.ndarray
    starts: np.ndarray
    told: Told

    def write(self, ahead: Cells, tracks: int) -> None:
        """All columns. `ahead` has notes."""
        self._own(ahead, tracks)
        self._melody(ahead, tracks)

    def _put(self, rows: np.ndarray, name: str, values: np.ndarray, known: np.ndarray) -> None:
        i = COLUMN[name]
        self.columns[rows, i] = np.where(known, FIRST[i] + np.minimum(values, SIZES[name] - 1), 0)

    def _own(self, ahead: Cells, tracks: int) -> None:
        """The next note of the track that is kept after this bar."""
        B = len(self.starts) - 1
        opens, coming = (np.full((tracks, B + 1), NONE) for _ in range(2))
        distance = np.zeros((tracks, B + 1), dtype=np.int64)
        for _, k, b, _, _, pitch in ahead.notes[::-1].tolist():
            opens[k, b] = pitch
        for b in range(B - 1, -1, -1):
            sounds = opens[:, b + 1] >= 0
            coming[:, b] = np.where(sounds, opens[:, b + 1], coming[:, b + 1])
            distance[:, b] = np.where(sounds, 0, distance[:, b + 1] + 1)
        pitch = coming[self.track, self.bar]
        self._put(self.here, "own_ahead", pitch, pitch >= 0)
        self._put(self.here, "own_ahead_in", distance[self.track, self.bar], pitch >= 0)

    def _melody(self, ahead: Cells, tracks: int) -> None:
        """How the uppermost other track that is kept goes on."""
        notes, first = ahead.notes, self.told.before
        shown = (self.bar >= first) & (self.bar < first + len(ahead.lengths))
        for k in range(tracks):
            others = notes[notes[:, 1] != k]
            mine = np.flatnonzero(shown & (self.track == k))
            if not len(others) or not len(mine):
                continue
            line = others[others[:, 1] == others[:, 1].min()]
            onsets = np.append(self.starts[line[:, 2]] + line[:, 3], [FAR, FAR])
            pitches = np.append(line[:, 5], [NONE, NONE])
            at = self.starts[self.bar[mine]] + self.x[mine]
            coming = np.minimum(np.searchsorted(onsets[:-1], at, side="right"), len(line))
            pitch, after = pitches[coming], pitches[coming + 1]
            self._put(self.here[mine], "melody_next", pitch, pitch >= 0)
            self._put(self.here[mine], "melody_next_in", onsets[coming] - at, pitch >= 0)
            self._put(self.here[mine], "melody_after", after, after >= 0)
