"""Fill: the one operation. Cells of a region are written anew under controls and locks; every other cell
stays as it is, note for note."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from symusic import Score

from models.decoding.grammar import Grammar
from models.decoding.locks import LockError, Locks
from models.decoding.loop import Decoder, Job, generate
from models.decoding.script import Plan, script_of
from models.tokens.labels import Labels
from models.tokens.layout import CellAsks, Grid, ask_tokens, prompt
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import digest_outside
from music.score.form import DEFAULT_TEMPO_QPM, bar_table, build, note_array
from music.score.instruments import DRUMS

ROOM_TO_WRITE = 24  # tokens of the context left free by a prompt, at the least


class ContractBroken(RuntimeError):
    """A cell outside the region changed. This must never happen: it is a bug, please report the request."""


@dataclass(frozen=True)
class FillRequest:
    """What to fill. `score` is in normal form, or None for an empty grid of `plan`; `missing` is bool (bars,
    tracks).

    labels: what is asked of the whole, `labels.bars` counts the bars of the score (0: not told). cells:
    classes asked of single cells.
    """

    plan: Plan
    missing: np.ndarray
    labels: Labels
    seed: int
    score: "Score | None" = None  # quoted: symusic.Score is a factory, and `|` asks for a type
    locks: Locks = field(default_factory=Locks)
    cells: CellAsks = field(default_factory=dict)
    temperature: float = 1.0
    top_p: float = 1.0
    guidance: float = 1.0
    tempo: float = DEFAULT_TEMPO_QPM

    @property
    def bars(self) -> tuple[int, int]:
        """[first, last) of the bars with a missing cell."""
        hit = np.flatnonzero(self.missing.any(axis=1))
        return int(hit[0]), int(hit[-1]) + 1

    @property
    def given(self) -> tuple[int, ...]:
        """Tracks of which nothing is missing."""
        return tuple(int(k) for k in np.flatnonzero(~self.missing.any(axis=0)))


@dataclass(frozen=True)
class Filled:
    """An answer: the score, the tokens written for the region, and the digest of everything outside it,
    before and after."""

    score: Score
    ids: np.ndarray
    contract: str


def plan_of(score: Score) -> Plan:
    """Metres and programs of a score."""
    return Plan(
        tuple((int(n), int(d)) for _, _, n, d in bar_table(score)),
        tuple(DRUMS if t.is_drum else t.program for t in score.tracks),
    )


def empty(plan: Plan) -> np.ndarray:
    """The region of a whole grid."""
    return np.ones((len(plan.metres), len(plan.programs)), dtype=bool)


def extended(score: Score, plan: Plan, bars: int, at_start: bool = False) -> tuple[Score, Plan, np.ndarray]:
    """`score` with `bars` empty bars in the metre of its last (or first) bar, the plan of both, and those
    bars as region."""
    table = bar_table(score)
    metre = plan.metres[0] if at_start else plan.metres[-1]
    metres = (metre,) * bars + plan.metres if at_start else plan.metres + (metre,) * bars
    shift = bars * int(table[0, 1]) if at_start else 0
    tracks = [(t.program, t.is_drum, note_array(t) + np.array([shift, 0, 0])) for t in score.tracks]
    missing = np.zeros((len(metres), len(plan.programs)), dtype=bool)
    missing[:bars] = at_start
    missing[len(metres) - bars :] |= not at_start
    changes = [(0, *metre)] if at_start else []
    changes += [(ts.time + shift, ts.numerator, ts.denominator) for ts in score.time_signatures]
    kept = [c for i, c in enumerate(changes) if not i or c[1:] != changes[i - 1][1:]]
    return build(tracks, kept, score.tpq, 80), Plan(metres, plan.programs), missing


class Region:
    """A request taken apart: the notes that stay, those that go, and the tokens of every cell."""

    def __init__(self, tokenizer: CellTokenizer, request: FillRequest) -> None:
        self.request, self._t = request, tokenizer
        plan, missing = request.plan, request.missing
        shape = (len(plan.metres), len(plan.programs))
        if missing.shape != shape:
            raise ValueError(
                f"the region is {missing.shape[0]} bars by {missing.shape[1]} tracks, the score "
                f"{shape[0]} by {shape[1]}"
            )
        if not missing.any():
            raise ValueError("the region is empty: name at least one bar and track")
        self.bar_tokens = [tokenizer.id_of("Bar", f"{n}/{d}") for n, d in plan.metres]
        lengths = [int(tokenizer.bar_lengths[token - tokenizer.first_id["Bar"]]) for token in self.bar_tokens]
        self.starts = np.concatenate([[0], np.cumsum(lengths)])
        self.kept, self.old = self._notes(missing)
        self.grid = Grid(
            self.bar_tokens,
            [tokenizer.id_of("Program", p) for p in plan.programs],
            [[self._cell(b, k) for k in range(shape[1])] for b in range(shape[0])],
        )

    def _notes(self, missing: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Notes (n, 3) of each track that stay, and that go."""
        none = np.zeros((0, 3), dtype=np.int64)
        if self.request.score is None:
            return [none] * missing.shape[1], [none] * missing.shape[1]
        kept, old = [], []
        for k, track in enumerate(self.request.score.tracks):
            notes = note_array(track)
            bar = np.searchsorted(self.starts, notes[:, 0], side="right") - 1
            gone = (bar < len(missing)) & missing[np.minimum(bar, len(missing) - 1), k]
            kept.append(notes[~gone])
            old.append(notes[gone])
        return kept, old

    def _cell(self, bar: int, track: int) -> np.ndarray | None:
        if self.request.missing[bar, track]:
            return None
        notes = self.kept[track]
        inside = notes[(notes[:, 0] >= self.starts[bar]) & (notes[:, 0] < self.starts[bar + 1])]
        return np.array(
            self._t.cell_tokens(inside, int(self.starts[bar]), self.request.plan.programs[track] == DRUMS),
            dtype=np.int64,
        )

    def job(self, context: int, deadline: float) -> Job:
        """The request as a job for the decoder."""
        request, (first, last) = self.request, self.request.bars
        given = [
            [
                ask_tokens(self._t, request.cells.get((b, k), ())) if cell is None else cell.tolist()
                for k, cell in enumerate(row)
            ]
            for b, row in enumerate(self.grid.cells)
        ]
        self._t.prefix(request.labels)  # an unknown label is told here, not on a thread that serves everybody
        script = script_of(
            self._t,
            request.plan,
            request.missing,
            given,
            first,
            last,
            kept=self.kept,
            old=self.old,
            locks=request.locks,
        )
        free = self._prompt(request.labels.without_controls(), context) if request.guidance != 1.0 else None
        return Job(
            script,
            self._prompt(request.labels, context),
            request.seed,
            request.temperature,
            request.top_p,
            request.guidance,
            free,
            deadline,
        )

    def _prompt(self, labels: Labels, context: int) -> Callable[[Sequence[int]], list[int]]:
        first = self.request.bars[0]

        def read(written: Sequence[int]) -> list[int]:
            at = [i for i, token in enumerate(written) if self._t.is_bar(token)]
            cells = [list(row) for row in self.grid.cells]
            for b, (start, stop) in enumerate(pairwise(at)):
                cells[first + b] = list(self._split(written[start + 1 : stop]))
            grid = Grid(self.grid.bars, self.grid.programs, cells)
            partial = list(written[at[-1] :]) if at else []
            ids = prompt(self._t, grid, first + max(len(at) - 1, 0), labels, context)
            room = context - len(ids) - ROOM_TO_WRITE
            return (
                ids + partial[max(len(partial) - room, 0) :]
            )  # of a bar that is longer than the room only the newest tokens

        return read

    def _split(self, tokens: Sequence[int]) -> list[np.ndarray]:
        """Cells of one written bar, without Program and controls of cells."""
        low, high = self._t.first_id["Program"], self._t.first_id["Program"] + self._t.block_size["Program"]
        cells: list[list[int]] = []
        for token in tokens:
            if low <= token < high:
                cells.append([])
            elif not self._t.is_control(token):
                cells[-1].append(token)
        return [np.array(cell, dtype=np.int64) for cell in cells]

    def answer(self, written: Sequence[int]) -> Filled:
        """Put what was written among what stays. Raises ContractBroken where the result is not exactly
        that."""
        request, (first, last) = self.request, self.request.bars
        notes = [[kept] for kept in self.kept]
        bars = [i for i, token in enumerate(written) if self._t.is_bar(token)] + [len(written) - 1]
        if len(bars) - 1 != last - first or written[-1] != self._t.eos_id:
            raise ContractBroken(f"{len(bars) - 1} bars were written, {last - first} asked")
        for b in range(first, last):
            for k, cell in enumerate(self._split(written[bars[b - first] + 1 : bars[b - first + 1]])):
                if request.missing[b, k]:
                    notes[k].append(
                        self._t.cell_notes(
                            cell,
                            int(self.starts[b]),
                            int(self.starts[b + 1]),
                            request.plan.programs[k] == DRUMS,
                        )
                    )
        parts = []
        for program, mine in zip(request.plan.programs, notes, strict=True):
            together = np.concatenate(mine)
            together = together[np.lexsort((together[:, 2], together[:, 0]))]
            parts.append((0 if program == DRUMS else program, program == DRUMS, together))
        changes = [
            (int(self.starts[b]), *metre)
            for b, metre in enumerate(request.plan.metres)
            if not b or metre != request.plan.metres[b - 1]
        ]
        score = build(parts, changes, self._t.ticks_per_quarter, self._t.velocity, request.tempo)
        return Filled(score, np.array(written, dtype=np.uint16), self._check(score))

    def _check(self, score: Score) -> str:
        """The edit contract and validity of a result. Returns the digest of what lies outside the region."""
        if plan_of(score) != self.request.plan:
            raise ContractBroken("bars or tracks of the result are not those of the request")
        for track in score.tracks:
            check_voices(note_array(track))
        region = {(int(b), int(k)) for b, k in np.argwhere(self.request.missing)}
        after = digest_outside(score, region)
        if self.request.score is not None:
            for k, (before, track) in enumerate(zip(self.kept, score.tracks, strict=True)):
                now = note_array(track)
                bar = np.searchsorted(self.starts, now[:, 0], side="right") - 1
                if not np.array_equal(now[~self.request.missing[bar, k]], before):
                    raise ContractBroken(f"track {k} changed outside the region")
        return after


