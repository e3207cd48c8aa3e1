"""Requests and answers of the service. Every number has bounds; NaN and infinity are refused; unknown fields
are errors."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from models.edit.edit import NAMES, unknown_option

MAX_BARS, MAX_TAKES, MAX_DRAFTS, MAX_SCORE_BASE64 = 64, 8, 32, 2_800_000  # 2 MB of MIDI
MAX_CELLS = 256  # bars times tracks of one take: about 15 s on two cores, well inside the service's timeout
Word = Annotated[str, StringConstraints(max_length=64)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ControlValues(Strict):
    """Numbers asked of a track; None: left to the model. They are asked as classes (GET /v1/model lists
    them)."""

    density: float | None = Field(None, ge=0, le=48, description="notes per quarter")
    polyphony: float | None = Field(None, ge=0, le=64, description="notes that sound at once")
    range: float | None = Field(
        None, ge=0, le=127, description="semitones between the lowest and the highest note"
    )
    note_length: float | None = Field(None, ge=0, le=64, description="mean length of a note, quarters")
    syncopation: float | None = Field(
        None, ge=0, le=1, description="share of notes that start off the beat and sound through the next"
    )

    def given(self) -> dict[str, float]:
        return {name: value for name, value in self.model_dump().items() if value is not None}


class BarControl(Strict):
    """Density or polyphony of one bar of one track, both counted from 1."""

    bar: int = Field(ge=1)
    track: int = Field(1, ge=1)
    density: float | None = Field(None, ge=0, le=48)
    polyphony: float | None = Field(None, ge=0, le=64)


class LockValues(Strict):
    """Hard constraints: what is written keeps to them, whatever the model would like."""

    scale: Word | list[Annotated[int, Field(ge=0, le=11)]] = Field(
        "", description="a key such as 'D dorian', or pitch classes (C is 0)"
    )
    lowest: int = Field(0, ge=0, le=127, description="MIDI pitch")
    highest: int = Field(127, ge=0, le=127, description="MIDI pitch")
    grid: Literal["", "1/4", "1/8", "1/8T", "1/16", "1/16T"] = Field(
        "", description="every onset and length is a multiple of this note; T: triplet"
    )
    voice_leading: bool | None = Field(
        None,
        description=(
            "keep from parallel fifths and octaves between tracks wherever anything else is legal; "
            "left out: in chorales, harmonise and reharmonise"
        ),
    )


class ComposeRequest(Strict):
    """What to write; everything left out is left to the model."""

    style: Word = Field(
        "", description="a style of the training data, e.g. irish, chorale; see GET /v1/model"
    )
    rhythm: Word = Field("", description="a dance, e.g. jig, reel")
    key: Word = Field("", description="tonic and mode, e.g. 'D major', 'E dorian'")
    metre: Word = Field("", description="e.g. 6/8")
    tempo: float | None = Field(
        None,
        ge=20,
        le=400,
        description=(
            "quarters a minute: asked of the model and written into the MIDI file; 120 where it is left out"
        ),
    )
    bars: int = Field(8, ge=1, le=MAX_BARS, description="exactly this many")
    instruments: list[Annotated[Word | int, Field(union_mode="left_to_right")]] = Field(
        default_factory=list,
        max_length=16,
        description="one a track: General MIDI names, aliases such as fiddle, or numbers; -1 for drums",
    )
    controls: ControlValues = Field(
        default_factory=lambda: ControlValues.model_validate({}), description="asked of every track"
    )
    track_controls: list[ControlValues] = Field(
        default_factory=list,
        max_length=16,
        description="asked of each track, in the order of instruments; over `controls`",
    )
    bar_controls: list[BarControl] = Field(default_factory=list, max_length=MAX_CELLS)
    locks: LockValues = Field(default_factory=lambda: LockValues.model_validate({}))
    guidance: float = Field(
        1.0,
        ge=0,
        le=5,
        description="above 1 the controls are pressed harder (classifier-free guidance), at twice the work",
    )
    seed: int | None = Field(
        None,
        ge=0,
        le=2**31 - 1 - MAX_TAKES,
        description="same seed and request, same answer; drawn and told where it is left out",
    )
    temperature: float = Field(1.0, ge=0.05, le=3)
    top_p: float = Field(0.98, gt=0, le=1)
    n: int = Field(1, ge=1, le=MAX_TAKES, description="takes; take k has seed + k")
    best_of: int = Field(
        1,
        ge=1,
        le=MAX_TAKES,
        description=(
            "drafts that each take is chosen from, by the rewards the model was aligned with; the take's own "
            "seed is told"
        ),
    )

    @model_validator(mode="after")
    def _bounded_work(self) -> "ComposeRequest":
        tracks = len(self.instruments) or (4 if self.style == "chorale" else 1)
        if self.n * self.best_of > MAX_DRAFTS:
            raise ValueError(
                f"takes times drafts are {self.n * self.best_of}; at most {MAX_DRAFTS} are "
                f"written at once: ask for fewer takes, or a lower best_of"
            )
        if self.bars * tracks * self.n * self.best_of > 4 * MAX_CELLS:
            raise ValueError(
                f"bars times tracks times takes times drafts are "
                f"{self.bars * tracks * self.n * self.best_of}; at most {4 * MAX_CELLS} are written at "
                f"once: ask for fewer"
            )
        if self.bars * tracks > MAX_CELLS:
            raise ValueError(
                f"{self.bars} bars of {tracks} tracks are {self.bars * tracks} cells; at most "
                f"{MAX_CELLS} are written at once: ask for fewer bars or tracks"
            )
        return self


class EditRequest(Strict):
    """A score, a region of it, one operation with its options. Options that the operation does not take are
    errors."""

    midi: Annotated[str, StringConstraints(max_length=MAX_SCORE_BASE64)] = Field(
        "", description="standard MIDI file, base64; or name a parent"
    )
    parent: Annotated[str, StringConstraints(max_length=80)] = Field(
        "", description="id of an earlier answer to start from, instead of midi"
    )
    operation: Literal[NAMES] = Field(description="see docs/editing.md")  # type: ignore[valid-type]
    bars: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = Field(
        None, description="first and last bar of the region, counted from 1; left out: all"
    )
    tracks: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, max_length=256, description="tracks of the region, counted from 1; left out: all"
    )
    n: int = Field(1, ge=1, le=MAX_TAKES, description="alternatives")
    style: Word = ""
    rhythm: Word = ""
    key: Word = ""
    metre: Word = ""
    controls: ControlValues = Field(default_factory=lambda: ControlValues.model_validate({}))
    locks: LockValues = Field(default_factory=lambda: LockValues.model_validate({}))
    strength: float = Field(
        0.5,
        ge=0,
        le=1,
        description="vary, restyle: share of the region's cells that may change; quantise: how far",
    )
    length: int = Field(4, ge=1, le=MAX_BARS, description="continue: bars to add")
    before: bool = Field(False, description="continue: before the first bar instead of after the last")
    melody: int | None = Field(
        None, ge=1, description="harmonise, reharmonise: the track that stays; left out: the highest"
    )
    instruments: list[Annotated[Word | int, Field(union_mode="left_to_right")]] = Field(
        default_factory=list, max_length=8
    )
    semitones: int | None = Field(None, ge=-127, le=127)
    to_key: Word = ""
    steps: int | None = Field(None, ge=-70, le=70)
    grid: Word = Field("1/16", description="quantise: note value, T for triplets")
    amount: float = Field(
        2 / 3, ge=0.5, le=0.8, description="swing: share of the beat before the second quaver"
    )
    timing_ms: float = Field(12.0, ge=0, le=200)
    loudness: float = Field(6.0, ge=0, le=40)
    qpm: float | None = Field(None, ge=10, le=500)
    factor: float | None = Field(None, ge=0.1, le=10)
    axis: int | None = Field(None, ge=0, le=127)
    pitch: int = Field(60, ge=1, le=127)
    fit: bool = Field(
        False, description="metre: one bar for one bar, instead of new barlines over the same notes"
    )
    guidance: float = Field(1.0, ge=0, le=5)
    seed: int | None = Field(None, ge=0, le=2**31 - 1 - 1000 * MAX_TAKES)
    temperature: float | None = Field(
        None, ge=0.05, le=3, description="left out: 1, or 0.6 for harmonise and reharmonise"
    )
    top_p: float = Field(0.98, gt=0, le=1)

    @model_validator(mode="after")
    def _one_score_and_its_own_options(self) -> "EditRequest":
        if bool(self.midi) == bool(self.parent):
            raise ValueError("give a score as midi, or the id of an earlier answer as parent: one of the two")
        if self.bars is not None and self.bars[0] > self.bars[1]:
            raise ValueError(f"bars {self.bars[0]} to {self.bars[1]}: the first lies after the last")
        common = {"midi", "parent", "operation", "bars", "tracks", "n"}
        problem = unknown_option(
            self.operation,
            [name for name in type(self).model_fields if name in self.model_fields_set - common],
        )
        if problem:
            raise ValueError(problem)
        return self


class ScoreRequest(Strict):
    """A score to judge."""

    midi: Annotated[str, StringConstraints(min_length=4, max_length=MAX_SCORE_BASE64)] = Field(
        description="standard MIDI file, base64"
    )
    style: Word = Field("", description="judge it as this style; empty: as itself")
    rhythm: Word = ""
    key: Word = ""


class Scorecard(BaseModel):
    """How the model and the descriptors see a piece."""

    nats_per_note: float
    percentile: float = Field(description="share of reference pieces that surprise the model less, 0-100")
    descriptors: dict[str, float]
    asked: dict[str, Any] = Field(default_factory=dict)
    obeyed: dict[str, bool] = Field(default_factory=dict)
    originality: dict[str, Any] = Field(default_factory=dict)


class TakeAnswer(BaseModel):
    id: str = Field(description="to start an edit from, as parent")
    midi: str = Field(description="standard MIDI file, base64")
    seed: int
    bars: int
    notes: int
    tokens: int
    scorecard: Scorecard


class ComposeAnswer(BaseModel):
    request_id: str
    model: str
    seed: int
    takes: list[TakeAnswer]


class CellChange(BaseModel):
    """What changed in one cell; bar and track count from 1."""

    track: int
    bar: int
    added: int
    removed: int
    moved: int = Field(description="notes of a pitch that was there, with another onset or length")


class ContractAnswer(BaseModel):
    """The edit contract: sha256 of every note outside the region, before and after."""

    outside_before: str
    outside_after: str
    equal: bool
    cells_kept: int
    whole_score: bool = Field(description="the operation is of the whole score: there is no outside")


class Alternative(BaseModel):
    id: str = Field(description="to start a further edit from, as parent")
    midi: str = Field(description="standard MIDI file, base64")
    seed: int
    bars: int
    notes: int
    changes: list[CellChange]
    contract: ContractAnswer
    scorecard: Scorecard | None = Field(
        description=(
            "of the bars around the region, after the edit; null with `scorecard_note` where the model "
            "cannot read them"
        )
    )
    scorecard_note: str = ""
    warnings: list[str]


class EditAnswer(BaseModel):
    request_id: str
    model: str
    seed: int
    parent: str
    operation: str
    scorecard_before: Scorecard | None
    alternatives: list[Alternative]


class ScoreAnswer(BaseModel):
    request_id: str
    model: str
    seed: int = Field(0, description="scoring draws nothing: always 0")
    bars: int
    notes: int
    surprise_per_bar: list[float] = Field(description="nats of each bar")
    scorecard: Scorecard


class ModelAnswer(BaseModel):
    """The model in service."""

    request_id: str
    model: str
    version: str
    licence: str
    lineage: dict[str, Any]
    metrics: dict[str, Any]
    known: dict[str, list[str]] = Field(
        description="styles, rhythms, tempo classes, metres, instruments, and the classes of every control"
    )
