"""Compose: fill an empty grid of cells under controls."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from symusic import Score

from models.decoding.locks import Locks
from models.decoding.loop import Decoder
from models.decoding.script import Plan
from models.fill.asked import chord_line, form_named, form_places
from models.fill.best_of import Worth, best, drafts
from models.fill.fill import fill
from models.fill.forms import FREE, Forms
from models.fill.parts import as_played, nearest_program, polyphonic
from models.fill.request import Filled, FillRequest, empty
from models.tokens.labels import Labels, TrackAsk
from models.tokens.layout import CellAsks
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import BY_NAME, PER_BAR, tempo_class
from music.score.form import DEFAULT_TEMPO_QPM, to_midi
from music.score.instruments import name_of, program_of

DEFAULT_METRE = "4/4"
# of compositions: at 1 sections come back less often than in real tunes, at 0.8 bars do too often
# (docs/model.md)
TEMPERATURE = 0.9


@dataclass(frozen=True)
class BarAsk:
    """Density or polyphony of one cell; bar and track count from 1. None: not asked."""

    bar: int
    track: int = 1
    density: float | None = None
    polyphony: float | None = None


@dataclass(frozen=True)
class Composition:
    """What is asked. Empty strings, lists and None are left to the model (metre and instruments: to the
    defaults below; parallels are kept from in chorales).

    form: "AABB", "A:8 B:8 A:4", "free"; where it is left out a tune is told one that real ones had
    (models/fill/forms.py). chords: "Dm7 | G7 | C F | C" (models/fill/asked.py has both). controls:
    numbers by name (music/score/cells.py) asked of every track; track_controls: of each track, over
    `controls`.
    """

    style: str = ""
    rhythm: str = ""
    key: str = ""
    metre: str = ""
    bars: int = 8
    form: str = ""
    chords: str = ""
    instruments: list[str | int] = field(default_factory=list)
    tempo: float | None = None
    controls: dict[str, float] = field(default_factory=dict)
    track_controls: list[dict[str, float]] = field(default_factory=list)
    bar_controls: list[BarAsk] = field(default_factory=list)
    locks: Locks = field(default_factory=Locks)
    guidance: float = 1.0
    seed: int = 0
    temperature: float = TEMPERATURE
    top_p: float = 0.98
    n: int = 1
    best_of: int = 1  # drafts that each take is chosen from


@dataclass(frozen=True)
class Take:
    """One answer: the score, its tokens' count, the seed that gives it again, and the form it was told."""

    score: Score
    tokens: int
    seed: int
    form: str = ""

    @property
    def midi(self) -> bytes:
        return to_midi(self.score)


def default_programs(tokenizer: CellTokenizer, style: str) -> tuple[int, ...]:
    """Four voices for a chorale, otherwise one melody instrument: the first of fiddle, voice, or what the
    tokenizer knows."""
    if style == "chorale" and 52 in tokenizer.programs:
        return (52,) * 4
    return (next((p for p in (40, 52, 0) if p in tokenizer.programs), tokenizer.programs[0]),)


def classes_of(values: dict[str, float]) -> tuple[tuple[str, int], ...]:
    """Classes of control values, in the order of the vocabulary. Raises ValueError naming the known
    controls."""
    unknown = set(values) - set(BY_NAME)
    if unknown:
        raise ValueError(
            f"unknown control {', '.join(sorted(unknown))}; known are "
            f"{', '.join(f'{c.name} ({c.unit})' for c in BY_NAME.values())}"
        )
    return tuple(
        (name, control.class_of(values[name])) for name, control in BY_NAME.items() if name in values
    )


def track_asks(
    programs: tuple[int, ...], common: dict[str, float], each: list[dict[str, float]]
) -> tuple[TrackAsk, ...]:
    """What is asked of every track. Raises ValueError where there are controls for more tracks than there
    are."""
    if len(each) > len(programs):
        raise ValueError(
            f"controls for {len(each)} tracks, but there are {len(programs)}: name the instruments "
            f"too, one a track"
        )
    own = [*each, *([{}] * (len(programs) - len(each)))]
    return tuple(
        TrackAsk(program, classes_of({**common, **mine})) for program, mine in zip(programs, own, strict=True)
    )


def cell_asks(asks: list[BarAsk], bars: int, tracks: int) -> CellAsks:
    """Classes asked of single cells. Raises ValueError for a cell that is not there."""
    found: CellAsks = {}
    for ask in asks:
        if not 1 <= ask.bar <= bars or not 1 <= ask.track <= tracks:
            raise ValueError(
                f"there is no bar {ask.bar} of track {ask.track}: the piece has {bars} bars and {tracks} "
                f"tracks, counted from 1"
            )
        found[ask.bar - 1, ask.track - 1] = found.get((ask.bar - 1, ask.track - 1), ()) + classes_of(
            {name: value for name in PER_BAR if (value := getattr(ask, name)) is not None}
        )
    return found


