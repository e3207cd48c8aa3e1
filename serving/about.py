"""/v1/model: which model answers, what it was trained on, what it may be used for."""

import uuid
from typing import Any

from pydantic import BaseModel, Field

from serving.desk import Desk


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


def about(desk: Desk) -> ModelAnswer:
    """Which model answers, what it was trained on, what it may be used for."""
    origin = desk.bundle.lineage
    shown = {name: value for name, value in desk.bundle.evaluation["metrics"].items() if name != "overlap"}
    return ModelAnswer(
        request_id=uuid.uuid4().hex,
        model=desk.bundle.digest,
        version=desk.version,
        licence=origin["licence"],
        lineage=origin,
        metrics=shown,
        known=desk.engine.known(),
    )
