"""Requests and answers of the service. Every number has bounds; NaN and infinity are refused; unknown fields are errors."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MAX_BARS, MAX_TAKES, MAX_SCORE_BASE64 = 64, 8, 2_800_000  # 2 MB of MIDI
MAX_CELLS = 256  # bars times tracks of one take: about 15 s on two cores, well inside the service's timeout
Word = Annotated[str, StringConstraints(max_length=64)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ComposeRequest(_Strict):
    """What to write; everything left out is left to the model."""

    style: Word = Field("", description="a style of the training data, e.g. irish, chorale; see GET /v1/model")
    rhythm: Word = Field("", description="a dance, e.g. jig, reel")
    key: Word = Field("", description="tonic and mode, e.g. 'D major', 'E dorian'")
    metre: Word = Field("", description="e.g. 6/8")
    tempo: float = Field(120.0, ge=20, le=400, description="quarters a minute, written into the MIDI file")
    bars: int = Field(8, ge=1, le=MAX_BARS, description="exactly this many")
    instruments: list[Annotated[Word | int, Field(union_mode="left_to_right")]] = Field(default_factory=list, max_length=16, description="one a track: General MIDI names, aliases such as fiddle, or numbers; -1 for drums")
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
    known: dict[str, list[str]] = Field(description="styles, rhythms, metres and instruments it can be asked for")