def written_for(tokenizer: CellTokenizer, asked: Composition) -> tuple[int, ...]:
    """Programs that the model writes for: those asked, or the nearest it knows. Raises ValueError for an
    instrument that is none."""
    named = tuple(program_of(name) for name in asked.instruments)
    if not named:
        return default_programs(tokenizer, asked.style)
    return tuple(found if (found := nearest_program(tokenizer, p)) is not None else p for p in named)


def sounding_as(tokenizer: CellTokenizer, asked: Composition) -> tuple[dict[int, int], list[str]]:
    """Programs that tracks get in the answer where the model wrote for others, by track, and what to tell of
    it."""
    named = [program_of(name) for name in asked.instruments]
    other = {
        k: (program, written)
        for k, (program, written) in enumerate(zip(named, written_for(tokenizer, asked), strict=False))
        if program != written
    }
    warnings = [
        f"the model does not know {name_of(program)} (track {k + 1}): it writes as for {name_of(written)}; "
        "the track "
        f"has the instrument asked"
        for k, (program, written) in other.items()
    ]
    return {k: program for k, (program, _) in other.items()}, warnings


def form_told(asked: Composition, tracks: int, forms: Forms | None, seed: int) -> str:
    """The form that a take is told: the one asked, or for a tune of which no chords and no single bars are
    asked one that real tunes had."""
    if asked.form:
        return "" if asked.form == FREE else asked.form
    if forms is None or tracks > 1 or asked.chords.strip() or asked.bar_controls:
        return ""
    return forms.draw(asked.style, asked.rhythm, asked.bars, seed)


def requests_of(
    tokenizer: CellTokenizer, asked: Composition, forms: Forms | None = None
) -> list[FillRequest]:
    """One request for each of the n takes; `forms`: of a bundle. Raises ValueError (of which
    NotRepresentable and LockError are kinds) naming what is known."""
    metre = asked.metre or (
        DEFAULT_METRE
        if tuple(int(x) for x in DEFAULT_METRE.split("/")) in tokenizer.metres
        else "/".join(map(str, tokenizer.metres[0]))
    )
    tokenizer.id_of("Bar", metre)
    numerator, denominator = (int(part) for part in metre.split("/"))
    programs = written_for(tokenizer, asked)
    for k, program in enumerate(programs):
        tokenizer.id_of("Program", program)
        asked.locks.allowed_pitches(k, program < 0)
    tempo = tempo_class(asked.tempo) if asked.tempo is not None else ""
    labels = Labels(
        asked.style,
        asked.rhythm,
        asked.key,
        asked.bars,
        tempo=tempo if tempo in tokenizer.tempo_classes else "",
        tracks=track_asks(programs, asked.controls, asked.track_controls),
    )
    tokenizer.prefix(Labels(asked.style, asked.rhythm, asked.key))
    plan = Plan(((numerator, denominator),) * asked.bars, programs)
    cells = cell_asks(asked.bar_controls, asked.bars, len(programs))
    several = {k for (_, k), asks in cells.items() if dict(asks).get("polyphony", 0) > 0}
    locks = as_played(tokenizer, programs, asked.style, asked.locks, polyphonic(labels.tracks) | several)
    chords = chord_line(tokenizer, plan, asked.chords) if asked.chords.strip() else None
    found = []
    for seed in range(asked.seed, asked.seed + asked.n):
        told = form_told(asked, len(programs), forms, seed)
        form, copied = form_places(told, asked.bars) if told else (None, ())
        found.append(
            FillRequest(
                plan,
                empty(plan),
                labels,
                seed,
                None,
                locks,
                cells,
                asked.temperature,
                asked.top_p,
                asked.guidance,
                asked.tempo or DEFAULT_TEMPO_QPM,
                chords=chords,
                form=form,
                copied=copied,
            )
        )
    return found


def takes_of(
    requests: Sequence[FillRequest],
    written: Sequence[Filled],
    best_of: int,
    worth: Worth | None,
    programs: dict[int, int],
) -> list[Take]:
    """The answers to requests: the best of every `best_of` drafts in a row, with `programs` of some tracks as
    they were asked."""
    takes = []
    for i in best(requests, [filled.score for filled in written], best_of, worth):
        score = written[i].score
        for k, program in programs.items():
            score.tracks[k].program = program
        told = form_named(requests[i].form, requests[i].copied)
        takes.append(Take(score, len(written[i].ids), requests[i].seed, told))
    return takes


def compose(
    decoder: Decoder,
    tokenizer: CellTokenizer,
    asked: Composition,
    deadline_s: float | None = None,
    worth: Worth | None = None,
    forms: Forms | None = None,
) -> list[Take]:
    """Write `asked.n` pieces of exactly `asked.bars` bars; take k is drawn with the seed `asked.seed + k`, or
    is the best draft by `worth`. Raises TimeoutError past the deadline."""
    requests = drafts(requests_of(tokenizer, asked, forms), asked.best_of)
    programs, _ = sounding_as(tokenizer, asked)
    return takes_of(requests, fill(decoder, tokenizer, requests, deadline_s), asked.best_of, worth, programs)
