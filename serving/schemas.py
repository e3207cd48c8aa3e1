"""Requests and answers of the service. Every number has bounds; NaN and infinity are refused; unknown fields
are errors."""

from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAX_BARS, MAX_TAKES, MAX_DRAFTS, MAX_SCORE_BASE64 = 256, 8, 32, 2_800_000  # 2 MB of MIDI
MAX_CELLS = 256  # bars times tracks of one take: about 15 s on two cores, well inside the service's timeout
Word = Annotated[str, StringConstraints(max_length=64)]
Chords = Annotated[str, StringConstraints(max_length=8000)]
CHORDS_ASKED = (
    "e.g. 'Dm7 | G7 | C F | C': bars set off by |, the chords of a bar share it evenly, ? or an empty bar "
    "is left "
    "open, % is the bar before again, N.C. is no chord"
)
CHORDS_NAMED = "of the answer, bar by bar, in the same writing (music/analysis/chords.py)"


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


@runtime_checkable
class Costly(Protocol):
    """A request that is paid for in cells (bars times tracks) that the model writes."""

    def cells(self) -> int: ...


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


class LockValues(Strict):
    """Hard constraints: what is written keeps to them, whatever the model would like."""

    scale: Word | Annotated[list[Annotated[int, Field(ge=0, le=11)]], Field(max_length=12)] = Field(
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


class Scorecard(BaseModel):
    """How the model and the descriptors see a piece."""

    nats_per_note: float
    percentile: float = Field(description="share of reference pieces that surprise the model less, 0-100")
    descriptors: dict[str, float]
    asked: dict[str, Any] = Field(default_factory=dict)
    obeyed: dict[str, bool] = Field(default_factory=dict)
    originality: dict[str, Any] = Field(default_factory=dict)
