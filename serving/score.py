"""/v1/score: how likely a score is, bar by bar, and what it is like."""

from pydantic import BaseModel, Field, model_validator

from models.tokens.labels import Labels
from serving.desk import Desk
from serving.engine import UPLOAD
from serving.schemas import Scorecard, Word
from serving.scores import ScoreSent


class ScoreRequest(ScoreSent):
    """A score to judge."""

    style: Word = Field("", description="judge it as this style; empty: as itself")
    rhythm: Word = ""
    key: Word = ""

    @model_validator(mode="after")
    def _one_score(self) -> "ScoreRequest":
        if not self.sent():
            raise ValueError("give a score: as midi, or as score in any format")
        return self


class ScoreAnswer(BaseModel):
    request_id: str
    model: str
    seed: int = Field(0, description="scoring draws nothing: always 0")
    bars: int
    notes: int
    surprise_per_bar: list[float] = Field(description="nats of each bar")
    scorecard: Scorecard
    warnings: list[str] = Field(description="what the model has no token for, and how it was read")


def score(desk: Desk, request: ScoreRequest) -> ScoreAnswer:
    """Say how likely a score is, bar by bar, and describe it."""
    labels = {"style": request.style, "rhythm": request.rhythm, "key": request.key}
    with desk.exchange("score", {**labels, **request.told()}) as exchange:
        judged, warnings = desk.engine.score(
            request.reading(UPLOAD).score, Labels(request.style, request.rhythm, request.key), request.sent()
        )
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
        warnings=warnings,
    )
