"""The grammar: which tokens may come next, as boolean masks for a whole batch at once, by type and by value.

A *script* holds the tokens that are settled before the network writes: bars, programs, kept cells, controls
of cells, the end. In the open places between them the network chooses notes. Whatever it chooses, the
sequence ends, has exactly the bars and tracks of the script, positions never go back, no pitch of a track is
doubled or overlaps itself or a kept note, and the locks hold.
"""

import numpy as np

from models.decoding.locks import LockError, PitchLock, RhythmLock
from models.decoding.script import NEVER, Script
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
) = range(18)
COLUMNS = 18
FEW = 12  # rows up to which each is masked by itself
FAR = np.iinfo(np.int64).max // 2


class Grammar:
    """State of up to `capacity` sequences. `mask(rows)` gives the legal tokens, `advance(row, token)` moves
    one row."""

    def __init__(self, tokenizer: CellTokenizer, capacity: int) -> None:
        self._t = tokenizer
        self._scripts: list[Script | None] = [None] * capacity
        self._s = np.zeros((capacity, COLUMNS), dtype=np.int64)  # one gather gives the state of a batch
        self._until, self._limit = (
            np.zeros((capacity, PITCHES), dtype=np.int64),
            np.zeros((capacity, PITCHES), dtype=np.int64),
        )  # of the track a row is in
        self._allowed = np.zeros((capacity, PITCHES), dtype=bool)
        self._kind_of = [""] * len(tokenizer)
        for kind, first in tokenizer.first_id.items():
            self._kind_of[first : first + tokenizer.block_size[kind]] = [kind] * tokenizer.block_size[kind]
        self._ticks, self._pitches = np.arange(tokenizer.block_size["Position"]), np.arange(PITCHES)
        self._lengths = np.arange(1, tokenizer.block_size["Duration"] + 1)
        blocks = {
            kind: slice(first, first + tokenizer.block_size[kind])
            for kind, first in tokenizer.first_id.items()
        }
        self._position_block, self._duration_block, self._pitch_block, self._drum_block = (
            blocks[kind] for kind in ("Position", "Duration", "Pitch", "PitchDrum")
        )
        self._has_drums = tokenizer.block_size["PitchDrum"] > 0

    def is_pitch(self, token: int) -> bool:
        """Whether a token ends a note."""
        return self._kind_of[token] in ("Pitch", "PitchDrum")

    def join(self, row: int, script: Script) -> None:
        """Start a sequence in a free row."""
        self._scripts[row] = script
        self._s[row] = 0
        self._s[row, GRID], self._s[row, NEXT] = script.locks.grid_ticks, script.tokens[0]
        self._s[row, LED] = script.leading is not None

    def leave(self, row: int) -> None:
        """Forget a row."""
        self._scripts[row] = None

    def finished(self, row: int) -> bool:
        """All of the script is written."""
        script = self._scripts[row]
        return script is not None and int(self._s[row, CURSOR]) == len(script.tokens)

    def settled(self, row: int) -> list[int]:
        """The tokens that must come next, up to and with the next open place or the end; [] where the network
        chooses."""
        script, cursor = self._scripts[row], int(self._s[row, CURSOR])
        assert script is not None
        if self._s[row, OPEN]:
            return []
        stop = cursor
        while stop < len(script.tokens):
            stop += 1
            if script.open[stop - 1]:
                break
        return [int(token) for token in script.tokens[cursor:stop]]

    def mask(self, rows: np.ndarray) -> np.ndarray:
        """Legal next tokens, bool (n, vocabulary), of unfinished rows, int (n,). Raises LockError where locks
        leave none."""
        if len(rows) > FEW:
            legal = self._mask_of_batch(rows)
        else:
            legal = np.zeros((len(rows), len(self._kind_of)), dtype=bool)
            for mine, row in zip(legal, rows.tolist(), strict=True):
                self._mask_of(row, mine)
        for mine, row in zip(legal, rows.tolist(), strict=True):
            if not mine[mine.argmax()]:
                raise LockError(self._dead_end(row))
            if self._s[row, LED]:
                self._lead(row, mine)
        return legal

    def _lead(self, row: int, legal: np.ndarray) -> None:
        """Take the pitches that would make parallels from the legal tokens of a row, bool (vocabulary,),
        unless nothing were left."""
        script, state = self._scripts[row], self._s[row].tolist()
        assert script is not None and script.leading is not None
        pitches = legal[self._pitch_block]
        if not pitches.any() or isinstance(script.cell_locks.get(state[CURSOR] - 1), PitchLock):
            return
        onset_abs = state[START] + state[EXPECTED]
        wrong = [
            pitch
            for pitch in script.leading.wrong(
                int(script.track[state[CURSOR] - 1]), onset_abs, onset_abs + state[DURATION]
            )
            if pitches[pitch]
        ]
        pitches[wrong] = False
        if not legal.any():
            pitches[wrong] = True

    def _mask_of(self, row: int, legal: np.ndarray) -> None:
        """The same as `_mask_of_batch` for one row, into zeros bool (vocabulary,): for a few rows plain
        numbers are faster than arrays of them."""
        state: list[int] = self._s[row].tolist()
        if state[LOCKED]:
            legal[:] = self._locked_mask(row)
            return
        start, length, onset, pitch, expected, duration, grid, freest = (
            state[c] for c in (START, LENGTH, ONSET, PITCH, EXPECTED, DURATION, GRID, FREEST)
        )
        idle = not state[POSITIONED] and not state[TIMED]
        legal[state[NEXT]] = idle and not state[SILENT_END]
        if not state[OPEN] or state[NOTES] >= MAX_NOTES_IN_CELL:
            return
        until, limit, at_abs = self._until[row], self._limit[row], start + expected
        lowest = pitch + 1 if expected == onset else 0  # pitches of a chord rise
        # Where the freest pitch may sound, it answers for all; only where it may not are all of them looked
        # at.
        released, closes = int(until[freest]) - start, int(limit[freest]) - start
        if expected < length:
            told = freest >= lowest and released <= expected
            longest = (
                closes - expected
                if told
                else int(np.where(until[lowest:] <= at_abs, limit[lowest:], 0).max(initial=0)) - at_abs
            )
            if longest >= grid and not state[TIMED]:
                block = self._duration_block.start - 1
                legal[block + grid : min(block + longest + 1, self._duration_block.stop) : grid] = True
                if duration:
                    legal[block + duration] = False
            if longest >= duration > 0:
                block = (self._drum_block if state[DRUM] else self._pitch_block).start
                legal[block + lowest : block + PITCHES] = (until[lowest:] <= at_abs) & (
                    limit[lowest:] >= at_abs + duration
                )
        if idle:
            block, earliest = self._position_block.start, onset + 1
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

    def _mask_of_batch(self, rows: np.ndarray) -> np.ndarray:
        """All rows at once, bool (n, vocabulary)."""
        t = self._t
        state = self._s[rows]
        column = state[:, :, None]  # (n, COLUMNS, 1): each column as (n, 1), against ticks and pitches
        start, onset, expected, duration, grid = (
            column[:, c] for c in (START, ONSET, EXPECTED, DURATION, GRID)
        )
        idle = (state[:, POSITIONED] | state[:, TIMED]) == 0
        writes = (state[:, OPEN] != 0) & (state[:, NOTES] < MAX_NOTES_IN_CELL)
        legal = np.zeros((len(rows), len(t)), dtype=bool)
        legal[np.arange(len(rows)), state[:, NEXT]] = idle & (state[:, SILENT_END] == 0)

        until, limit = self._until[rows], self._limit[rows]  # limit is NEVER where a pitch is not allowed
        at_abs, pitches = start + expected, self._pitches
        above = pitches > column[:, PITCH]
        free = (until <= at_abs) & (limit >= at_abs + grid) & (above | (expected != onset))
        placed = writes[:, None] & (expected < column[:, LENGTH]) & free.any(axis=1, keepdims=True)

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
        legal[:, self._position_block] = positions
        legal[:, self._duration_block] = durations

        fits = free & (limit >= at_abs + duration) & placed & (duration > 0)
        if self._has_drums:
            drum = column[:, DRUM] != 0
            legal[:, self._drum_block] = fits & drum
            fits = fits & ~drum
        legal[:, self._pitch_block] = fits
        for i in np.flatnonzero(state[:, LOCKED]):
            legal[i] = self._locked_mask(int(rows[i]))
        return legal

    def _dead_end(self, row: int) -> str:
        script = self._scripts[row]
        assert script is not None
        bar = len(np.unique(script.bar_start_abs[: int(self._s[row, CURSOR])]))
        return (
            f"the locks leave nothing that could be written in bar {bar} of the region: widen the "
            f"range or the scale, or unlock the rhythm or the pitches"
        )

    def _locked_mask(self, row: int) -> np.ndarray:
        """Legal tokens of a row in a cell whose rhythm or pitches are locked, bool (vocabulary,)."""
        t, script = self._t, self._scripts[row]
        assert script is not None
        state = self._s[row].tolist()
        lock = script.cell_locks[state[CURSOR] - 1]
        start, onset, pitch, expected, duration = (
            state[c] for c in (START, ONSET, PITCH, EXPECTED, DURATION)
        )
        legal = np.zeros(len(t), dtype=bool)
        kinds: dict[str, np.ndarray]
        if isinstance(lock, RhythmLock):
            may_sound = self._until[row] <= start + expected
            kind, values = lock.legal(
                expected,
                duration,
                pitch if expected == onset else NEVER,
                np.where(may_sound, self._limit[row] - start, NEVER),
            )
            kinds = {kind: values} if kind else {}
        else:
            kinds = lock.legal(
                expected,
                duration,
                onset,
                bool(state[POSITIONED]),
                bool(state[TIMED]),
                self._until[row] - start,
                self._limit[row] - start,
            )
        if not kinds:
            legal[state[NEXT]] = True
        for kind, values in kinds.items():
            name = "PitchDrum" if kind == "Pitch" and state[DRUM] else kind
            legal[t.first_id[name] + values - (name == "Duration")] = True
        return legal

    def advance(self, row: int, token: int) -> None:
        """Move a row by a legal token."""
        script, state = self._scripts[row], self._s[row]
        assert script is not None
        kind = self._kind_of[token]
        value = token - self._t.first_id[kind] if kind else 0
        cursor = int(state[CURSOR])
        if kind == "Position":
            state[EXPECTED], state[POSITIONED] = value, 1
        elif kind == "Duration":
            state[DURATION], state[TIMED] = value + 1, 1
        elif kind in ("Pitch", "PitchDrum"):
            self._note(row, script, value)
        if state[OPEN] and kind in ("Position", "Duration", "Pitch", "PitchDrum"):
            return
        if kind in ("Bar", "Program") or not kind:  # not kind: EOS
            state[OPEN] = state[LOCKED] = 0
        state[CURSOR] = cursor + 1
        if kind == "Program":
            self._enter(row, script, cursor)
        if script.open[cursor]:
            state[OPEN], state[LOCKED] = 1, cursor in script.cell_locks
            self._limit[row] = np.where(self._allowed[row], script.next_kept_abs[cursor], NEVER)
            state[FREEST] = PITCHES - 1 - int(self._limit[row, ::-1].argmax())
            if cursor == script.last_open and script.must_sound_from_abs != NEVER:
                state[SILENT_END] = not (script.until_abs > script.must_sound_from_abs).any()
        state[NEXT] = script.tokens[cursor + 1] if cursor + 1 < len(script.tokens) else self._t.eos_id

    def _enter(self, row: int, script: Script, cursor: int) -> None:
        state, track = self._s[row], int(script.track[cursor])
        state[START], state[LENGTH] = script.bar_start_abs[cursor], script.bar_length[cursor]
        state[ONSET] = state[PITCH] = NEVER
        state[EXPECTED] = state[DURATION] = state[NOTES] = 0
        state[DRUM] = script.is_drum[track]
        self._until[row], self._allowed[row] = script.until_abs[track], script.allowed[track]

    def _note(self, row: int, script: Script, pitch: int) -> None:
        state = self._s[row]
        cursor = int(state[CURSOR])
        track = int(script.track[cursor - 1])
        onset, duration = int(state[EXPECTED]), int(state[DURATION])
        end = int(state[START]) + onset + duration
        self._until[row, pitch] = script.until_abs[track, pitch] = end
        state[ONSET], state[PITCH], state[EXPECTED] = onset, pitch, onset + duration
        if script.leading is not None:
            script.leading.note(track, int(state[START]) + onset, end, pitch)
        state[NOTES] += 1
        state[POSITIONED] = state[TIMED] = 0
        if end > script.must_sound_from_abs:
            state[SILENT_END] = 0
        lock = script.cell_locks.get(cursor - 1)
        if lock is not None and state[OPEN]:
            lock.next += 1
