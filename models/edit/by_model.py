"""Edits by the model: each operation is one fill, or a few, of a passage of a file.

An operation is a generator: it yields requests to fill and is sent the answers, so that several edits share
one running batch. What it changes is the region's cells alone; `run` checks that on the file's own notes
before anything is handed out (the edit contract).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from symusic import Score

from models.edit.edit_chords import HEAT, planned
from models.edit.edit_parts import as_it_was
from models.edit.edit_rhythm import articulated, roomy_grid, with_counts
from models.edit.edit_style import Steps, again, chosen_cells, naming, takes_of, towards
from models.edit.edit_voices import applies, revised
from models.edit.tasks import Edit, Edited, Task, held_notes
from models.fill.compose import classes_of
from models.fill.passage import Draft, Passage, passage_of
from models.fill.request import ContractBroken, Filled, FillRequest
from models.judge.style_classifier import Judges
from models.tokens.labels import TrackAsk
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import BY_NAME, cell_statistics, control_classes
from music.score.file_cells import FileCells, digest

FEWEST_VOICES = 3  # tracks from which on a plan of chords is made
PLANS = 500  # from the seed of an edit to those of the takes that vote on its chords
MANY = 100  # classes that a take of too many notes counts as away
Filler = Callable[[Sequence[FillRequest]], list[Filled]]
VOICES = ((53, 74), (48, 69), (40, 62))  # alto, tenor, bass: the usual compass, MIDI pitches
TRIES, ROUNDS = (
    8,
    3,
    # takes of which the one nearest to what is asked is kept, where a number is asked; and how often until it
    # is reached
)


def steps(tokenizer: CellTokenizer, task: Task, judges: Judges) -> Steps:
    """The operation at work. Raises ValueError (NotRepresentable, LockError) for what the model cannot
    write."""
    edit = task.edit
    passage = passage_of(tokenizer, task.file, task.region)
    keep = {"rhythm": "pitches", "melody": "rhythm"}.get(edit.operation, "")
    draft = Draft(passage, keep, held_notes(task))
    edit = replace(edit, locks=as_it_was(tokenizer, draft, edit))
    if edit.operation in ("rhythm", "melody", "simplify") and not any(
        len(passage.cells[b][t]) for b, t in np.argwhere(passage.region)
    ):
        raise ValueError(
            f"the region is silent: {edit.operation} has no notes to work on; name other bars or tracks, "
            f"or use infill"
        )
    if edit.operation in ("vary", "restyle"):
        return _repeatedly(tokenizer, edit, draft, judges)
    if edit.operation == "rhythm":
        draft = with_counts(tokenizer, draft, edit.controls, edit.seed)
        grid = edit.locks.grid_ticks if edit.locks.grid_ticks > 1 else roomy_grid(tokenizer, draft)
        return _nearest(
            tokenizer, draft, replace(edit, locks=replace(edit.locks, pitches=True, grid_ticks=grid))
        )
    if edit.operation == "melody":
        return _once(tokenizer, replace(edit, locks=replace(edit.locks, rhythm=True)), draft)
    if edit.operation in ("simplify", "elaborate"):
        return _nearest(
            tokenizer,
            draft,
            replace(
                edit,
                controls={
                    **_other_density(tokenizer, draft, 1 if edit.operation == "elaborate" else -1),
                    **edit.controls,
                },
            ),
        )
    asked_ranges = task.edit.locks.ranges
    if edit.operation == "harmonise":
        known = "chorale" in tokenizer.styles
        ranges = (
            {
                passage.tracks.index(int(k)): VOICES[min(i, 2)]
                for i, k in enumerate(np.flatnonzero(task.region.any(axis=0)))
            }
            if not edit.instruments
            else {}
        )
        return _voices(
            tokenizer,
            replace(
                edit,
                style=edit.style or ("chorale" if known else ""),
                locks=replace(edit.locks, ranges={**edit.locks.ranges, **ranges, **asked_ranges}),
            ),
            draft,
        )
    if edit.operation == "reharmonise":
        return _voices(tokenizer, edit, draft)
    return _nearest(tokenizer, draft, edit) if edit.controls else _once(tokenizer, edit, draft)


def _asks(edit: Edit, passage: Passage) -> tuple[TrackAsk, ...]:
    """Controls of the region's tracks."""
    told = classes_of(edit.controls)
    return (
        tuple(
            TrackAsk(program, told if passage.region[:, t].any() else ())
            for t, program in enumerate(passage.plan.programs)
        )
        if told
        else ()
    )


def _request(
    tokenizer: CellTokenizer,
    edit: Edit,
    draft: Draft,
    mask: np.ndarray,
    seed: int,
    plan: np.ndarray | None = None,
) -> FillRequest:
    """`plan`: chords tick by tick, where the edit asks for none."""
    request = draft.request(
        tokenizer,
        mask,
        edit.labels,
        seed,
        locks=edit.locks,
        asks=_asks(edit, draft.passage),
        temperature=edit.heat,
        top_p=edit.top_p,
        guidance=edit.guidance,
        chords=edit.chords,
    )
    return replace(request, chords=plan) if plan is not None and request.chords is None else request


def _once(tokenizer: CellTokenizer, edit: Edit, draft: Draft, plan: np.ndarray | None = None) -> Steps:
    mask = draft.passage.region
    (filled,) = yield [_request(tokenizer, edit, draft, mask, edit.seed, plan)]
    draft.take(tokenizer, filled, mask)
    return draft


