"""What an edit by the model asks for, and the task it is on a file."""

from dataclasses import dataclass, field, replace

import numpy as np

from models.decoding.locks import Locks
from models.tokens.labels import Labels
from music.editing.reshape import with_bars, with_metre, with_program, with_tracks
from music.score.file_cells import FileCells
from music.score.form import parse_metre
from music.score.instruments import program_of

OPERATIONS = (
    "infill",
    "continue",
    "vary",
    "restyle",
    "rhythm",
    "melody",
    "harmonise",
    "reharmonise",
    "arrange",
    "simplify",
    "elaborate",
)


@dataclass(frozen=True)
class Edit:
    """What to do with a file. bars: [first, last) counted from 0, None for all; tracks: counted from 0, None
    for all.

    strength: share of the region's cells that `vary` and `restyle` may fill anew, 0-1. length: bars that
    `continue` adds. melody: the track that `harmonise` and `reharmonise` keep. instruments: of the tracks
    that `harmonise` and `arrange` write. controls: numbers by name (music/score/cells.py) asked of the
    region's tracks. chords: "Dm7 | G7 | C", from the region's first bar on (models/fill/asked.py). keep:
    notes of the region that stay, (track, number of the note in it by onset and pitch), both from 0. metre:
    "6/8", for `restyle` and `rhythm`: one bar of it for every bar of the region.
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
    chords: str = ""
    keep: tuple[tuple[int, int], ...] = ()
    guidance: float = 1.0
    temperature: float | None = None
    top_p: float = 0.98
    seed: int = 0

    @property
    def heat(self) -> float:
        """Temperature: what is asked, else 0.6 for part-writing (chords come nearer to Bach's, 0.30 against
        0.23) and 1 for all else."""
        return (
            self.temperature
            if self.temperature is not None
            else 0.6
            if self.operation in ("harmonise", "reharmonise")
            else 1.0
        )

    @property
    def labels(self) -> Labels:
        return Labels(self.style, self.rhythm, self.key)


@dataclass(frozen=True)
class Task:
    """An edit made ready: the file with its new shape, the region in it, and what its bars and tracks were
    before.

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
    """An answer: the file after the edit, and the digest of everything outside the region, equal before and
    after."""

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
        at = (0, 1) if edit.before else (original.shape[0] - 1, original.shape[0])
        mine = sounding_near(original, at, tracks) if edit.tracks is None else tracks
        region = np.zeros(file.shape, dtype=bool)
        region[np.ix_(np.flatnonzero(numbers < 0), np.array(mine))] = True
        return Task(edit, original, file, region, numbers)
    if edit.operation in ("harmonise", "reharmonise"):
        melody = _melody(edit, original)
        if edit.operation == "reharmonise":
            chosen = [k for k in tracks if k != melody]
            if not chosen:
                raise ValueError(
                    "there is nothing beside the melody to write anew: use harmonise to add voices, or "
                    "name other tracks"
                )
            tracks = chosen
        else:
            programs = [program_of(name) for name in edit.instruments] or [
                int(original.score.tracks[melody].program)
            ] * 3
            file = with_tracks(original, programs)
            tracks = list(range(original.shape[1], file.shape[1]))
    if edit.operation == "arrange":
        if len(edit.instruments) != 1:
            raise ValueError(
                "arrange writes one track: name one instrument (and a track to replace, or none to add one)"
            )
        program = program_of(edit.instruments[0])
        if edit.tracks is None:
            file = with_tracks(original, [program])
            tracks = [original.shape[1]]
        elif len(tracks) == 1 and edit.bars is None:
            file = with_program(original, tracks[0], program)
        else:
            raise ValueError(
                "arrange replaces one track from its first bar to its last: name one track and "
                "no bars, or neither to add a new one"
            )
    if edit.operation not in ("harmonise", "arrange") and edit.tracks is None:
        tracks = sounding_near(original, bars, tracks)
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
        raise ValueError(
            f"there is no track {', '.join(map(str, wrong)) or '(none named)'}: the score has {names}"
        )
    return sorted(set(tracks))


NEAR = 8  # bars on either side within which a track must sound, or it is left silent where it is not named


def sounding_near(file: FileCells, bars: tuple[int, int], tracks: list[int]) -> list[int]:
    """Tracks that sound in bars [first, last) or near them; all where none does."""
    found = []
    for k in tracks:
        bar = file.bar_of(file.notes(k)[:, 0])
        if ((bar >= bars[0] - NEAR) & (bar < bars[1] + NEAR)).any():
            found.append(k)
    return found or tracks


def held_notes(task: Task) -> dict[int, np.ndarray]:
    """Numbers in the order of the file of the notes that `keep` names, by track of the file. Raises
    ValueError for a note that is not there or not in the region."""
    found: dict[int, list[int]] = {}
    for track, number in task.edit.keep:
        notes = (
            task.file.notes(track) if 0 <= track < task.file.shape[1] else np.zeros((0, 4), dtype=np.int64)
        )
        order = np.lexsort((notes[:, 2], notes[:, 0]))
        if not 0 <= number < len(order):
            raise ValueError(
                f"keep names note {number + 1} of track {track + 1}, which has {len(order)} notes"
            )
        index = int(order[number])
        bar = int(task.file.bar_of(notes[index : index + 1, 0])[0])
        if not task.region[bar, track]:
            raise ValueError(
                f"keep names note {number + 1} of track {track + 1} in bar {bar + 1}, which is outside the "
                "region and "
                f"stays anyway: leave it out, or widen the region"
            )
        found.setdefault(track, []).append(index)
    return {track: np.array(sorted(indices)) for track, indices in found.items()}


def _melody(edit: Edit, file: FileCells) -> int:
    """The track to keep: the one named, else the highest on average."""
    if edit.melody is not None:
        return tracks_of(replace(edit, tracks=(edit.melody,)), file)[0]
    pitched = [k for k in range(file.shape[1]) if len(file.notes(k)) and not file.score.tracks[k].is_drum]
    if not pitched:
        raise ValueError("no track has a melody to keep: all are drums or empty")
    return max(pitched, key=lambda k: float(file.notes(k)[:, 2].mean()))
