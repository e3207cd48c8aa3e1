"""One edit of a file, by the model or by rule: the operations by name, the answer, and its contract."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.edit import by_model
from models.edit.by_model import Filler
from models.edit.by_rule import RULES, Rule
from models.edit.handed_out import handed_out, whole_out
from models.edit.tasks import OPERATIONS, Edit, bars_of, prepare, tracks_of
from models.fill.request import ContractBroken
from models.judge.style_classifier import Judges
from models.tokens.tokenizer import CellTokenizer
from music.reading.midi import MidiSource
from music.score.file_cells import FileCells, difference, digest
from music.score.form import Limits

NAMES = (*OPERATIONS, *RULES)
OPTIONS: dict[
    str, tuple[str, ...]
] = {  # of each operation by the model, beside bars, tracks, and how it is drawn
    "infill": ("style", "rhythm", "key", "controls", "locks", "chords", "keep"),
    "continue": ("style", "rhythm", "key", "controls", "locks", "length", "before", "chords"),
    "vary": ("strength", "controls", "locks"),
    "restyle": ("style", "rhythm", "key", "metre", "strength", "controls", "locks"),
    "rhythm": ("rhythm", "metre", "controls", "locks"),
    "melody": ("style", "key", "controls", "locks"),
    "harmonise": ("style", "key", "melody", "instruments", "controls", "locks", "chords"),
    "reharmonise": ("style", "key", "melody", "controls", "locks", "chords"),
    "arrange": ("style", "key", "instruments", "controls", "locks", "chords"),
    "simplify": ("style", "controls", "locks", "keep"),
    "elaborate": ("style", "controls", "locks", "keep"),
    **{name: rule.options for name, rule in RULES.items()},
}
LIMITS = Limits(
    max_quarters=40_000, max_tracks=256
)  # of a file to edit: hours, and an orchestra; the region is what counts
DRAWN = ("guidance", "temperature", "top_p", "seed")


@dataclass(frozen=True)
class Contract:
    """Digests of everything outside the region before and after; `whole`: the operation is of the whole
    score, so there is no outside."""

    before: str
    after: str
    cells_kept: int
    whole: bool = False

    @property
    def kept(self) -> bool:
        return self.before == self.after


@dataclass(frozen=True)
class Answer:
    """One alternative. midi: the file that is handed out. `changes`: by cell (music/score/file_cells.py), []
    for an operation of the whole score."""

    file: FileCells
    midi: bytes
    contract: Contract
    changes: list[dict[str, Any]]
    warnings: list[str]
    seed: int

    def bars_changed(self, bars_before: int) -> tuple[int, int] | None:
        """Bars [first, last) around every change, counted from 0; None for all, as where bars were added."""
        if self.contract.whole or self.file.shape[0] != bars_before:
            return None
        bars = [change["bar"] - 1 for change in self.changes] or [0]
        return min(bars), max(bars) + 1


def edit_file(
    tokenizer: CellTokenizer,
    judges: Judges,
    fill_all: Filler,
    file: FileCells,
    edit: Edit,
    alternatives: int = 1,
    source: MidiSource | None = None,
) -> list[Answer]:
    """Alternatives of an edit by the model; number k is drawn with seed + 1000 k. judges: of the bundle, {}
    leaves `restyle` to what the model can do alone. source: what the file was read from, so that all else in
    it is handed out as it was. Raises ValueError for what cannot be done, ContractBroken never (it would be
    our bug)."""
    edits = [replace(edit, seed=edit.seed + 1000 * k) for k in range(alternatives)]
    tasks = [prepare(each, file) for each in edits]
    answers = []
    for task, done in zip(tasks, by_model.run(tokenizer, fill_all, tasks, judges), strict=True):
        contract = Contract(done.contract, done.contract, int((~task.original_region).sum()))
        midi = handed_out(source, file, done.file, task.original_region, task.bar_numbers)
        answers.append(
            Answer(
                done.file,
                midi,
                contract,
                difference(file, done.file, task.bar_numbers),
                done.warnings,
                task.edit.seed,
            )
        )
    return answers


def apply_rule(
    file: FileCells,
    operation: str,
    rule: Rule,
    bars: tuple[int, int] | None = None,
    tracks: Sequence[int] | None = None,
    source: MidiSource | None = None,
) -> Answer:
    """An edit by rule; `source` as in `edit_file`. Raises ValueError and UnreadableScore for what cannot be
    done."""
    known, told = RULES[operation], Edit(operation, bars, tuple(tracks) if tracks is not None else None)
    region = np.zeros(file.shape, dtype=bool)
    region[np.ix_(np.arange(*bars_of(told, file)), np.array(tracks_of(told, file)))] = True
    done = known.apply(rule, file, region)
    if not known.local:
        midi, lost = whole_out(source, file, done, known.ticks(rule, file, region) if known.ticks else None)
        return Answer(done, midi, Contract("", "", 0, whole=True), [], lost, rule.seed)
    contract = Contract(digest(file, region), digest(done, region), int((~region).sum()))
    if not contract.kept:
        raise ContractBroken(f"{operation} changed something outside its region")
    midi = handed_out(source, file, done, region, np.arange(file.shape[0]))
    return Answer(done, midi, contract, difference(file, done), [], rule.seed)


def unknown_option(operation: str, given: Sequence[str]) -> str:
    """What to say of options that an operation does not take; "" where all are its own."""
    mine = (*OPTIONS[operation], *(DRAWN if operation in OPERATIONS else ()))
    wrong = [name for name in given if name not in mine]
    return (
        f"{operation} takes no {', '.join(wrong)}; it takes {', '.join(mine) or 'no options'}"
        if wrong
        else ""
    )
