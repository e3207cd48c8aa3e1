"""Requests and answers of the service. Every number has bounds; NaN and infinity are refused; unknown fields are errors."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MAX_BARS, MAX_TAKES, MAX_SCORE_BASE64 = 64, 8, 2_800_000  # 2 MB of MIDI
MAX_CELLS = 256  # bars times tracks of one take: about 15 s on two cores, well inside the service's timeout
Word = Annotated[str, StringConstraints(max_length=64)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ControlValues(_Strict):
    """Numbers asked of a track; None: left to the model. They are asked as classes (GET /v1/model lists them)."""

    density: float | None = Field(None, ge=0, le=48, description="notes per quarter")
    polyphony: float | None = Field(None, ge=0, le=64, description="notes that sound at once")
    range: float | None = Field(None, ge=0, le=127, description="semitones between the lowest and the highest note")
    note_length: float | None = Field(None, ge=0, le=64, description="mean length of a note, quarters")
    syncopation: float | None = Field(None, ge=0, le=1, description="share of notes that start off the beat and sound through the next")

    def given(self) -> dict[str, float]:
        return {name: value for name, value in self.model_dump().items() if value is not None}


class BarControl(_Strict):
    """Density or polyphony of one bar of one track, both counted from 1."""

    bar: int = Field(ge=1)
    track: int = Field(1, ge=1)
    density: float | None = Field(None, ge=0, le=48)
    polyphony: float | None = Field(None, ge=0, le=64)


class LockValues(_Strict):
    """Hard constraints: what is written keeps to them, whatever the model would like."""

    scale: Word | list[Annotated[int, Field(ge=0, le=11)]] = Field("", description="a key such as 'D dorian', or pitch classes (C is 0)")
    lowest: int = Field(0, ge=0, le=127, description="MIDI pitch")
    highest: int = Field(127, ge=0, le=127, description="MIDI pitch")
    grid: Literal["", "1/4", "1/8", "1/8T", "1/16", "1/16T"] = Field("", description="every onset and length is a multiple of this note; T: triplet")


class ComposeRequest(_Strict):
    """What to write; everything left out is left to the model."""

    style: Word = Field("", description="a style of the training data, e.g. irish, chorale; see GET /v1/model")
    rhythm: Word = Field("", description="a dance, e.g. jig, reel")
    key: Word = Field("", description="tonic and mode, e.g. 'D major', 'E dorian'")
    metre: Word = Field("", description="e.g. 6/8")
    tempo: float | None = Field(None, ge=20, le=400, description="quarters a minute: asked of the model and written into the MIDI file; 120 where it is left out")
    bars: int = Field(8, ge=1, le=MAX_BARS, description="exactly this many")
    instruments: list[Annotated[Word | int, Field(union_mode="left_to_right")]] = Field(default_factory=list, max_length=16, description="one a track: General MIDI names, aliases such as fiddle, or numbers; -1 for drums")
    controls: ControlValues = Field(default_factory=lambda: ControlValues.model_validate({}), description="asked of every track")
    track_controls: list[ControlValues] = Field(default_factory=list, max_length=16, description="asked of each track, in the order of instruments; over `controls`")
    bar_controls: list[BarControl] = Field(default_factory=list, max_length=MAX_CELLS)
    locks: LockValues = Field(default_factory=lambda: LockValues.model_validate({}))
    guidance: float = Field(1.0, ge=0, le=5, description="above 1 the controls are pressed harder (classifier-free guidance), at twice the work")
    seed: int | None = Field(None, ge=0, le=2**31 - 1 - MAX_TAKES, description="same seed and request, same answer; drawn and told where it is left out")
    temperature: float = Field(1.0, ge=0.05, le=3)
    top_p: float = Field(0.98, gt=0, le=1)
    n: int = Field(1, ge=1, le=MAX_TAKES, description="takes; take k has seed + k")

    @model_validator(mode="after")
    def _bounded_work(self) -> "ComposeRequest":
        tracks = len(self.instruments) or (4 if self.style == "chorale" else 1)
        if self.bars * tracks * self.n > 4 * MAX_CELLS:
            raise ValueError(f"bars times tracks times takes are {self.bars * tracks * self.n}; at most {4 * MAX_CELLS} are written at once: ask for fewer")
        if self.bars * tracks > MAX_CELLS:
            raise ValueError(f"{self.bars} bars of {tracks} tracks are {self.bars * tracks} cells; at most {MAX_CELLS} are written at once: ask for fewer bars or tracks")
        return self


class ScoreRequest(_Strict):
    """A score to judge."""

    midi: Annotated[str, StringConstraints(min_length=4, max_length=MAX_SCORE_BASE64)] = Field(description="standard MIDI file, base64")
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
    known: dict[str, list[str]] = Field(description="styles, rhythms, tempo classes, metres, instruments, and the classes of every control")
