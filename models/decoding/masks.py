"""Which notes may come next, as boolean masks of tokens by type and by value: of one row, or of a batch at
once."""

import numpy as np

from models.decoding.script import NEVER
from models.tokens.tokenizer import PITCHES, CellTokenizer

MAX_NOTES_IN_CELL = 64
# Columns of a row's state: next settled token and its index; start and length of the bar; onset and pitch of
# the last note in the cell; onset and duration as they stand for the next; notes in the cell; rhythmic grid;
# flags; and the highest pitch that may sound longest.
(
    CURSOR,
    NEXT,
    START,
    LENGTH,
    ONSET,
    PITCH,
    EXPECTED,
    DURATION,
    NOTES,
    GRID,
    OPEN,
    POSITIONED,
    TIMED,
    DRUM,
    LOCKED,
    SILENT_END,
    FREEST,
    LED,
    KEEPS,
) = range(19)
COLUMNS = 19
FAR = np.iinfo(np.int64).max // 2


class Masks:
    """Blocks of the vocabulary and the rules of notes in a cell: positions never go back, no pitch is doubled
    or overlaps itself or a kept note."""

    def __init__(self, tokenizer: CellTokenizer) -> None:
        self._size = len(tokenizer)
        self._ticks, self._pitches = np.arange(tokenizer.block_size["Position"]), np.arange(PITCHES)
        self._lengths = np.arange(1, tokenizer.block_size["Duration"] + 1)
        blocks = {
            kind: slice(first, first + tokenizer.block_size[kind])
            for kind, first in tokenizer.first_id.items()
        }
        self.position_block, self.duration_block, self.pitch_block, self.drum_block = (
            blocks[kind] for kind in ("Position", "Duration", "Pitch", "PitchDrum")
        )
        self._has_drums = tokenizer.block_size["PitchDrum"] > 0

    def many(self, state: np.ndarray, until: np.ndarray, limit: np.ndarray) -> np.ndarray:
        """Legal tokens of rows in these states (n, COLUMNS), bool (n, vocabulary). until, limit (n, 128): the
        tick at which each pitch is free, and by which it must have ended."""
        column = state[:, :, None]  # (n, COLUMNS, 1): each column as (n, 1), against ticks and pitches
        start, onset, expected, duration, grid = (
            column[:, c] for c in (START, ONSET, EXPECTED, DURATION, GRID)
        )
        idle = (state[:, POSITIONED] | state[:, TIMED]) == 0
        writes = (state[:, OPEN] != 0) & (state[:, NOTES] < MAX_NOTES_IN_CELL)
        legal = np.zeros((len(state), self._size), dtype=bool)
        legal[np.arange(len(state)), state[:, NEXT]] = idle & (state[:, SILENT_END] == 0)

        # limit is NEVER where a pitch is not allowed
        at_abs, pitches = start + expected, self._pitches
        above = pitches > column[:, PITCH]
        free = (until <= at_abs) & (limit >= at_abs + grid) & (above | (expected != onset))
        placed = writes[:, None] & (expected < column[:, LENGTH]) & free.any(axis=1, keepdims=True)
        placed &= expected % grid == 0  # after a kept note it may be off the grid

        # a pitch that may sound to the barline and beyond makes every position from its release on possible
        barline_abs = start + column[:, LENGTH]
        first = np.where(limit >= barline_abs, until, FAR).min(axis=1, keepdims=True) - start
        chord_abs = start + onset
        chord = (onset != NEVER) & (above & (until <= chord_abs) & (limit >= chord_abs + grid)).any(
            axis=1, keepdims=True
        )
        ticks = self._ticks
        positions = (ticks >= np.maximum(onset + 1, first)) & (ticks <= column[:, LENGTH] - grid)
        positions |= (ticks == onset) & chord
        positions &= (ticks != expected) & (writes & idle)[:, None]
        lengths = self._lengths
        durations = (lengths <= np.where(free, limit, 0).max(axis=1, keepdims=True) - at_abs) & (
            lengths != duration
        )
        durations &= placed & (column[:, TIMED] == 0)
        if (state[:, GRID] > 1).any():
            positions &= ticks % grid == 0
            durations &= lengths % grid == 0
        legal[:, self.position_block] = positions
        legal[:, self.duration_block] = durations

        fits = free & (limit >= at_abs + duration) & placed & (duration > 0)
        if self._has_drums:
            drum = column[:, DRUM] != 0
            legal[:, self.drum_block] = fits & drum
            fits = fits & ~drum
        legal[:, self.pitch_block] = fits
        return legal

    def one(self, state: list[int], until: np.ndarray, limit: np.ndarray, legal: np.ndarray) -> None:
        """The same as `many` for one row, into zeros bool (vocabulary,): for a few rows plain numbers are
        faster than arrays of them."""
        start, length, onset, pitch, expected, duration, grid, freest = (
            state[c] for c in (START, LENGTH, ONSET, PITCH, EXPECTED, DURATION, GRID, FREEST)
        )
        idle = not state[POSITIONED] and not state[TIMED]
        legal[state[NEXT]] = idle and not state[SILENT_END]
        if not state[OPEN] or state[NOTES] >= MAX_NOTES_IN_CELL:
            return
        at_abs = start + expected
        lowest = pitch + 1 if expected == onset else 0  # pitches of a chord rise
        # Where the freest pitch may sound, it answers for all; only where it may not are all of them looked
        # at.
        released, closes = int(until[freest]) - start, int(limit[freest]) - start
        if expected < length and expected % grid == 0:
            told = freest >= lowest and released <= expected
            longest = (
                closes - expected
                if told
                else int(np.where(until[lowest:] <= at_abs, limit[lowest:], 0).max(initial=0)) - at_abs
            )
            if longest >= grid and not state[TIMED]:
                block = self.duration_block.start - 1
                legal[block + grid : min(block + longest + 1, self.duration_block.stop) : grid] = True
                if duration:
                    legal[block + duration] = False
            if longest >= duration > 0:
                block = (self.drum_block if state[DRUM] else self.pitch_block).start
                legal[block + lowest : block + PITCHES] = (until[lowest:] <= at_abs) & (
                    limit[lowest:] >= at_abs + duration
                )
        if idle:
            block, earliest = self.position_block.start, onset + 1
            if closes < length or released > earliest:
                earliest = max(earliest, int(np.where(limit >= start + length, until, FAR).min()) - start)
            legal[block + -(-earliest // grid) * grid : block + max(length - grid + 1, 0) : grid] = True
            if onset != NEVER and onset % grid == 0:
                chord = freest > pitch and released <= onset and closes >= onset + grid
                legal[block + onset] = chord or bool(
                    ((until <= start + onset) & (limit >= start + onset + grid))[pitch + 1 :].any()
                )
            if expected < len(self._ticks):
                legal[block + expected] = False
