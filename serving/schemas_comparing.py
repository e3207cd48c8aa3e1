"""Requests and answers of /v1/pair and /v1/wins."""

from pydantic import Field

from serving.schemas import ComposeRequest, Strict


class PairRequest(ComposeRequest):
    """A prompt as for /v1/compose; `n` is not read. What is left out entirely is drawn from what the model
    knows."""


class PairTake(Strict):
    id: str = Field(description="to be named in feedback")
    midi: str = Field(description="base64")
    bars: int
    notes: int


class PairAnswer(Strict):
    """Two takes of one prompt in a blind order: from two models where the service has a rival, else from two
    seeds of one."""

    request_id: str
    model: str = Field(description="the champion; which take is its is not told")
    seed: int
    asked: dict[str, str | int]
    takes: tuple[PairTake, PairTake]


class DuelAnswer(Strict):
    model: str
    rival: str
    won: int
    lost: int
    tied: int
    rate: float = Field(description="share won by `model`, a tie half")
    low: float = Field(description="of the 95 % interval of the rate")
    high: float


class WinsAnswer(Strict):
    request_id: str
    model: str
    seed: int = 0
    duels: list[DuelAnswer]
