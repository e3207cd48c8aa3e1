"""JSB Chorales as sixteenth grids: loading, features of the past, longest matches in earlier music.

A grid is int64 (T, 4): MIDI pitch of soprano, alto, tenor, bass at each sixteenth, -1 for a rest
(Boulanger-Lewandowski et al. 2012, in the sixteenth form of Hadjeres et al. 2017). T: steps, B: pieces.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

LOWEST, HIGHEST = 30, 87  # MIDI pitches told apart: the data's 36-81 with a shift of -6 to +6
REST, START = 0, HIGHEST - LOWEST + 2  # tokens: 0 rest, 1.. pitches, START stands before the first step
VOCABULARY = START  # tokens that can be written
ORDER = (0, 3, 1, 2)  # voices of a step are decided as soprano, bass, alto, tenor
# of matches: by the soprano, by all voices, by all voices and the step's soprano, by all voices and the
# step's soprano and bass
KINDS = 4
DECIDED = (0, 0, 1, 2)  # voices of the step, in ORDER, that a kind looks at: it is shown to later voices only
MATCHES = 2 * KINDS  # in the piece itself, then in the train pieces
PHASE = 4  # a match must lie at the same sixteenth of the beat
SHORTEST = (4, 4, 1, 1)  # steps; shorter matches of a kind say nothing
FADE = 32  # steps
BREAK = 99  # code of a move into or out of a rest


def load(path: Path) -> dict[str, list[np.ndarray]]:
    """The benchmark's splits train, valid, test as grids."""
    data = json.loads(path.read_text())
    return {
        split: [np.array(piece, dtype=np.int64) for piece in data[split]]
        for split in ("train", "valid", "test")
    }


def ages(grid: np.ndarray) -> np.ndarray:
    """Steps for which each voice has held its pitch of the step before, int64 (T, 4); 0 at the first step."""
    age = np.zeros_like(grid)
    for t in range(1, len(grid)):
        held = grid[t - 1] == grid[t - 2] if t > 1 else np.zeros(4, dtype=bool)
        age[t] = np.where(held, age[t - 1], 0) + 1
    return age


def earlier(grid: np.ndarray) -> np.ndarray:
    """The pitch each voice had before that of the step before, int64 (T, 4); -2 where there was none."""
    before = np.full_like(grid, -2)
    for t in range(2, len(grid)):
        before[t] = np.where(grid[t - 1] != grid[t - 2], grid[t - 2], before[t - 1])
    return before


def scale(grid: np.ndarray) -> np.ndarray:
    """Share of each pitch class in what sounded before each step, float32 (T, 2, 12): in the whole piece and,
    fading, in about the last FADE steps."""
    sounding = np.zeros((len(grid), 12))
    for voice in range(4):
        pitched = np.flatnonzero(grid[:, voice] >= 0)
        np.add.at(sounding, (pitched, grid[pitched, voice] % 12), 1.0)
    total, recent, found = np.zeros(12), np.zeros(12), np.zeros((len(grid), 2, 12), dtype=np.float32)
    for t in range(1, len(grid)):
        total += sounding[t - 1]
        recent = recent * (1 - 1 / FADE) + sounding[t - 1]
        found[t] = total / max(total.sum(), 1e-9), recent / max(recent.sum(), 1e-9)
    return found


def moves(grid: np.ndarray) -> np.ndarray:
    """Moves from the step before, of the soprano, of all voices, of soprano and bass, one number each, int64
    (T, 3): the same in every key.

    A move is in semitones, BREAK into or out of a rest, -BREAK at the first step (alike in all pieces).
    """
    step = np.full(grid.shape, -BREAK, dtype=np.int64)
    step[1:] = np.where((grid[1:] < 0) != (grid[:-1] < 0), BREAK, np.diff(grid, axis=0))
    return np.stack([step[:, 0], step @ (256 ** np.arange(4)), step[:, 0] + 256 * step[:, 3]], axis=1)


