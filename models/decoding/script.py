"""The script of one sequence: the tokens that are settled before the network writes, the open places between
them, and what must hold there."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.decoding.locks import LockError, Locks, PitchLock, RhythmLock
from models.decoding.voice_leading import Leading
from models.tokens.tokenizer import PITCHES, CellTokenizer
from music.score.instruments import DRUMS

NEVER = -1


@dataclass(frozen=True)
class Plan:
    """Metre (numerator, denominator) of every bar, and General MIDI program of every track (-1: drums)."""

    metres: tuple[tuple[int, int], ...]
    programs: tuple[int, ...]


@dataclass
class Script:
    """One sequence to write. S settled tokens, K tracks; ticks ending in `_abs` count from the start of the
    score.

    open: the network writes notes after this token until it chooses the next settled one. until_abs: tick at
    which what sounds at the start of the script has ended. next_kept_abs: for each open token, the tick at
    which each pitch must be silent again.
    """

    tokens: np.ndarray  # int64 (S,)
    open: np.ndarray  # bool (S,)
    track: np.ndarray  # int64 (S,), NEVER outside cells
    bar_start_abs: np.ndarray  # int64 (S,)
    bar_length: np.ndarray  # int64 (S,)
    until_abs: np.ndarray  # int64 (K, 128)
    next_kept_abs: dict[int, np.ndarray]  # (128,) by index of an open token
    allowed: np.ndarray  # bool (K, 128)
    is_drum: list[bool]
    locks: Locks = field(default_factory=Locks)
    cell_locks: dict[int, RhythmLock | PitchLock] = field(default_factory=dict)
    must_sound_from_abs: int = (
        NEVER  # a note must sound at or after this tick, or the last bar would not be there
    )
    last_open: int = NEVER  # index of the last open token: that cell may not close in silence
    leading: Leading | None = None  # where parallels are kept from


def script_of(
    tokenizer: CellTokenizer,
    plan: Plan,
    missing: np.ndarray,
    given: Sequence[Sequence[list[int]]],
    first: int,
    last: int,
    *,
    kept: Sequence[np.ndarray] | None = None,
    old: Sequence[np.ndarray] | None = None,
    locks: Locks | None = None,
) -> Script:
    """Script of bars [first, last) of a score: `missing` bool (bars, tracks) is open, `given[b][k]` the
    tokens after Program k of bar b.

    `given` of a missing cell holds the controls asked of it, of a kept cell its notes. `kept`: notes (n, 3)
    of each track that stay, `old`: the notes of the missing cells, needed where the rhythm or the pitches are
    locked. Raises LockError.
    """
    locks = locks or Locks()
    K = len(plan.programs)
    kept = kept or [np.zeros((0, 3), dtype=np.int64)] * K
    lengths = [
        int(tokenizer.bar_lengths[tokenizer.id_of("Bar", f"{n}/{d}") - tokenizer.first_id["Bar"]])
        for n, d in plan.metres
    ]
    starts_abs = np.concatenate([[0], np.cumsum(lengths)])
    columns: list[tuple[int, bool, int, int, int]] = []  # token, open, track, bar start, bar length
    none = np.zeros(0, dtype=np.int64)
    script = Script(
        *(none, none, none, none, none),
        np.zeros((K, PITCHES), dtype=np.int64),
        {},
        np.stack([locks.allowed_pitches(k, p == DRUMS) for k, p in enumerate(plan.programs)]),
        [p == DRUMS for p in plan.programs],
        locks,
    )
    if locks.voice_leading:
        script.leading = Leading(
            kept,
            int(starts_abs[-1]),
            tokenizer.ticks_per_quarter // 2,
            [k for k, p in enumerate(plan.programs) if p != DRUMS],
        )
    for k, notes in enumerate(kept):
        before = notes[notes[:, 0] < starts_abs[first]]
        np.maximum.at(script.until_abs[k], before[:, 2], before[:, 0] + before[:, 1])
    for b in range(first, last):
        place = (int(starts_abs[b]), lengths[b])
        columns.append(
            (tokenizer.id_of("Bar", f"{plan.metres[b][0]}/{plan.metres[b][1]}"), False, NEVER, *place)
        )
        for k, program in enumerate(plan.programs):
            columns += [
                (token, False, k, *place) for token in (tokenizer.id_of("Program", program), *given[b][k])
            ]
            if missing[b, k]:
                here = len(columns) - 1
                columns[here] = (columns[here][0], True, k, *place)
                script.next_kept_abs[here] = _next_kept(
                    kept[k], starts_abs[b] + lengths[b], int(starts_abs[-1])
                )
                if old is not None and (locks.rhythm or locks.pitches):
                    mine = old[k][(old[k][:, 0] >= place[0]) & (old[k][:, 0] < sum(place))] - np.array(
                        [place[0], 0, 0]
                    )
                    script.cell_locks[here] = (
                        RhythmLock(mine) if locks.rhythm else PitchLock(mine, lengths[b], locks.grid_ticks)
                    )
    columns.append((tokenizer.eos_id, False, NEVER, int(starts_abs[last]), 0))
    tokens, is_open, track, start, length = (np.array(column) for column in zip(*columns, strict=True))
    script.tokens, script.open, script.track, script.bar_start_abs, script.bar_length = (
        tokens,
        is_open,
        track,
        start,
        length,
    )
    script.last_open = int(np.flatnonzero(is_open)[-1]) if is_open.any() else NEVER
    if last == len(plan.metres) and not any(
        (notes[:, 0] + notes[:, 1] > starts_abs[-2]).any() for notes in kept
    ):
        script.must_sound_from_abs = int(
            starts_abs[-2]
        )  # the score ends here: something must sound in its last bar
        ends_abs = (
            [old[k][:, 0] + (1 if locks.pitches else old[k][:, 1]) for k in range(K)]
            if old is not None and (locks.rhythm or locks.pitches)
            else None
        )
        if ends_abs is not None and not any((ends > starts_abs[-2]).any() for ends in ends_abs):
            raise LockError(
                "no note of its own sounds in the last bar: with the rhythm or the pitches "
                "locked it would fall silent; unlock them or leave that bar out"
            )
    return script


def _next_kept(notes: np.ndarray, from_abs: int, end_abs: int) -> np.ndarray:
    """Tick at which each pitch next starts among kept notes from `from_abs` on, or the end of the score,
    int64 (128,)."""
    limit = np.full(PITCHES, end_abs, dtype=np.int64)
    after = notes[notes[:, 0] >= from_abs]
    np.minimum.at(limit, after[:, 2], after[:, 0])
    return limit
