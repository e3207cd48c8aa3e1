"""The grammar: which tokens may come next, as boolean masks for a whole batch at once, by type and by value.

A *plan* fixes what is asked: the metre of every bar and the program of every track. The structural tokens (Bar, Program, EOS) come
from it in order; between them the network chooses notes. Whatever it chooses, the sequence ends, has exactly the bars and tracks
of the plan, its positions never go back, and no pitch of a track is doubled or overlaps itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.tokens import PITCHES, CellTokenizer
from music.instruments import DRUMS

MAX_NOTES_IN_CELL = 64
NEVER = -1


@dataclass(frozen=True)
class Plan:
    """Metre (numerator, denominator) of every bar, and General MIDI program of every track (-1: drums)."""

    metres: tuple[tuple[int, int], ...]
    programs: tuple[int, ...]


class Grammar:
    """State of a batch of sequences. `mask()` gives the legal tokens, `advance(tokens)` moves every row by one token.

    Rows R, structural tokens S, tracks K. Ticks ending in `_abs` count from the start of the piece, others from the barline.
    """

    def __init__(self, tokenizer: CellTokenizer, plans: Sequence[Plan]) -> None:
        self._tokenizer, self._plans = tokenizer, list(plans)
        rows = len(self._plans)
        longest = max(len(plan.metres) * (1 + len(plan.programs)) + 1 for plan in self._plans)
        tracks = max(len(plan.programs) for plan in self._plans)
        self._structure = np.full((rows, longest + 1), tokenizer.eos_id)
        self._bar_start_abs = np.zeros((rows, longest + 1), dtype=np.int64)
        self._bar_length = np.zeros((rows, longest + 1), dtype=np.int64)
        self._track = np.full((rows, longest + 1), NEVER)
        self._is_drum = np.zeros((rows, longest + 1), dtype=bool)
        self._last_bar = np.zeros((rows, longest + 1), dtype=bool)
        self._end_abs = np.zeros(rows, dtype=np.int64)
        for row, plan in enumerate(self._plans):
            self._lay_out(row, plan)
        self._cursor = np.zeros(rows, dtype=np.int64)  # next structural token
        self._onset = np.full(rows, NEVER)  # of the last note in the cell
        self._pitch = np.full(rows, NEVER)
        self._expected = np.zeros(rows, dtype=np.int64)  # onset of the next note where no Position says otherwise
        self._duration = np.zeros(rows, dtype=np.int64)
        self._positioned, self._timed = np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool)
        self._notes = np.zeros(rows, dtype=np.int64)
        self._last_bar_sounds = np.zeros(rows, dtype=bool)
        self._sounding_until_abs = np.zeros((rows, tracks, PITCHES), dtype=np.int64)
        self.finished = np.zeros(rows, dtype=bool)

    def _lay_out(self, row: int, plan: Plan) -> None:
        tokenizer, cursor, start = self._tokenizer, 0, 0
        for bar, (numerator, denominator) in enumerate(plan.metres):
            token = tokenizer.id_of("Bar", f"{numerator}/{denominator}")
            length = int(tokenizer.bar_lengths[token - tokenizer.first_id["Bar"]])
            cells = slice(cursor, cursor + 1 + len(plan.programs))
            self._structure[row, cells] = [token, *(tokenizer.id_of("Program", p) for p in plan.programs)]
            self._track[row, cells] = [NEVER, *range(len(plan.programs))]
            self._is_drum[row, cells] = [False, *(p == DRUMS for p in plan.programs)]
            self._bar_start_abs[row, cells], self._bar_length[row, cells] = start, length
            self._last_bar[row, cells] = bar == len(plan.metres) - 1
            cursor, start = cells.stop, start + length
        self._end_abs[row] = start

    def mask(self) -> np.ndarray:
        """Legal next tokens, bool (R, vocabulary). A finished row may only repeat EOS."""
        t = self._tokenizer
        rows = np.arange(len(self._plans))
        here = np.maximum(self._cursor - 1, 0)  # the structural token whose cell we are in
        track = np.where(self._cursor > 0, self._track[rows, here], NEVER)
        start, length = self._bar_start_abs[rows, here], self._bar_length[rows, here]
        in_cell = (track != NEVER) & ~self.finished & (self._notes < MAX_NOTES_IN_CELL)
        allowed = np.zeros((len(rows), len(t)), dtype=bool)

        idle = ~self._positioned & ~self._timed
        next_token = self._structure[rows, self._cursor]
        silent_end = (next_token == t.eos_id) & ~self._last_bar_sounds & (self._cursor > 0) & ~self.finished
        allowed[rows, next_token] = idle & ~silent_end

        sounding = self._sounding_until_abs[rows, np.maximum(track, 0)]  # (R, 128)
        onset = self._expected  # holds the Position once one is chosen
        free = sounding <= (start + onset)[:, None]
        free &= (np.arange(PITCHES) > self._pitch[:, None]) | (onset != self._onset)[:, None]
        placed = in_cell & (onset < length) & free.any(axis=1)

        position = t.first_id["Position"]
        ticks = np.arange(t.block_size["Position"])
        first_free = sounding.min(axis=1) - start
        chord = ((sounding <= (start + self._onset)[:, None]) & (np.arange(PITCHES) > self._pitch[:, None])).any(axis=1) & (self._onset != NEVER)
        later = (ticks > self._onset[:, None]) & (ticks >= first_free[:, None])
        same = (ticks == self._onset[:, None]) & chord[:, None]
        positions = (later | same) & (ticks < length[:, None]) & (ticks != self._expected[:, None])
        allowed[:, position : position + len(ticks)] = positions & (in_cell & idle)[:, None]

        left = self._end_abs - start - onset  # a note may not outlast the piece
        duration = t.first_id["Duration"]
        lengths = np.arange(1, t.block_size["Duration"] + 1)
        durations = (lengths <= left[:, None]) & (lengths != self._duration[:, None])
        allowed[:, duration : duration + len(lengths)] = durations & (placed & ~self._timed)[:, None]

        fits = placed & (self._duration > 0) & (self._duration <= left)
        drum = self._is_drum[rows, here]
        for kind, rows_of_kind in (("Pitch", fits & ~drum), ("PitchDrum", fits & drum)):
            block = t.first_id[kind]
            if t.block_size[kind]:
                allowed[:, block : block + PITCHES] = free & rows_of_kind[:, None]
        return allowed

    def advance(self, tokens: np.ndarray) -> None:
        """Move each row by its token, int (R,); tokens must be legal."""
        t = self._tokenizer
        rows = np.arange(len(self._plans))
        here = np.maximum(self._cursor - 1, 0)

        structural = (tokens == self._structure[rows, self._cursor]) & ~self._positioned & ~self._timed & ~self.finished
        self.finished |= structural & (tokens == t.eos_id)
        new_bar = structural & (self._track[rows, np.minimum(self._cursor, self._track.shape[1] - 1)] == NEVER)
        self._cursor = self._cursor + (structural & ~self.finished)
        self._onset[structural], self._pitch[structural] = NEVER, NEVER
        self._expected[structural], self._duration[structural], self._notes[structural] = 0, 0, 0
        held = (self._sounding_until_abs > self._bar_start_abs[rows, np.maximum(self._cursor - 1, 0)][:, None, None]).any(axis=(1, 2))
        self._last_bar_sounds |= new_bar & self._last_bar[rows, np.maximum(self._cursor - 1, 0)] & held

        def chosen(kind: str) -> tuple[np.ndarray, np.ndarray]:
            value = tokens - t.first_id[kind]
            return (value >= 0) & (value < t.block_size[kind]) & ~structural & ~self.finished, value

        is_position, value = chosen("Position")
        self._expected = np.where(is_position, value, self._expected)
        self._positioned |= is_position
        is_duration, value = chosen("Duration")
        self._duration = np.where(is_duration, value + 1, self._duration)
        self._timed |= is_duration
        for kind in ("Pitch", "PitchDrum"):
            is_pitch, value = chosen(kind)
            hit = np.flatnonzero(is_pitch)
            onset_abs = self._bar_start_abs[hit, here[hit]] + self._expected[hit]
            self._sounding_until_abs[hit, self._track[hit, here[hit]], value[hit]] = onset_abs + self._duration[hit]
            self._onset[hit], self._pitch[hit] = self._expected[hit], value[hit]
            self._expected[hit] += self._duration[hit]
            self._notes[hit] += 1
            self._last_bar_sounds[hit] |= self._last_bar[hit, here[hit]]
            self._positioned[hit] = self._timed[hit] = False

    def bar_of(self) -> np.ndarray:
        """Index of the bar each row is in, int (R,); -1 before the first."""
        cells = np.array([1 + len(plan.programs) for plan in self._plans])
        return np.where(self._cursor > 0, (self._cursor - 1) // cells, NEVER)

    def keep(self, rows: np.ndarray) -> None:
        """Forget all rows but these, int (r,)."""
        self._plans = [self._plans[int(row)] for row in rows]
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(self, name, value[rows])