@dataclass
class Past:
    """Music to look for matches in, its pieces in a row, each filled up to whole beats: grid (N, 4), moves
    (N, 3), piece index (N,)."""

    grid: np.ndarray
    moves: np.ndarray
    piece: np.ndarray

    @classmethod
    def of(cls, grids: Sequence[np.ndarray]) -> "Past":
        fill = [
            -len(grid) % PHASE + PHASE for grid in grids
        ]  # at least a beat, so that no match runs into the next piece
        padded = [
            np.pad(grid, ((0, n), (0, 0)), constant_values=-1) for grid, n in zip(grids, fill, strict=True)
        ]
        codes = [
            np.pad(moves(grid), ((0, n), (0, 0)), constant_values=2**40)
            for grid, n in zip(grids, fill, strict=True)
        ]
        return cls(
            np.concatenate(padded),
            np.concatenate(codes),
            np.repeat(np.arange(len(grids)), [len(grid) for grid in padded]),
        )


def longest_matches(
    grid: np.ndarray, past: Past, *, own: bool, exclude: int = -1
) -> tuple[np.ndarray, np.ndarray]:
    """For each step, what followed the longest run of moves in `past` that ends like the steps before it
    (PPM*, Cleary & Teahan 1997).

    Returns pitches (T, KINDS, 4), -2 where there is no match, and lengths in steps (T, KINDS); the soprano's
    run breaks ties between those of all voices, and the reverse. The pitches are moved to the soprano's (or
    the bass's, if it rests) present height. With `own`, `past` is the grid itself and only steps before the
    present are looked at; otherwise piece `exclude` is passed over.
    """
    here = moves(grid)
    pitches, lengths = (
        np.full((len(grid), KINDS, 4), -2, dtype=np.int64),
        np.zeros((len(grid), KINDS), dtype=np.int64),
    )
    there = [
        [np.ascontiguousarray(past.moves[phase::PHASE, code]) for code in range(3)] for phase in range(PHASE)
    ]
    following = [*there[1:], [np.append(code[1:], 0) for code in there[0]]]  # of the position after
    usable = (past.piece[::PHASE] != exclude).astype(np.int64)
    runs = np.zeros(
        (2, len(usable)), dtype=np.int64
    )  # [soprano or all, k]: steps matched up to position PHASE * k + phase
    for t in range(1, len(grid)):
        phase = (t - 1) % PHASE
        if phase == 0:
            runs[:, 1:] = runs[:, :-1].copy()
            runs[:, 0] = 0
        for code in (0, 1):
            runs[code] = (runs[code] + 1) * (there[phase][code] == here[t - 1, code])
        seen = slice(0, (t - 1) // PHASE if own else len(usable))  # positions before the present
        if seen.stop == 0:
            continue
        soprano, chord = (runs[0] * 1024 + runs[1]) * usable, (runs[1] * 1024 + runs[0]) * usable
        scores = (
            soprano,
            chord,
            chord * (following[phase][0] == here[t, 0]),
            chord * (following[phase][2] == here[t, 2]),
        )
        for kind, score in enumerate(scores):
            k = int(score[seen].argmax())
            length = int(runs[min(kind, 1), k])
            if score[k] and length >= SHORTEST[kind]:
                at = PHASE * k + phase
                lengths[t, kind] = length
                pitches[t, kind] = _moved(past.grid[at + 1], past.grid[at], grid[t - 1])
    return pitches, lengths


def _moved(found: np.ndarray, before: np.ndarray, present: np.ndarray) -> np.ndarray:
    voice = next((v for v in (0, 3) if before[v] >= 0 and present[v] >= 0), None)
    offset = 0 if voice is None else present[voice] - before[voice]
    return np.where(found >= 0, np.clip(found + offset, LOWEST + 6, HIGHEST - 6), -1)


@dataclass
class Piece:
    """A grid with what is known before each step. Pitches: -1 rest, -2 none."""

    grid: np.ndarray  # (T, 4)
    age: np.ndarray  # (T, 4)
    earlier: np.ndarray  # (T, 4)
    match: np.ndarray  # (T, MATCHES, 4)
    match_length: np.ndarray  # (T, MATCHES)
    scale: np.ndarray  # (T, 2, 12)
    learned: int = 4  # voices that count in the loss: 1 for a melody, whose other voices are unknown


def piece_of(grid: np.ndarray, past: Past, exclude: int = -1) -> Piece:
    """Features of a grid; `exclude` is its own index in `past`, if it is there."""
    own, own_length = longest_matches(grid, Past.of([grid]), own=True)
    others, others_length = longest_matches(grid, past, own=False, exclude=exclude)
    match, length = np.concatenate([own, others], axis=1), np.concatenate([own_length, others_length], axis=1)
    return Piece(grid, ages(grid), earlier(grid), match, length, scale(grid))
