"""A passage of a file on the model's grid: what the model reads and fills, and the way back into the file.

Bars and tracks of a file that lie around a region become a small score on the grid. What is filled goes back
into the file in its own ticks; a cell that was not filled keeps the file's own notes, which never went
through the grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from symusic import Score

from models.decoding.locks import LockError, Locks
from models.decoding.script import Plan
from models.fill.asked import chord_line
from models.fill.neighbours import lateness_at, loudness_at
from models.fill.parts import nearest_program
from models.fill.request import Filled, FillRequest
from models.tokens.labels import Labels, TrackAsk
from models.tokens.layout import CellAsks
from models.tokens.tokenizer import CellTokenizer, NotRepresentable
from music.score.file_cells import EARLY, FileCells, with_cells
from music.score.form import bar_ticks, build, without_overlaps
from music.score.instruments import DRUMS, name_of
from music.score.parts import part_of

AROUND = 32  # bars of the file shown to the model before and after a region, at most
MOST_TRACKS = 12  # tracks in a passage; beyond the region's own, those with the most notes nearby


@dataclass(frozen=True)
class Passage:
    """Bars [first, first + B) and tracks (T of them, numbered as in the file) around a region.

    cells[b][t]: int64 (n, 4), onset from the barline, duration and pitch on the grid, and the number of the
    note in the file's track.
    """

    file: FileCells
    first: int
    tracks: list[int]
    plan: Plan
    region: np.ndarray  # bool (B, T)
    cells: list[list[np.ndarray]]
    warnings: list[str]

    @property
    def last(self) -> int:
        return self.first + len(self.plan.metres)


def passage_of(tokenizer: CellTokenizer, file: FileCells, region: np.ndarray) -> Passage:
    """The passage around a region, bool (bars, tracks) of the file. Raises NotRepresentable for a region that
    the model cannot write."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    if not len(rows):
        raise ValueError("the region is empty: name at least one bar and one track")
    metres, known = zip(*(_metre(tokenizer, file, b) for b in range(file.shape[0])), strict=True)
    first, last = int(rows[0]), int(rows[-1]) + 1
    for b in range(first, last):
        if not known[b]:
            raise NotRepresentable(_why_not(tokenizer, file, b))
    low, high = first, last
    while low > max(first - AROUND, 0) and known[low - 1]:
        low -= 1
    while high < min(last + AROUND, file.shape[0]) and known[high]:
        high += 1
    tracks, programs, warnings = _tracks(tokenizer, file, columns.tolist(), (low, high))
    cells = [
        list(row) for row in zip(*(_on_grid(tokenizer, file, k, (low, high)) for k in tracks), strict=True)
    ]
    inside = region[low:high][:, tracks]
    while high > last and not any(len(cell) for cell in cells[high - low - 1]):
        high -= 1  # a score ends with a bar that sounds
    return Passage(
        file,
        low,
        tracks,
        Plan(tuple(metres[low:high]), programs),
        inside[: high - low],
        cells[: high - low],
        warnings,
    )


def _metre(tokenizer: CellTokenizer, file: FileCells, bar: int) -> tuple[tuple[int, int], bool]:
    """Metre of a bar, and whether the model has a token for it and the bar is whole."""
    _, length, n, d = file.bars[bar].tolist()
    return (n, d), (n, d) in tokenizer.metres and length == bar_ticks(n, d, file.score.tpq)


def _why_not(tokenizer: CellTokenizer, file: FileCells, bar: int) -> str:
    _, length, n, d = file.bars[bar].tolist()
    if length != bar_ticks(n, d, file.score.tpq):
        return f"bar {bar + 1} is cut short by a change of metre: leave it out of the region"
    return (
        f"bar {bar + 1} is in {n}/{d}, which was not in the training data; known are: "
        f"{', '.join(f'{a}/{b}' for a, b in tokenizer.metres)}. Leave it out of the region or change its "
        f"metre first"
    )


def _tracks(
    tokenizer: CellTokenizer, file: FileCells, wanted: list[int], bars: tuple[int, int]
) -> tuple[list[int], tuple[int, ...], list[str]]:
    """Tracks of a passage in the order of the file, the program each is read as, and what the user should
    know."""
    nearby = np.zeros(file.shape[1], dtype=np.int64)
    for k in range(file.shape[1]):
        bar = file.bar_of(file.notes(k)[:, 0])
        nearby[k] = ((bar >= bars[0]) & (bar < bars[1])).sum()
    programs: dict[int, int] = {}
    warnings: list[str] = []
    chosen: list[int] = []
    for k in sorted(range(file.shape[1]), key=lambda k: (k not in wanted, -nearby[k])):
        if k not in wanted and (not nearby[k] or len(chosen) >= MOST_TRACKS):
            continue
        track = file.score.tracks[k]
        own = DRUMS if track.is_drum else int(track.program)
        notes = file.notes(k)
        program = nearest_program(
            tokenizer, own, part_of(notes[np.argsort(notes[:, 0])]) if len(notes) else None
        )
        if program is None:
            if k in wanted:
                raise NotRepresentable(
                    f"track {k + 1} is drums, and there were none in the training data: leave it out of "
                    f"the region"
                )
            continue
        if program != own and k in wanted:
            warnings.append(
                f"the model does not know {name_of(own)} (track {k + 1}): it writes as for "
                f"{name_of(program)}; the track keeps its instrument"
            )
        programs[k] = program
        chosen.append(k)
    chosen.sort()
    return chosen, tuple(programs[k] for k in chosen), warnings


