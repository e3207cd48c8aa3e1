"""What an edit keeps of the parts it writes: the compass and the one line of each track as it was, and of new
tracks those of their instrument; and which tracks are left silent."""

from dataclasses import replace

import numpy as np

from models.decoding.locks import Locks
from models.edit.edit_style import BEYOND, OCTAVE
from models.edit.tasks import Edit
from models.fill.passage import Draft
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import BY_NAME
from music.score.instruments import DRUMS
from music.score.parts import Part, part_of

NEW_PARTS = ("arrange",)  # a track that is replaced is another instrument's


def as_it_was(tokenizer: CellTokenizer, draft: Draft, edit: Edit) -> Locks:
    """The locks of an edit with a range for every track of the passage, and one line where the track is one.
    What the edit asks for goes before: its own ranges, several notes at once, another range."""
    polyphony = edit.controls.get("polyphony")
    several = polyphony is not None and BY_NAME["polyphony"].class_of(polyphony) > 0
    locked = edit.locks.rhythm or edit.operation == "melody"  # then the rhythm says what sounds together
    beyond = OCTAVE if edit.key or "range" in edit.controls else BEYOND
    ranges: dict[int, tuple[int, int]] = {}
    lines = set(edit.locks.lines)
    for t, program in enumerate(draft.passage.plan.programs):
        part = _part(tokenizer, draft, edit, t)
        if program == DRUMS or part is None:
            continue
        low, high = part.low - beyond, part.high + beyond
        if edit.locks.scale and not any(pitch % 12 in edit.locks.scale for pitch in range(low, high + 1)):
            low, high = low - OCTAVE, high + OCTAVE
        ranges[t] = (max(low, 0), min(high, 127))
        if part.one_line and not several and not locked:
            lines.add(t)
    return replace(edit.locks, ranges={**ranges, **edit.locks.ranges}, lines=frozenset(lines))


def _part(tokenizer: CellTokenizer, draft: Draft, edit: Edit, t: int) -> Part | None:
    known = tokenizer.parts.get(draft.passage.plan.programs[t])
    notes = draft.passage.file.notes(draft.passage.tracks[t])
    new = edit.operation in NEW_PARTS and bool(draft.passage.region[:, t].any())
    if not len(notes) or (new and known is not None):
        return known
    return part_of(notes[np.argsort(notes[:, 0], kind="stable")])
