"""/v1/feedback: one event of a listener, on disk before it is answered."""

import uuid
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from models.find.interactions import RATINGS
from monitoring import metrics
from monitoring.rows import Row
from monitoring.wins import COMPARED
from serving.desk import Desk
from serving.errors import Refused
from serving.find import Id, Opaque
from serving.in_flight import current
from serving.schemas import Strict


class FeedbackRequest(Strict):
    """One event of one listener."""

    user: Opaque = Field(description="an opaque id; nothing that names a person")
    item: Id = Field(description="an item of the catalogue, or the id of an answer")
    event: Literal["like", "dislike", "rating", "play", "skip", "accepted", "undone", "prefer", "tie"]
    over: Annotated[str, StringConstraints(max_length=300)] = Field(
        "", description="prefer, tie: the id of the other take"
    )
    value: float | None = Field(None, description="of a rating, 1 to 5")
    key: Annotated[str, StringConstraints(max_length=100)] = Field(
        "", description="idempotency key: the same key of the same user counts once"
    )

    @model_validator(mode="after")
    def _its_own_fields(self) -> "FeedbackRequest":
        if (self.event == "rating") != (self.value is not None):
            raise ValueError("a rating has a value from 1 to 5; other events have none")
        if (self.event in ("prefer", "tie")) != bool(self.over):
            raise ValueError("prefer and tie name the other take in `over`; other events have none")
        if self.value is not None and not RATINGS[0] <= self.value <= RATINGS[1]:
            raise ValueError(f"a rating is from {RATINGS[0]:g} to {RATINGS[1]:g}")
        return self


class FeedbackAnswer(Strict):
    request_id: str
    model: str
    seed: int = 0
    stored: bool = Field(description="False where an event with this key was there already")


def check_item(desk: Desk, request: FeedbackRequest) -> None:
    """Raises Refused for feedback on what is neither an item nor an answer, and for a comparison of what was
    not offered as a pair."""
    if request.event in COMPARED:
        both = [desk.answer_of(name) for name in (request.item, request.over)]
        for name, row, field in zip((request.item, request.over), both, ("item", "over"), strict=True):
            if row is None:
                raise Refused(
                    f"no answer {name!r} is in the log: compare two takes of one answer, by their ids", field
                )
        if (
            both[0] is not None
            and both[1] is not None
            and (both[0].request_id != both[1].request_id or both[0].id == both[1].id)
        ):
            raise Refused(
                "item and over are to be two takes of one answer (POST /v1/pair, or /v1/compose with n)",
                "over",
            )
        return
    desk.finder.refresh()
    desk.check_owned([request.item], "item")
    if desk.finder.unknown([request.item]):
        raise Refused(
            f"no item or answer {request.item!r}: it was never there, was removed, or its music is not kept",
            "item",
        )


def feedback(desk: Desk, request: FeedbackRequest) -> FeedbackAnswer:
    """Store one event of a listener; it is on disk before this answers."""
    request_id = uuid.uuid4().hex
    check_item(desk, request)
    user = current().listener(request.user)
    with desk.log.alone():  # so that two of one key cannot both be the first, in whichever workers
        listener = desk.finder.listeners.of(user)
        stored = not (request.key and listener is not None and request.key in listener.keys)
        if stored:
            body = {**request.model_dump(exclude_none=True), "user": user}
            desk.append(Row("feedback", "feedback", request_id, desk.model, body=body))
    metrics.FEEDBACK.labels(request.event if stored else "duplicate", desk.model).inc()
    return FeedbackAnswer(request_id=request_id, model=desk.model, stored=stored)
