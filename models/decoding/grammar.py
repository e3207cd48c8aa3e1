"""The grammar: which tokens may come next, as boolean masks for a whole batch at once, by type and by value.

A *script* holds the tokens that are settled before the network writes: bars, programs, kept cells, controls
of cells, the end. In the open places between them the network chooses notes. Whatever it chooses, the
sequence ends, has exactly the bars and tracks of the script, positions never go back, no pitch of a track is
doubled or overlaps itself or a kept note, and the locks hold.
"""

import numpy as np

from models.decoding.locks import CopyLock, LockError, PitchLock, RhythmLock
from models.decoding.masks import (
    COLUMNS,
    CURSOR,
    DRUM,
    DURATION,
    EXPECTED,
    FREEST,
    GRID,
    KEEPS,
    LED,
    LENGTH,
    LOCKED,
    NEXT,
    NOTES,
    ONSET,
    OPEN,
    PITCH,
    POSITIONED,
    SILENT_END,
    START,
    TIMED,
    Masks,
)
from models.decoding.script import NEVER, Script
from models.decoding.steering import Steering
from models.tokens.place_cells import Kinds
from models.tokens.tokenizer import PITCHES, CellTokenizer

FEW = 12  # rows up to which each is masked by itself


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
        self._masks = Masks(tokenizer)
        self.kinds, self.steering = Kinds(tokenizer), Steering(tokenizer)

    def is_pitch(self, token: int) -> bool:
        """Whether a token ends a note."""
        return self._kind_of[token] in ("Pitch", "PitchDrum")

    def is_bar(self, token: int) -> bool:
        return self._kind_of[token] == "Bar"

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
            legal = self._masks.many(self._s[rows], self._until[rows], self._limit[rows])
        else:
            legal = np.zeros((len(rows), len(self._kind_of)), dtype=bool)
            for mine, row in zip(legal, rows.tolist(), strict=True):
                if not self._s[row, LOCKED]:
                    self._masks.one(self._s[row].tolist(), self._until[row], self._limit[row], mine)
        for mine, row in zip(legal, rows.tolist(), strict=True):
            if self._s[row, LOCKED]:
                mine[:] = self._locked_mask(row)
            if self._s[row, KEEPS]:
                self._keep(row, mine)
            if not mine[mine.argmax()]:
                raise LockError(self._dead_end(row))
            if self._s[row, LED]:
                self._lead(row, mine)
        return legal

    def _keep(self, row: int, legal: np.ndarray) -> None:
        """Make way for the next note of the cell that stays, in the legal tokens of a row, bool
        (vocabulary,)."""
        script, state = self._scripts[row], self._s[row].tolist()
        assert script is not None
        note = script.keeps[state[CURSOR] - 1].note
        if note is None:
            return
        onset, duration, pitch = note
        idle = not state[POSITIONED] and not state[TIMED]
        legal[state[NEXT]] = False
        legal[self._masks.position_block.start + onset + 1 : self._masks.position_block.stop] = False
        at = self._masks.position_block.start + onset
        if state[EXPECTED] == onset:
            block = (self._masks.drum_block if state[DRUM] else self._masks.pitch_block).start
            at = (
                block + pitch
                if state[DURATION] == duration
                else self._masks.duration_block.start - 1 + duration
            )
            legal[:] = False
            legal[at] = True
        elif state[EXPECTED] > onset:
            legal[:] = False
            legal[at] = True
        elif idle:
            legal[at] = True
            # rests before it: base masks know no limit so near
            if script.lines[int(script.track[state[CURSOR] - 1])]:
                grid, start = state[GRID], state[START]
                earliest = max(state[ONSET] + 1, int(self._until[row].min()) - start, 0)
                ticks = np.arange(-(-earliest // grid) * grid, onset - grid + 1, grid)
                legal[self._masks.position_block.start + ticks[ticks != state[EXPECTED]]] = True

    def _lead(self, row: int, legal: np.ndarray) -> None:
        """Take the pitches that would make parallels from the legal tokens of a row, bool (vocabulary,),
        unless nothing were left."""
        script, state = self._scripts[row], self._s[row].tolist()
        assert script is not None and script.leading is not None
        pitches = legal[self._masks.pitch_block]
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
        if isinstance(lock, CopyLock):
            legal = np.zeros(len(t), dtype=bool)
            legal[lock.tokens[lock.next] if lock.next < len(lock.tokens) else state[NEXT]] = True
            return legal
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
        if script.written and kind in ("Position", "Duration", "Pitch", "PitchDrum"):
            cell = (int(script.bar[cursor - 1]), int(script.track[cursor - 1]))
            if cell in script.written:
                script.written[cell].append(token)
            lock = script.cell_locks.get(cursor - 1)
            if isinstance(lock, CopyLock):
                lock.next += 1
        if state[OPEN] and kind in ("Position", "Duration", "Pitch", "PitchDrum"):
            return
        if kind in ("Bar", "Program") or not kind:  # not kind: EOS
            state[OPEN] = state[LOCKED] = state[KEEPS] = 0
        state[CURSOR] = cursor + 1
        if kind == "Program":
            self._enter(row, script, cursor)
        if script.open[cursor]:
            state[OPEN], state[LOCKED] = 1, cursor in script.cell_locks
            state[KEEPS] = cursor in script.keeps
            lock = script.cell_locks.get(cursor)
            if isinstance(lock, CopyLock):
                lock.tokens = script.written[lock.source]
            self._set_limits(row, script, cursor)
            if cursor == script.last_open and script.must_sound_from_abs != NEVER:
                state[SILENT_END] = not (script.until_abs > script.must_sound_from_abs).any()
        state[NEXT] = script.tokens[cursor + 1] if cursor + 1 < len(script.tokens) else self._t.eos_id

    def _set_limits(self, row: int, script: Script, cursor: int) -> None:
        """When each pitch must be silent again in the cell that an open token begins, as things stand."""
        limit = script.next_kept_abs[cursor]
        if cursor in script.keeps and (note := script.keeps[cursor].note) is not None:
            start = int(self._s[row, START]) + note[0]
            limit = limit.copy()
            if script.lines[int(script.track[cursor])]:
                limit[:] = np.minimum(limit, start)
            else:
                for onset, _, pitch in script.keeps[cursor].left:
                    limit[pitch] = min(limit[pitch], int(self._s[row, START]) + onset)
        self._limit[row] = np.where(self._allowed[row], limit, NEVER)
        self._s[row, FREEST] = PITCHES - 1 - int(self._limit[row, ::-1].argmax())

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
        if script.lines[track]:
            end_abs = max(end, int(self._until[row, pitch]))
            self._until[row], script.until_abs[track] = end_abs, end_abs
        else:
            self._until[row, pitch] = script.until_abs[track, pitch] = end
        state[ONSET], state[PITCH], state[EXPECTED] = onset, pitch, onset + duration
        if script.leading is not None:
            script.leading.note(track, int(state[START]) + onset, end, pitch)
        state[NOTES] += 1
        state[POSITIONED] = state[TIMED] = 0
        if end > script.must_sound_from_abs:
            state[SILENT_END] = 0
        lock = script.cell_locks.get(cursor - 1)
        if lock is not None and state[OPEN] and not isinstance(lock, CopyLock):
            lock.next += 1
        if state[KEEPS]:
            script.keeps[cursor - 1].written(onset, pitch)
            self._set_limits(row, script, cursor - 1)
