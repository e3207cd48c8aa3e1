"""A request taken apart: what stays, what goes, what the network is shown and told, and the answer put
together."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from symusic import Score

from models.decoding.loop import Job, Prompt
from models.decoding.script import Copied, script_of
from models.fill.request import ContractBroken, Filled, FillRequest, plan_of
from models.tokens.asking import told_of
from models.tokens.labels import Labels
from models.tokens.layout import Grid, ask_tokens, begin, prompt
from models.tokens.place import NONE, Told
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import digest_outside
from music.score.form import build, note_array
from music.score.instruments import DRUMS

ROOM_TO_WRITE = 24  # tokens of the context left free by a prompt, at the least


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
        none = np.zeros((0, 3), dtype=np.int64)
        self.held = list(request.held) or [none] * shape[1]
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
        # an unknown label is told here, not on a thread that serves everybody
        begin(self._t, request.labels, 0)
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
            held=self.held,
            copied=self._copied(),
        )
        untold = request.labels.without_controls()
        free = self._prompt(untold, None, context) if request.guidance != 1.0 else None
        return Job(
            script,
            self._prompt(request.labels, request.chords, context),
            request.seed,
            request.temperature,
            request.top_p,
            request.guidance,
            free,
            deadline,
            request.steered,
        )

    def _copied(self) -> list[Copied]:
        """Bars of sections: which come back note for note, and the tick beyond which no note of each may
        sound: the end of its section, and where it comes back in a shorter one as far from its barline as
        that one goes."""
        request = self.request
        if request.form is None:
            return []
        told = np.flatnonzero(request.form[:, 0] >= 0).tolist()
        end = {b: int(self.starts[b + request.form[b, 2] + 1]) for b in told}
        for b in request.copied:
            source = int(request.form[b, 3])
            end[source] = min(end[source], int(self.starts[source]) + end[b] - int(self.starts[b]))
        return [Copied(b, int(request.form[b, 3]) if b in request.copied else NONE, end[b]) for b in told]

    def _prompt(
        self, labels: Labels, chords: "np.ndarray | None", context: int
    ) -> Callable[[Sequence[int]], Prompt]:
        first = self.request.bars[0]

        def read(written: Sequence[int]) -> Prompt:
            at = [i for i, token in enumerate(written) if self._t.is_bar(token)]
            cells = [list(row) for row in self.grid.cells]
            for b, (start, stop) in enumerate(pairwise(at)):
                cells[first + b] = list(self.cells_of(written[start + 1 : stop]))
            grid = Grid(self.grid.bars, self.grid.programs, cells)
            partial = list(written[at[-1] :]) if at else []
            bar = first + max(len(at) - 1, 0)
            ids, start = prompt(self._t, grid, bar, labels, context)
            room = context - len(ids) - ROOM_TO_WRITE
            if len(partial) > room:  # of a bar that is longer than the room only the newest tokens
                partial = [partial[0], *partial[len(partial) - room + 1 :]]
            return Prompt(ids + partial, self._told(labels, chords, start, bar))

        return read

    def _told(self, labels: Labels, chords: "np.ndarray | None", start: int, bar: int) -> Told:
        """What is told of a sequence that shows bars from `start` on and writes from `bar` on."""
        request = self.request
        sections: tuple[tuple[int, int, int], ...] = ()
        again: tuple[int, ...] = ()
        if request.form is not None:
            shown = request.form[start:].tolist()
            sections = tuple((letter, since, left) for letter, since, left, _ in shown)
            again = tuple(source - start if source >= start else NONE for *_, source in shown)
        told = Told(
            len(request.plan.programs),
            labels.bars - start if labels.bars else 0,
            request.first_bar + start,
            bar - start,
            sections=sections,
            again=again,
            chords=chords[int(self.starts[start]) :] if chords is not None else None,
        )
        return told_of(told, labels)

    def cells_of(self, tokens: Sequence[int]) -> list[np.ndarray]:
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
            for k, cell in enumerate(self.cells_of(written[bars[b - first] + 1 : bars[b - first + 1]])):
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
        for k, (notes, track) in enumerate(zip(self.held, score.tracks, strict=True)):
            there = {tuple(note) for note in note_array(track).tolist()}
            if not all(tuple(note) in there for note in notes.tolist()):
                raise ContractBroken(f"a note of track {k} that was to stay is gone")
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