def check_voices(notes: np.ndarray) -> None:
    """Raises ContractBroken where a note (n, 3) is doubled or overlaps another of its pitch."""
    order = np.lexsort((notes[:, 0], notes[:, 2]))
    a, b = notes[order[:-1]], notes[order[1:]]
    if ((a[:, 2] == b[:, 2]) & (a[:, 0] + a[:, 1] > b[:, 0])).any():
        raise ContractBroken("a pitch sounds twice at once")


def fill(
    decoder: Decoder,
    tokenizer: CellTokenizer,
    requests: Sequence[FillRequest],
    deadline_s: float | None = None,
) -> list[Filled]:
    """Answers in order, all decoded together. Raises ValueError (LockError, NotRepresentable) for what cannot
    be asked, TimeoutError past the deadline."""
    deadline = time.monotonic() + deadline_s if deadline_s is not None else float("inf")
    regions = [Region(tokenizer, request) for request in requests]
    written = generate(
        decoder,
        Grammar(tokenizer, decoder.slots),
        [region.job(decoder.context, deadline) for region in regions],
    )
    return [region.answer(ids) for region, ids in zip(regions, written, strict=True)]


__all__ = ["ContractBroken", "FillRequest", "Filled", "LockError", "empty", "extended", "fill", "plan_of"]
