"""A score as the model can read it: everything it has no token for becomes the nearest that it has, and is
told."""

from typing import NamedTuple

from symusic import Score

from models.fill.parts import nearest_program
from models.tokens.tokenizer import CellTokenizer
from music.score.form import as_notes, note_array
from music.score.instruments import DRUMS, name_of
from music.score.parts import part_of


class Readable(NamedTuple):
    """warnings: what was changed, a sentence each."""

    score: Score
    warnings: list[str]


def readable(tokenizer: CellTokenizer, score: Score) -> Readable:
    """A score in normal form with every instrument that the model does not know read as the nearest it does,
    notes longer than it can say cut to the longest, and drums left out where it knows none (unless nothing
    else sounds). Metres stay: an unknown one has no nearest."""
    known, warnings = score.copy(), dict[str, None]()
    for track in known.tracks:
        notes = note_array(track, loudness=True)
        program = nearest_program(
            tokenizer, DRUMS if track.is_drum else track.program, part_of(notes) if len(notes) else None
        )
        if program not in (None, DRUMS, track.program):
            told = f"{name_of(track.program)} is read as {name_of(program)}: the model was not trained on it"
            warnings[told] = None
            track.program = program
        long = notes[:, 1] > tokenizer.max_duration
        if long.any():
            notes[long, 1] = tokenizer.max_duration
            track.notes = as_notes(notes)
            quarters = tokenizer.max_duration / tokenizer.ticks_per_quarter
            warnings[f"notes longer than {quarters:g} quarters are read as {quarters:g}"] = None
    pitched = [track for track in known.tracks if not track.is_drum]
    if pitched and len(pitched) < len(known.tracks) and DRUMS not in tokenizer.programs:
        known.tracks = pitched
        warnings["drums are left out: the model was not trained on them"] = None
    return Readable(known, list(warnings))
