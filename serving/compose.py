"""/v1/compose: write music under controls."""

import base64
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints, model_validator
from symusic import Score

from models.fill.compose import TEMPERATURE, BarAsk, Composition, sounding_as
from models.fill.request import ContractBroken
from monitoring import metrics
from music.analysis.chords import lead_sheet
from music.writing.dynamics import Dynamics
from music.writing.files import chords_heard
from serving.desk import Desk
from serving.engine import Engine, locks_of
from serving.schemas import (
    CHORDS_ASKED,
    CHORDS_NAMED,
    MAX_BARS,
    MAX_CELLS,
    MAX_DRAFTS,
    MAX_TAKES,
    Chords,
    ControlValues,
    LockValues,
    Scorecard,
    Strict,
    Word,
)
from serving.scores import FORMAT, Format, HandedOut, ScoreFile, score_file


class BarControl(Strict):
    """Density or polyphony of one bar of one track, both counted from 1."""

    bar: int = Field(ge=1)
    track: int = Field(1, ge=1)
    density: float | None = Field(None, ge=0, le=48)
    polyphony: float | None = Field(None, ge=0, le=64)


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
    format: Format = Field("midi", description=FORMAT)
    form: Annotated[str, StringConstraints(max_length=400)] = Field(
        "",
        description=(
            "sections, e.g. AABB or A:8 B:8 A:4 (bars): a letter that was there comes back note for note, "
            "with ' varied; `free`: none. Left out, a tune of 16 bars or more is told one that real tunes of "
            "its style, dance and length had"
        ),
    )
    chords: Chords = Field("", description=CHORDS_ASKED)
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
    temperature: float = Field(TEMPERATURE, ge=0.05, le=3)
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

    revise: bool = Field(
        True,
        description=(
            "chorales of which no chords, form or controls are asked: the lower voices are written again on "
            "the chords that several takes agree on, which takes some seconds"
        ),
    )

    dynamics: Dynamics = Field(
        "plain",
        description=(
            "plain: beats and phrases are heard in how loud the notes are (music/writing/dynamics.py); off: "
            "all are equally loud"
        ),
    )

    def _tracks(self) -> int:
        return len(self.instruments) or (4 if self.style == "chorale" else 1)

    def cells(self) -> int:
        return self.bars * self._tracks() * self.n * self.best_of

    @model_validator(mode="after")
    def _bounded_work(self) -> "ComposeRequest":
        tracks = self._tracks()
        if self.n * self.best_of > MAX_DRAFTS:
            raise ValueError(
                f"takes times drafts are {self.n * self.best_of}; at most {MAX_DRAFTS} are "
                f"written at once: ask for fewer takes, or a lower best_of"
            )
        if self.cells() > 4 * MAX_CELLS:
            raise ValueError(
                f"bars times tracks times takes times drafts are {self.cells()}; at most {4 * MAX_CELLS} are "
                f"written at once: ask for fewer"
            )
        if self.bars * tracks > MAX_CELLS:
            raise ValueError(
                f"{self.bars} bars of {tracks} tracks are {self.bars * tracks} cells; at most "
                f"{MAX_CELLS} are written at once: ask for fewer bars or tracks"
            )
        return self


class TakeAnswer(HandedOut):
    bars: int
    notes: int
    tokens: int
    form: str = Field(description='the form it was told, asked or drawn, with bars; "": none')
    chords: str = Field(description=CHORDS_NAMED)
    warnings: list[str] = Field(default_factory=list)
    scorecard: Scorecard


class ComposeAnswer(BaseModel):
    request_id: str
    model: str
    seed: int
    takes: list[TakeAnswer]

    def files(self) -> list[TakeAnswer]:
        return self.takes


def compose(desk: Desk, request: ComposeRequest) -> ComposeAnswer:
    """Write music under controls."""
    seed = desk.seed_of(request.seed, MAX_TAKES)
    with desk.exchange("compose", request.model_dump(), seed) as exchange:
        try:
            asked = composition(desk.engine, request, seed)
            takes, judged = desk.engine.compose(asked, request.revise, request.dynamics)
        except ContractBroken:  # what came out is not what was asked: must never happen
            metrics.TAKES.labels("false", desk.model).inc()
            raise
        _, warnings = sounding_as(desk.engine.tokenizer, asked)
        tokens = sum(take.tokens for take in takes)
        metrics.TOKENS.labels(desk.model).inc(tokens)
        metrics.TOKENS_PER_SECOND.labels(desk.model).observe(tokens / exchange.seconds)
        metrics.TAKES.labels("true", desk.model).inc(len(takes))
        answers: list[TakeAnswer] = []
        for take, card in zip(takes, judged, strict=True):
            metrics.NOTES.labels(desk.model).inc(card.notes)
            answer = TakeAnswer(
                id=exchange.next_id(),
                midi=base64.b64encode(take.midi).decode(),
                score=notation(take.score, request),
                seed=take.seed,
                bars=card.bars,
                notes=card.notes,
                tokens=take.tokens,
                form=take.form,
                chords=lead_sheet(take.score, request.key),
                warnings=warnings,
                scorecard=Scorecard(**card.scorecard),
            )
            answers.append(answer)
            row = answer.model_dump(exclude={"score"})
            exchange.answer(row, side="output", card=card, seed=take.seed, answer_id=answer.id)
    return ComposeAnswer(request_id=exchange.request_id, model=desk.model, seed=seed, takes=answers)


def notation(score: Score, request: ComposeRequest) -> ScoreFile | None:
    """A take in the format asked for, titled after what was asked, its chords named above the notes."""
    to, key = request.format, request.key
    what = (request.rhythm or request.style).replace("_", " ").capitalize()
    title = f"{what} in {key}" if what and key else what
    return score_file(score, to, key, () if to == "midi" else chords_heard(score, key), title)


def composition(engine: Engine, request: ComposeRequest, seed: int) -> Composition:
    """A request of the service as the model takes it. Raises Refused for a scale that is none."""
    body = request.model_dump(
        exclude={
            "controls",
            "track_controls",
            "bar_controls",
            "locks",
            "seed",
            "revise",
            "format",
            "dynamics",
        }
    )
    return Composition(
        **body,
        controls=request.controls.given(),
        track_controls=[values.given() for values in request.track_controls],
        seed=seed,
        bar_controls=[BarAsk(**ask.model_dump()) for ask in request.bar_controls],
        locks=locks_of(request.locks, engine.tokenizer),
    )