def _voices(tokenizer: CellTokenizer, edit: Edit, draft: Draft) -> Steps:
    """A plan of chords where none are asked, one fill that keeps from parallels, then bars with faults of
    part-writing once more."""
    if edit.locks.voice_leading is None:
        edit = replace(edit, locks=replace(edit.locks, voice_leading=True))
    plan = None
    if not edit.chords and len(draft.passage.tracks) >= FEWEST_VOICES:
        voting, blank = replace(edit, temperature=HEAT), draft
        mask = draft.passage.region
        plan = yield from planned(
            draft, lambda number: _request(tokenizer, voting, blank, mask, edit.seed + PLANS + number)
        )
    draft = yield from _once(tokenizer, edit, draft, plan)
    if applies(draft):
        draft = yield from revised(
            tokenizer,
            draft,
            lambda mask, number: _request(tokenizer, edit, draft, mask, edit.seed + number, plan),
        )
    return draft


def _repeatedly(tokenizer: CellTokenizer, edit: Edit, draft: Draft, judges: Judges) -> Steps:
    """vary: filled again and again. restyle: the same, searching for what is asked, where a judge can tell
    it."""
    random = np.random.default_rng(edit.seed)
    chosen = chosen_cells(draft, edit.strength, random)
    named = naming(tokenizer, edit.labels, judges) if edit.operation == "restyle" else None

    def request(mask: np.ndarray, number: int) -> FillRequest:
        return _request(tokenizer, edit, draft, mask, edit.seed + number)

    return (
        towards(tokenizer, draft, chosen, request, named)
        if named
        else again(tokenizer, draft, chosen, request, random)
    )


def _nearest(tokenizer: CellTokenizer, draft: Draft, edit: Edit) -> Steps:
    """Of TRIES takes the one whose controls lie nearest to what is asked, and among equals the one most like
    what was there."""
    mask, takes = draft.passage.region, list[Filled]()
    tries = takes_of(int(mask.sum()), TRIES) if edit.controls else 1

    def far(take: Filled) -> float:
        """Classes between what is asked and what was written; simpler music has fewer notes whatever is
        asked."""
        more = edit.operation == "simplify" and _notes_in(draft, take.score) >= _notes_in(draft)
        return _distance(edit, draft.passage, take.score) + MANY * more

    for _ in range(ROUNDS if tries == TRIES else 1):
        takes += yield [
            _request(tokenizer, edit, draft, mask, edit.seed + TRIES * (len(takes) + n)) for n in range(tries)
        ]
        if min(far(take) for take in takes) == 0:
            break
    best = min(range(len(takes)), key=lambda i: (far(takes[i]), -_likeness(draft, takes[i].score)))
    if edit.operation == "simplify" and far(takes[best]) >= MANY:
        raise ValueError(
            "no simpler take was found: the region is as plain as the model writes; ask for a lower density, "
            "another seed or other bars"
        )
    draft.take(tokenizer, takes[best], mask)
    return (
        articulated(tokenizer, draft, edit.controls["note_length"])
        if edit.operation == "rhythm" and "note_length" in edit.controls
        else draft
    )


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


def _notes_in(draft: Draft, score: "Score | None" = None) -> int:
    """Notes of the region, as they stand or in a take."""
    region = draft.passage.region
    if score is None:
        return sum(len(draft.cells[b][t]) for b, t in np.argwhere(region))
    return int(cell_statistics(score)[:, :, 0][: len(region)][region].sum())


def _ticks(passage: Passage, tpq: int, rows: np.ndarray) -> int:
    return sum(4 * tpq * passage.plan.metres[b][0] // passage.plan.metres[b][1] for b in rows)


def _likeness(draft: Draft, score: Score) -> float:
    """Share of the old notes on beats whose pitch class still sounds there."""
    starts = np.concatenate([[0], np.cumsum([4 * score.tpq * n // d for n, d in draft.passage.plan.metres])])
    same = total = 0
    for t, track in enumerate(score.tracks):
        columns = track.notes.numpy()
        there = {
            (int(time), int(pitch) % 12)
            for time, pitch in zip(columns["time"], columns["pitch"], strict=True)
        }
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
    now = (
        notes
        * tokenizer.ticks_per_quarter
        / _ticks(passage, tokenizer.ticks_per_quarter, rows)
        / len(columns)
    )
    index = control.class_of(now) + by
    if not 0 <= index < control.classes:
        raise ValueError(
            f"the region has {now:.2f} notes per quarter already: it cannot be made "
            f"{'denser' if by > 0 else 'sparser'}"
        )
    low, high = control.bounds(index)
    return {"density": (low + high) / 2}


def run(tokenizer: CellTokenizer, fill_all: Filler, tasks: Sequence[Task], judges: Judges) -> list[Edited]:
    """Carry out tasks side by side, and check the contract of each. Raises what a fill raises, and
    ContractBroken."""
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


def _advance(
    edit: Steps,
    answers: list[Filled] | None,
    i: int,
    asked: dict[int, list[FillRequest]],
    drafts: dict[int, Draft],
) -> None:
    try:
        asked[i] = next(edit) if answers is None else edit.send(answers)
    except StopIteration as done:
        drafts[i] = done.value


def _checked(tokenizer: CellTokenizer, task: Task, draft: Draft) -> Edited:
    after = FileCells(draft.finish(tokenizer), task.file.bars)
    tracks = task.original.shape[1]
    before, now = (
        digest(task.original, task.original_region),
        digest(after, task.region, task.bar_numbers, tracks),
    )
    if before != now:
        raise ContractBroken(f"{task.edit.operation} changed something outside its region")
    return Edited(after, now, draft.passage.warnings)