def _on_grid(
    tokenizer: CellTokenizer, file: FileCells, track: int, bars: tuple[int, int]
) -> list[np.ndarray]:
    """Cells of one track in bars [first, last), as in `Passage`."""
    notes = file.notes(track)
    bar = file.bar_of(notes[:, 0])
    scale = tokenizer.ticks_per_quarter / file.score.tpq
    cells = []
    for b in range(*bars):
        mine = np.flatnonzero(bar == b)
        start, length = file.bars[b, :2].tolist()
        onset = np.clip(
            np.rint((notes[mine, 0] - start) * scale).astype(np.int64), 0, max(round(length * scale) - 1, 0)
        )
        duration = np.clip(np.rint(notes[mine, 1] * scale).astype(np.int64), 1, tokenizer.max_duration)
        found = np.column_stack([onset, duration, notes[mine, 2], mine])
        cells.append(found[np.lexsort((found[:, 1], found[:, 2], found[:, 0]))])
    return cells


@dataclass
class Draft:
    """A passage at work: its cells as they stand, and which of them have been filled."""

    passage: Passage
    # "rhythm": filled notes take onset, length and velocity from the file's, in order; "pitches": velocity
    # alone
    keep: str = ""
    # notes inside the region that stay: their numbers in the file, by track of the file
    held: dict[int, np.ndarray] = field(default_factory=dict)
    cells: list[list[np.ndarray]] = field(default_factory=list)
    filled: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))

    def __post_init__(self) -> None:
        self.cells = [list(row) for row in self.passage.cells]
        self.filled = np.zeros_like(self.passage.region)

    def copy(self) -> "Draft":
        """Another draft of the same passage as it stands."""
        other = Draft(self.passage, self.keep, self.held)
        other.cells, other.filled = [list(row) for row in self.cells], self.filled.copy()
        return other

    def score(self, tokenizer: CellTokenizer, bars: tuple[int, int]) -> Score:
        """Bars [first, last) of the passage as they stand, on the grid."""
        starts = self._starts(tokenizer)
        tracks = []
        for t, program in enumerate(self.passage.plan.programs):
            rows = [
                (self.cells[b][t] + np.array([starts[b] - starts[bars[0]], 0, 0, 0]))[:, :3]
                for b in range(*bars)
            ]
            tracks.append((max(program, 0), program == DRUMS, np.concatenate(rows)))
        return build(
            tracks, [(0, *self.passage.plan.metres[bars[0]])], tokenizer.ticks_per_quarter, tokenizer.velocity
        )

    def _starts(self, tokenizer: CellTokenizer) -> np.ndarray:
        return np.concatenate(
            [
                [0],
                np.cumsum(
                    [bar_ticks(n, d, tokenizer.ticks_per_quarter) for n, d in self.passage.plan.metres]
                ),
            ]
        )

    def request(
        self,
        tokenizer: CellTokenizer,
        mask: np.ndarray,
        labels: Labels,
        seed: int,
        *,
        locks: Locks | None = None,
        cells: CellAsks | None = None,
        asks: Sequence[TrackAsk] = (),
        temperature: float = 1.0,
        top_p: float = 0.98,
        guidance: float = 1.0,
        chords: str = "",
    ) -> FillRequest:
        """The cells of `mask` to be filled, as the passage stands, asked to be `labels`. Raises ValueError
        for unreadable chords, LockError for held notes under other locks."""
        passage, starts = self.passage, self._starts(tokenizer)
        tracks, held = [], list[np.ndarray]()
        for t, program in enumerate(passage.plan.programs):
            rows = [(row[t] + np.array([starts[b], 0, 0, 0]))[:, :3] for b, row in enumerate(self.cells)]
            none = [np.zeros((0, 3), dtype=np.int64)]
            kept = np.concatenate([rows[b] for b in range(len(rows)) if not mask[b, t]] or none)
            old = np.concatenate([rows[b] for b in range(len(rows)) if mask[b, t]] or none)
            stays = np.concatenate([kept, self._held(mask, starts, t)])
            stays = without_overlaps(stays) if len(stays) else stays
            bar = np.searchsorted(starts, stays[:, 0], side="right") - 1
            inside = mask[bar, t] if len(stays) else np.zeros(0, dtype=bool)
            held.append(stays[inside])
            held[-1][:, 1] = np.minimum(held[-1][:, 1], starts[-1] - held[-1][:, 0])
            together = np.concatenate([stays[~inside], old])
            # what sounds past the passage is cut here, not in the file
            together[:, 1] = np.minimum(together[:, 1], starts[-1] - together[:, 0])
            tracks.append((0 if program == DRUMS else program, program == DRUMS, together))
        changes = [
            (int(starts[b]), n, d)
            for b, (n, d) in enumerate(passage.plan.metres)
            if not b or (n, d) != passage.plan.metres[b - 1]
        ]
        score = build(tracks, changes, tokenizer.ticks_per_quarter, tokenizer.velocity)
        left = passage.file.shape[0] - passage.first
        told = replace(labels, bars=left, excerpt=passage.first > 0, tracks=tuple(asks))
        first = int(np.flatnonzero(passage.region.any(axis=1))[0])
        if any(map(len, held)) and locks is not None and (locks.rhythm or locks.pitches):
            raise LockError("notes are kept and the rhythm or the pitches are locked: ask for one of them")
        return FillRequest(
            passage.plan,
            mask,
            told,
            seed,
            score,
            locks or Locks(),
            cells or {},
            temperature,
            top_p,
            guidance,
            first_bar=passage.first,
            chords=chord_line(tokenizer, passage.plan, chords, first) if chords.strip() else None,
            held=tuple(held),
            tracks=tuple(passage.tracks),
        )

    def _held(self, mask: np.ndarray, starts: np.ndarray, t: int) -> np.ndarray:
        """Notes (n, 3) of a track that stay inside the cells of `mask`."""
        found = [np.zeros((0, 3), dtype=np.int64)]
        for b in np.flatnonzero(mask[:, t]):
            cell = self.cells[b][t]
            mine = cell[np.isin(cell[:, 3], self._numbers(t))]
            found.append((mine + np.array([starts[b], 0, 0, 0]))[:, :3])
        return np.concatenate(found)

    def _numbers(self, t: int) -> np.ndarray:  # in the file, of the notes of a track that stay
        return self.held.get(self.passage.tracks[t], np.zeros(0, dtype=np.int64))

    def take(self, tokenizer: CellTokenizer, filled: Filled, mask: np.ndarray) -> None:
        """Put what was filled into the cells of `mask`."""
        starts = self._starts(tokenizer)
        for t, track in enumerate(filled.score.tracks):
            columns = track.notes.numpy()
            notes = np.stack([columns["time"], columns["duration"], columns["pitch"]], axis=1).astype(
                np.int64
            )
            bar = np.searchsorted(starts, notes[:, 0], side="right") - 1
            for b in np.flatnonzero(mask[:, t]):
                mine = notes[bar == b] - np.array([starts[b], 0, 0])
                mine = mine[np.lexsort((mine[:, 2], mine[:, 0]))]
                old = self.cells[b][t]
                same = self.keep and len(mine) == len(old)
                numbers = old[:, 3] if same else np.full(len(mine), -1)
                # its length may have been cut on the grid
                for row in old[np.isin(old[:, 3], self._numbers(t))]:
                    numbers[(mine[:, [0, 2]] == row[[0, 2]]).all(axis=1)] = row[3]
                self.cells[b][t] = np.column_stack([mine, numbers])
        self.filled |= mask

    def finish(self, tokenizer: CellTokenizer) -> Score:
        """The file with the filled cells put in."""
        passage = self.passage
        file, scale = passage.file, passage.file.score.tpq / tokenizer.ticks_per_quarter
        region = np.zeros(file.shape, dtype=bool)
        region[passage.first : passage.last, passage.tracks] = self.filled
        new = {}
        for t, k in enumerate(passage.tracks):
            if not self.filled[:, t].any():
                continue
            old = file.notes(k)
            found = [np.zeros((0, 4), dtype=np.int64)]
            for b in np.flatnonzero(self.filled[:, t]):
                cell, (start, length) = self.cells[b][t], file.bars[passage.first + b, :2].tolist()
                cell = cell[~np.isin(cell[:, 3], self._numbers(t))]
                written = np.rint(cell[:, 0] * scale) + start
                early = file.score.tpq // EARLY
                onset = np.clip(  # what is early or rounded up stays in its bar
                    written + lateness_at(written, old, file.bars[:, 0], scale),
                    max(start - early, 0),
                    start + length - 1 - early,
                )
                loud = loudness_at(onset, old, tokenizer.velocity)
                lasts = np.maximum(np.rint(cell[:, 1] * scale), 1)
                rows = np.column_stack([onset, lasts, cell[:, 2], loud]).astype(np.int64)
                known = cell[:, 3] >= 0
                if self.keep and known.any():
                    rows[known, 3] = old[cell[known, 3], 3]
                if self.keep == "rhythm" and known.any():
                    rows[known, :2] = old[cell[known, 3], :2]
                found.append(rows)
            new[k] = np.concatenate(found)
        exact = passage.tracks if self.keep == "rhythm" else ()
        return with_cells(file, region, new, exact, self.held)
