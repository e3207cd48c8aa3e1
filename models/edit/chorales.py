"""Second thoughts on composed chorales: the melody stays, the lower voices are written again on the chords
that several takes agree on (models/edit/edit_chords.py), as `reharmonise` does it. A first draft settles its
chords voice by voice as it goes, and seldom finds its way to a close; `python -m benchmarks.composing` has
both."""

from collections.abc import Sequence
from dataclasses import replace

from models.edit.by_model import Filler
from models.edit.edit import edit_file
from models.edit.tasks import Edit
from models.fill.compose import TEMPERATURE, Composition, Take, written_for
from models.judge.style_classifier import Judges
from models.tokens.tokenizer import CellTokenizer
from music.score.file_cells import FileCells

CHORALE, FEWEST_VOICES = "chorale", 3
DRAFTS = 4  # of which the best goes on: its melody decides where the voices can go
MOST_CELLS = 160  # bars times voices times takes that are written so often


def applies(asked: Composition, voices: int) -> bool:
    """Whether a composition is a chorale of which nothing is asked that a second writing would undo."""
    told = (
        asked.chords.strip()
        or asked.form
        or asked.controls
        or any(asked.track_controls)
        or asked.bar_controls
    )
    return (
        asked.style == CHORALE
        and voices >= FEWEST_VOICES
        and asked.bars * voices * asked.n <= MOST_CELLS
        and not told
    )


def drafted(tokenizer: CellTokenizer, asked: Composition) -> Composition:
    """The same with some drafts to choose from, where second thoughts apply and no drafts are asked."""
    if asked.best_of > 1 or not applies(asked, len(written_for(tokenizer, asked))):
        return asked
    return replace(asked, best_of=DRAFTS)


def revised(
    tokenizer: CellTokenizer, judges: Judges, fill_all: Filler, asked: Composition, takes: Sequence[Take]
) -> list[Take]:
    """The takes of `drafted(asked)`, or the same melodies in better company; `asked` as it was asked. Raises
    what a fill raises."""
    if not takes or not applies(asked, len(takes[0].score.tracks)):
        return list(takes)
    found = []
    for k, take in enumerate(takes):
        edit = Edit(
            "reharmonise",
            style=asked.style,
            key=asked.key,
            melody=0,
            locks=asked.locks,
            guidance=asked.guidance,
            top_p=asked.top_p,
            temperature=None if asked.temperature == TEMPERATURE else asked.temperature,
            seed=take.seed,
        )
        answer = edit_file(tokenizer, judges, fill_all, FileCells.of(take.score), edit)[0]
        found.append(Take(answer.file.score, take.tokens, asked.seed + k))
    return found
