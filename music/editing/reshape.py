"""Change the shape of a file: bars put before or after it, tracks added, bars given another metre. Every
event moves with its bar.

Each function gives new `FileCells` (with the bars spelled out: empty ones are not seen from the notes) and
leaves its argument alone.
"""

import numpy as np
from symusic import Score, Tempo, TimeSignature, Track

from music.score.errors import UnreadableScore
from music.score.file_cells import FileCells, notes_of, set_notes
from music.score.form import bar_ticks
from music.score.instruments import DRUMS, name_of

LAST_TICK = 2**30


def retimed(score: Score, old: list[int], new: list[int]) -> Score:
    """A copy with every event moved: piecewise linear from the ticks `old` to `new`, and rigid past the
    last."""
    return score.adjust_time([*old, old[-1] + LAST_TICK], [*new, new[-1] + LAST_TICK])


def with_bars(file: FileCells, count: int, at_start: bool) -> FileCells:
    """`count` empty bars after the last bar, or before the first, in its metre."""
    edge = file.bars[0 if at_start else -1]
    length = bar_ticks(int(edge[2]), int(edge[3]), file.score.tpq)
    rows = np.tile(edge, (count, 1))
    rows[:, 1] = length
    if not at_start:
        end = int(file.bars[-1, 0] + file.bars[-1, 1])
        rows[:, 0] = end + np.arange(count) * length
        return FileCells(file.score.copy(), np.concatenate([file.bars, rows]))
    rows[:, 0] = np.arange(count) * length
    score = retimed(file.score, [0], [count * length])
    score.tempos.insert(0, Tempo(0, qpm=file.score.tempos[0].qpm if len(file.score.tempos) else 120.0))
    score.time_signatures.insert(0, TimeSignature(0, int(edge[2]), int(edge[3])))
    for signature in file.score.key_signatures:
        if signature.time == 0:
            first = signature.copy()
            score.key_signatures.insert(0, first)
            break
    for before, after in zip(file.score.tracks, score.tracks, strict=True):
        for event in before.controls:  # what sets a track up (volume, bank, pan) stays at the very start
            if event.time == 0:
                after.controls.insert(0, event.copy())
    bars = file.bars.copy()
    bars[:, 0] += count * length
    return FileCells(score, np.concatenate([rows, bars]))


def with_tracks(file: FileCells, programs: list[int]) -> FileCells:
    """Empty tracks for these programs (-1: drums) after the last."""
    score = file.score.copy()
    for program in programs:
        score.tracks.append(Track(name_of(program), max(program, 0), program == DRUMS))
    return FileCells(score, file.bars)


def with_program(file: FileCells, track: int, program: int) -> FileCells:
    """One track played by another program."""
    score = file.score.copy()
    score.tracks[track].program, score.tracks[track].is_drum = max(program, 0), program == DRUMS
    if score.tracks[track].name:
        score.tracks[track].name = name_of(program)
    return FileCells(score, file.bars)


def with_metre(file: FileCells, first: int, last: int, numerator: int, denominator: int) -> FileCells:
    """Bars [first, last) in another metre, one bar for one bar: their notes move in proportion, onto
    sixteenths; all else keeps its place in its bar.

    Raises UnreadableScore where the new bar is no whole number of ticks.
    """
    length = bar_ticks(numerator, denominator, file.score.tpq)
    bars = file.bars.copy()
    bars[first:last, 1] = length
    bars[first:last, 2:] = numerator, denominator
    ends = np.concatenate([[0], np.cumsum(bars[:, 1])])
    bars[:, 0] = ends[:-1]
    if file.score.tpq % 4:
        raise UnreadableScore(
            f"the file has {file.score.tpq} ticks a quarter, which hold no sixteenths: export "
            f"it with a multiple of 4, or leave the metre"
        )
    score = retimed(file.score, [*file.bars[:, 0].tolist(), int(file.bars[-1, :2].sum())], ends.tolist())
    score.time_signatures.clear()
    for b, (start, _, n, d) in enumerate(bars.tolist()):
        if not b or (n, d) != tuple(bars[b - 1, 2:].tolist()):
            score.time_signatures.append(TimeSignature(start, n, d))
    changed = FileCells(score, bars)
    for before, track in zip(file.score.tracks, score.tracks, strict=True):
        old, notes = notes_of(before), notes_of(track)
        inside = (file.bar_of(old[:, 0]) >= first) & (file.bar_of(old[:, 0]) < last)
        bar = file.bar_of(old[:, 0])
        for b in range(first, last):
            mine = bar == b
            notes[mine, :2] = _fitted(
                old[mine, 0] - file.bars[b, 0],
                old[mine, 1],
                int(file.bars[b, 1]),
                length,
                file.score.tpq // 4,
            )
            notes[mine, 0] += bars[b, 0]
        kept = ~inside
        notes[kept, 0] = (bars[bar, 0] + old[:, 0] - file.bars[bar, 0])[kept]
        notes[kept, 1] = old[kept, 1]
        set_notes(track, notes)
    return changed


def _fitted(onset: np.ndarray, duration: np.ndarray, old: int, new: int, grid: int) -> np.ndarray:
    """Onsets and lengths of a bar of `old` ticks in one of `new`, int64 (n, 2): in proportion, and onto
    `grid` unless notes would then coincide that did not."""
    exact = onset * new / old
    rounded = np.minimum(np.rint(exact / grid) * grid, new - grid)
    if len(np.unique(rounded)) < len(np.unique(onset)):
        rounded, grid = np.floor(exact), 1
    lengths = np.maximum(np.rint(duration * new / old / grid), 1) * grid
    return np.column_stack([np.clip(rounded, 0, new - 1), lengths]).astype(np.int64)
