"""Edits by the model: each operation is one fill, or a few, of a passage of a file.

An operation is a generator: it yields requests to fill and is sent the answers, so that several edits share one running batch. What it
changes is the region's cells alone; `run` checks that on the file's own notes before anything is handed out (the edit contract).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from symusic import Score

from models.compose import classes_of
from models.edit_rhythm import articulated, roomy_grid, with_counts
from models.edit_style import BEYOND, OCTAVE, Steps, again, chosen_cells, compasses, naming, takes_of, towards
from models.edit_voices import applies, revised
from models.fill import ContractBroken, Filled, FillRequest
from models.labelling import Judges
from models.labels import Labels, TrackAsk
from models.locks import Locks
from models.passage import Draft, Passage, passage_of
from models.tokens import CellTokenizer
from music.cells import BY_NAME, cell_statistics, control_classes
from music.file_cells import FileCells, digest
from music.instruments import program_of
from music.reshape import with_bars, with_metre, with_program, with_tracks
from music.score import parse_metre

Filler = Callable[[Sequence[FillRequest]], list[Filled]]
VOICES = ((53, 74), (48, 69), (40, 62))  # alto, tenor, bass: the usual compass, MIDI pitches
TRIES, ROUNDS = 8, 3  # takes of which the one nearest to what is asked is kept, where a number is asked; and how often until it is reached
OPERATIONS = ("infill", "continue", "vary", "restyle", "rhythm", "melody", "harmonise", "reharmonise", "arrange", "simplify", "elaborate")


@dataclass(frozen=True)
class Edit:
    """What to do with a file. bars: [first, last) counted from 0, None for all; tracks: counted from 0, None for all.

    strength: share of the region's cells that `vary` and `restyle` may fill anew, 0-1. length: bars that `continue` adds. melody: the track
    that `harmonise` and `reharmonise` keep. instruments: of the tracks that `harmonise` and `arrange` write. controls: numbers by name
    (music/cells.py) asked of the region's tracks. metre: "6/8", for `restyle` and `rhythm`: one bar of it for every bar of the region.
    """

    operation: str
    bars: tuple[int, int] | None = None
    tracks: tuple[int, ...] | None = None
    style: str = ""
    rhythm: str = ""
    key: str = ""
    metre: str = ""
    controls: dict[str, float] = field(default_factory=dict)
    locks: Locks = field(default_factory=Locks)
    strength: float = 0.5
    length: int = 4
    before: bool = False
    melody: int | None = None
    instruments: tuple[str | int, ...] = ()
    guidance: float = 1.0
    temperature: float | None = None
    top_p: float = 0.98
    seed: int = 0

    @property
    def heat(self) -> float:
        """Temperature: what is asked, else 0.6 for part-writing (chords come nearer to Bach's, 0.30 against 0.23) and 1 for all else."""
        return self.temperature if self.temperature is not None else 0.6 if self.operation in ("harmonise", "reharmonise") else 1.0

    @property
    def labels(self) -> Labels:
        return Labels(self.style, self.rhythm, self.key)


@dataclass(frozen=True)
class Task:
    """An edit made ready: the file with its new shape, the region in it, and what its bars and tracks were before.

    bar_numbers: bar of the original for each bar, -1 for a new one.
    """

    edit: Edit
    original: FileCells
    file: FileCells
    region: np.ndarray
    bar_numbers: np.ndarray

    @property
    def original_region(self) -> np.ndarray:
        """The region in the original's bars and tracks."""
        old = self.bar_numbers >= 0
        found = np.zeros(self.original.shape, dtype=bool)
        found[self.bar_numbers[old]] = self.region[old][:, : self.original.shape[1]]
        return found


@dataclass(frozen=True)
class Edited:
    """An answer: the file after the edit, and the digest of everything outside the region, equal before and after."""

    file: FileCells
    contract: str
    warnings: list[str]


def prepare(edit: Edit, original: FileCells) -> Task:
    """Give the file the shape that the operation writes into. Raises ValueError naming what is there."""
    bars, tracks = bars_of(edit, original), tracks_of(edit, original)
    file, numbers = original, np.arange(original.shape[0])
    if edit.operation == "continue":
        file = with_bars(original, edit.length, edit.before)
        new = np.full(edit.length, -1)
        numbers = np.concatenate([new, numbers] if edit.before else [numbers, new])
        region = np.zeros(file.shape, dtype=bool)
        region[np.ix_(np.flatnonzero(numbers < 0), np.array(tracks))] = True
        return Task(edit, original, file, region, numbers)
    if edit.operation in ("harmonise", "reharmonise"):
        melody = _melody(edit, original)
        if edit.operation == "reharmonise":
            chosen = [k for k in tracks if k != melody]
            if not chosen:
                raise ValueError("there is nothing beside the melody to write anew: use harmonise to add voices, or name other tracks")
            tracks = chosen
        else:
            programs = [program_of(name) for name in edit.instruments] or [int(original.score.tracks[melody].program)] * 3
            file = with_tracks(original, programs)
            tracks = list(range(original.shape[1], file.shape[1]))
    if edit.operation == "arrange":
        if len(edit.instruments) != 1:
            raise ValueError("arrange writes one track: name one instrument (and a track to replace, or none to add one)")
        program = program_of(edit.instruments[0])
        if edit.tracks is None:
            file = with_tracks(original, [program])
            tracks = [original.shape[1]]
        elif len(tracks) == 1 and edit.bars is None:
            file = with_program(original, tracks[0], program)
        else:
            raise ValueError("arrange replaces one track from its first bar to its last: name one track and no bars, or neither to add a new one")
    if edit.metre and edit.operation in ("restyle", "rhythm"):
        if len(tracks) < original.shape[1]:
            raise ValueError("another metre is for all tracks at once: leave `tracks` out")
        file = with_metre(file, *bars, *parse_metre(edit.metre))
    region = np.zeros(file.shape, dtype=bool)
    region[np.ix_(np.arange(*bars), np.array(tracks))] = True
    return Task(edit, original, file, region, numbers)


def bars_of(edit: Edit, file: FileCells) -> tuple[int, int]:
    first, last = edit.bars or (0, file.shape[0])
    if not 0 <= first < last <= file.shape[0]:
        raise ValueError(f"there are no bars {first + 1} to {last}: the score has bars 1 to {file.shape[0]}")
    return first, last


def tracks_of(edit: Edit, file: FileCells) -> list[int]:
    tracks = list(edit.tracks) if edit.tracks is not None else list(range(file.shape[1]))
    wrong = [k + 1 for k in tracks if not 0 <= k < file.shape[1]]
    if wrong or not tracks:
        names = ", ".join(f"{k + 1} {track.name}".strip() for k, track in enumerate(file.score.tracks))
        raise ValueError(f"there is no track {', '.join(map(str, wrong)) or '(none named)'}: the score has {names}")
    return sorted(set(tracks))


def _melody(edit: Edit, file: FileCells) -> int:
    """The track to keep: the one named, else the highest on average."""
    if edit.melody is not None:
        return tracks_of(replace(edit, tracks=(edit.melody,)), file)[0]
    pitched = [k for k in range(file.shape[1]) if len(file.notes(k)) and not file.score.tracks[k].is_drum]
    if not pitched:
        raise ValueError("no track has a melody to keep: all are drums or empty")
    return max(pitched, key=lambda k: float(file.notes(k)[:, 2].mean()))


def steps(tokenizer: CellTokenizer, task: Task, judges: Judges) -> Steps:
    """The operation at work. Raises ValueError (NotRepresentable, LockError) for what the model cannot write."""
    edit = task.edit
    passage = passage_of(tokenizer, task.file, task.region)
    draft = Draft(passage, keep={"rhythm": "pitches", "melody": "rhythm"}.get(edit.operation, ""))
    if edit.operation in ("rhythm", "melody", "simplify") and not any(len(passage.cells[b][t]) for b, t in np.argwhere(passage.region)):
        raise ValueError(f"the region is silent: {edit.operation} has no notes to work on; name other bars or tracks, or use infill")
    if edit.operation in ("vary", "restyle"):
        return _repeatedly(tokenizer, edit, draft, judges)
    if edit.operation == "rhythm":
        draft = with_counts(tokenizer, draft, edit.controls, edit.seed)
        grid = edit.locks.grid_ticks if edit.locks.grid_ticks > 1 else roomy_grid(tokenizer, draft)
        return _nearest(tokenizer, draft, replace(edit, locks=replace(edit.locks, pitches=True, grid_ticks=grid)))
    if edit.operation == "melody":
        return _once(tokenizer, replace(edit, locks=replace(edit.locks, rhythm=True)), draft)
    if edit.operation in ("simplify", "elaborate"):
        return _nearest(tokenizer, draft, replace(edit, controls={**_other_density(tokenizer, draft, 1 if edit.operation == "elaborate" else -1), **edit.controls}))
    if edit.operation == "harmonise":
        known = "chorale" in tokenizer.styles
        ranges = {passage.tracks.index(int(k)): VOICES[min(i, 2)] for i, k in enumerate(np.flatnonzero(task.region.any(axis=0)))} if not edit.instruments else {}
        return _voices(tokenizer, replace(edit, style=edit.style or ("chorale" if known else ""), locks=replace(edit.locks, ranges={**ranges, **edit.locks.ranges})), draft)
    if edit.operation == "reharmonise":
        return _voices(tokenizer, edit, draft)
    return _nearest(tokenizer, draft, edit) if edit.controls else _once(tokenizer, edit, draft)


def _asks(edit: Edit, passage: Passage) -> tuple[TrackAsk, ...]:
    """Controls of the region's tracks."""
    told = classes_of(edit.controls)
    return tuple(TrackAsk(program, told if passage.region[:, t].any() else ()) for t, program in enumerate(passage.plan.programs)) if told else ()


def _request(tokenizer: CellTokenizer, edit: Edit, draft: Draft, mask: np.ndarray, seed: int) -> FillRequest:
    return draft.request(tokenizer, mask, edit.labels, seed, locks=edit.locks, asks=_asks(edit, draft.passage), temperature=edit.heat, top_p=edit.top_p, guidance=edit.guidance)


def _once(tokenizer: CellTokenizer, edit: Edit, draft: Draft) -> Steps:
    mask = draft.passage.region
    (filled,) = yield [_request(tokenizer, edit, draft, mask, edit.seed)]
    draft.take(tokenizer, filled, mask)
    return draft


def _voices(tokenizer: CellTokenizer, edit: Edit, draft: Draft) -> Steps:
    """One fill that keeps from parallels, then bars with faults of part-writing once more."""
    if edit.locks.voice_leading is None:
        edit = replace(edit, locks=replace(edit.locks, voice_leading=True))
    draft = yield from _once(tokenizer, edit, draft)
    if applies(draft):
        draft = yield from revised(tokenizer, draft, lambda mask, number: _request(tokenizer, edit, draft, mask, edit.seed + number))
    return draft


def _repeatedly(tokenizer: CellTokenizer, edit: Edit, draft: Draft, judges: Judges) -> Steps:
    """vary: filled again and again. restyle: the same, searching for what is asked, where a judge can tell it."""
    random = np.random.default_rng(edit.seed)
    chosen = chosen_cells(draft, edit.strength, random)
    named = naming(tokenizer, edit.labels, judges) if edit.operation == "restyle" else None
    edit = replace(edit, locks=replace(edit.locks, ranges={**compasses(draft, BEYOND if not edit.key else OCTAVE), **edit.locks.ranges}))

    def request(mask: np.ndarray, number: int) -> FillRequest:
        return _request(tokenizer, edit, draft, mask, edit.seed + number)

    return towards(tokenizer, draft, chosen, request, named) if named else again(tokenizer, draft, chosen, request, random)


def _nearest(tokenizer: CellTokenizer, draft: Draft, edit: Edit) -> Steps:
    """Of TRIES takes the one whose controls lie nearest to what is asked, and among equals the one most like what was there."""
    mask, takes = draft.passage.region, list[Filled]()
    tries = takes_of(int(mask.sum()), TRIES) if edit.controls else 1
    for _ in range(ROUNDS if tries == TRIES else 1):
        takes += yield [_request(tokenizer, edit, draft, mask, edit.seed + TRIES * (len(takes) + n)) for n in range(tries)]
        if min(_distance(edit, draft.passage, take.score) for take in takes) == 0:
            break
    best = min(range(len(takes)), key=lambda i: (_distance(edit, draft.passage, takes[i].score), -_likeness(draft, takes[i].score)))
    draft.take(tokenizer, takes[best], mask)
    return articulated(tokenizer, draft, edit.controls["note_length"]) if edit.operation == "rhythm" and "note_length" in edit.controls else draft


def _distance(edit: Edit, passage: Passage, score: Score) -> float:
    """Classes between what is asked and what was written, summed over controls and tracks of the region."""
    statistics, asked = cell_statistics(score), dict(classes_of(edit.controls))
    rows = np.flatnonzero(passage.region.any(axis=1))
    length = _ticks(passage, score.tpq, rows)
    total = 0.0
    for t in np.flatnonzero(passage.region.any(axis=0)):
        found = control_classes(statistics[rows, t], length, score.tpq)
        total += sum(abs(found.get(name, 0) - index) for name, index in asked.items())
    return total


def _ticks(passage: Passage, tpq: int, rows: np.ndarray) -> int:
    return sum(4 * tpq * passage.plan.metres[b][0] // passage.plan.metres[b][1] for b in rows)


def _likeness(draft: Draft, score: Score) -> float:
    """Share of the old notes on beats whose pitch class still sounds there."""
    starts = np.concatenate([[0], np.cumsum([4 * score.tpq * n // d for n, d in draft.passage.plan.metres])])
    same = total = 0
    for t, track in enumerate(score.tracks):
        columns = track.notes.numpy()
        there = {(int(time), int(pitch) % 12) for time, pitch in zip(columns["time"], columns["pitch"], strict=True)}
        for b in np.flatnonzero(draft.passage.region[:, t]):
            for onset, _, pitch, _ in draft.passage.cells[b][t].tolist():
                if onset % score.tpq == 0:
                    total += 1
                    same += (int(starts[b]) + onset, pitch % 12) in there
    return same / max(total, 1)


def _other_density(tokenizer: CellTokenizer, draft: Draft, by: int) -> dict[str, float]:
    """A density one class above or below what the region has. Raises ValueError at the end of the scale."""
    passage, control = draft.passage, BY_NAME["density"]
    rows, columns = np.flatnonzero(passage.region.any(axis=1)), np.flatnonzero(passage.region.any(axis=0))
    notes = sum(len(passage.cells[b][t]) for b in rows for t in columns)
    now = notes * tokenizer.ticks_per_quarter / _ticks(passage, tokenizer.ticks_per_quarter, rows) / len(columns)
    index = control.class_of(now) + by
    if not 0 <= index < control.classes:
        raise ValueError(f"the region has {now:.2f} notes per quarter already: it cannot be made {'denser' if by > 0 else 'sparser'}")
    low, high = control.bounds(index)
    return {"density": (low + high) / 2}


def run(tokenizer: CellTokenizer, fill_all: Filler, tasks: Sequence[Task], judges: Judges) -> list[Edited]:
    """Carry out tasks side by side, and check the contract of each. Raises what a fill raises, and ContractBroken."""
    work = [steps(tokenizer, task, judges) for task in tasks]
    drafts: dict[int, Draft] = {}
    asked: dict[int, list[FillRequest]] = {}
    for i, edit in enumerate(work):
        _advance(edit, None, i, asked, drafts)
    while asked:
        order = sorted(asked)
        answers = iter(fill_all([request for i in order for request in asked[i]]))
        counts = {i: len(asked[i]) for i in order}
        asked = {}
        for i in order:
            _advance(work[i], [next(answers) for _ in range(counts[i])], i, asked, drafts)
    return [_checked(tokenizer, task, drafts[i]) for i, task in enumerate(tasks)]


def _advance(edit: Steps, answers: list[Filled] | None, i: int, asked: dict[int, list[FillRequest]], drafts: dict[int, Draft]) -> None:
    try:
        asked[i] = next(edit) if answers is None else edit.send(answers)
    except StopIteration as done:
        drafts[i] = done.value


def _checked(tokenizer: CellTokenizer, task: Task, draft: Draft) -> Edited:
    after = FileCells(draft.finish(tokenizer), task.file.bars)
    tracks = task.original.shape[1]
    before, now = digest(task.original, task.original_region), digest(after, task.region, task.bar_numbers, tracks)
    if before != now:
        raise ContractBroken(f"{task.edit.operation} changed something outside its region")
    return Edited(after, now, draft.passage.warnings)
