"""The script of one sequence: the tokens that are settled before the network writes, the open places between
them, and what must hold there."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.decoding.locks import CopyLock, KeepLock, LockError, Locks, PitchLock, RhythmLock
from models.decoding.voice_leading import Leading
from models.tokens.tokenizer import PITCHES, CellTokenizer
from music.score.instruments import DRUMS

NEVER = -1


@dataclass(frozen=True)
class Plan:
    """Metre (numerator, denominator) of every bar, and General MIDI program of every track (-1: drums)."""

    metres: tuple[tuple[int, int], ...]
    programs: tuple[int, ...]


@dataclass(frozen=True)
class Copied:
    """A bar of a section: the bar it comes back from (NEVER: it is written), and the tick past which no note
    of its section sounds."""

    bar: int
    source: int
    section_end: int


@dataclass
class Script:
    """One sequence to write. S settled tokens, K tracks; ticks ending in `_abs` count from the start of the
    score.

    open: the network writes notes after this token until it chooses the next settled one. lines: tracks in
    which no two notes sound at once. keeps: notes of open cells that stay. written: tokens of cells that come
    back later. until_abs: tick at which what sounds at the start of the script has ended. next_kept_abs: for
    each open token, the tick at which each pitch must be silent again.
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
    cell_locks: dict[int, RhythmLock | PitchLock | CopyLock] = field(default_factory=dict)
    keeps: dict[int, KeepLock] = field(default_factory=dict)
    lines: list[bool] = field(default_factory=list)
    bar: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # int64 (S,)
    written: dict[tuple[int, int], list[int]] = field(default_factory=dict)
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
    held: Sequence[np.ndarray] | None = None,
    copied: Sequence[Copied] = (),
) -> Script:
    """Script of bars [first, last) of a score: `missing` bool (bars, tracks) is open, `given[b][k]` the
    tokens after Program k of bar b.

    `given` of a missing cell holds the controls asked of it, of a kept cell its notes. `kept`: notes (n, 3)
    of each track that stay, `old`: the notes of the missing cells, needed where the rhythm or the pitches are
    locked. `held`: notes (n, 3) inside missing cells that stay. `copied`: bars of sections. Raises LockError.
    """
    locks = locks or Locks()
    K = len(plan.programs)
    none_kept = [np.zeros((0, 3), dtype=np.int64)] * K
    kept, held = kept or none_kept, held or none_kept
    staying = [np.concatenate(pair) for pair in zip(kept, held, strict=True)]
    lengths = [
        int(tokenizer.bar_lengths[tokenizer.id_of("Bar", f"{n}/{d}") - tokenizer.first_id["Bar"]])
        for n, d in plan.metres
    ]
    starts_abs = np.concatenate([[0], np.cumsum(lengths)])
    # token, open, track, bar start, bar length, bar
    columns: list[tuple[int, bool, int, int, int, int]] = []
    sections = {each.bar: each for each in copied}
    none = np.zeros(0, dtype=np.int64)
    script = Script(
        *(none, none, none, none, none),
        np.zeros((K, PITCHES), dtype=np.int64),
        {},
        np.stack([locks.allowed_pitches(k, p == DRUMS) for k, p in enumerate(plan.programs)]),
        [p == DRUMS for p in plan.programs],
        locks,
        lines=[k in locks.lines and p != DRUMS for k, p in enumerate(plan.programs)],
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
        if script.lines[k]:
            script.until_abs[k] = script.until_abs[k].max()
    for b in range(first, last):
        place = (int(starts_abs[b]), lengths[b], b)
        section = sections.get(b)
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
                end_abs = section.section_end if section is not None else int(starts_abs[-1])
                script.next_kept_abs[here] = _next_kept(
                    staying[k], starts_abs[b] + lengths[b], end_abs, script.lines[k]
                )
                stays = held[k][(held[k][:, 0] >= place[0]) & (held[k][:, 0] < place[0] + place[1])]
                if len(stays):
                    script.keeps[here] = KeepLock(stays - np.array([place[0], 0, 0]))
                if section is not None and section.source >= 0:
                    script.cell_locks[here] = CopyLock(section.source, k)
                    script.written[section.source, k] = []
                elif old is not None and (locks.rhythm or locks.pitches):
                    inside = (old[k][:, 0] >= place[0]) & (old[k][:, 0] < place[0] + place[1])
                    mine = old[k][inside] - np.array([place[0], 0, 0])
                    script.cell_locks[here] = (
                        RhythmLock(mine)
                        if locks.rhythm
                        else PitchLock(mine, lengths[b], locks.grid_ticks, script.lines[k])
                    )
    columns.append((tokenizer.eos_id, False, NEVER, int(starts_abs[last]), 0, last))
    tokens, is_open, track, start, length, bar = (np.array(column) for column in zip(*columns, strict=True))
    script.tokens, script.open, script.track, script.bar = tokens, is_open, track, bar
    script.bar_start_abs, script.bar_length = start, length
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


def _next_kept(notes: np.ndarray, from_abs: int, end_abs: int, line: bool) -> np.ndarray:
    """Tick at which each pitch (in a line: any) next starts among kept notes from `from_abs` on, or the end
    of the section or the score, int64 (128,)."""
    limit = np.full(PITCHES, end_abs, dtype=np.int64)
    after = notes[notes[:, 0] >= from_abs]
    np.minimum.at(limit, after[:, 2], after[:, 0])
    return np.full(PITCHES, limit.min(), dtype=np.int64) if line else limit
