"""/v1/score: how likely a score is, bar by bar, and what it is like."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from models.tokens.labels import Labels
from serving.desk import Desk
from serving.schemas import MAX_SCORE_BASE64, Scorecard, Strict, Word


class ScoreRequest(Strict):
    """A score to judge."""

    midi: Annotated[str, StringConstraints(min_length=4, max_length=MAX_SCORE_BASE64)] = Field(
        description="standard MIDI file, base64"
    )
    style: Word = Field("", description="judge it as this style; empty: as itself")
    rhythm: Word = ""
    key: Word = ""


class ScoreAnswer(BaseModel):
    request_id: str
    model: str
    seed: int = Field(0, description="scoring draws nothing: always 0")
    bars: int
    notes: int
    surprise_per_bar: list[float] = Field(description="nats of each bar")
    scorecard: Scorecard


def score(desk: Desk, request: ScoreRequest) -> ScoreAnswer:
    """Say how likely a score is, bar by bar, and describe it."""
    labels = {"style": request.style, "rhythm": request.rhythm, "key": request.key}
    with desk.exchange("score", {**labels, "midi_bytes": len(request.midi) * 3 // 4}) as exchange:
        judged = desk.engine.score(request.midi, Labels(request.style, request.rhythm, request.key))
        card = Scorecard(**judged.scorecard)
        told = {"bars": judged.bars, "notes": judged.notes, "percentile": card.percentile}
        exchange.answer(told, side="input", card=judged)
    return ScoreAnswer(
        request_id=exchange.request_id,
        model=desk.model,
        seed=0,
        bars=judged.bars,
        notes=judged.notes,
        surprise_per_bar=judged.surprise_per_bar,
        scorecard=card,
    )
