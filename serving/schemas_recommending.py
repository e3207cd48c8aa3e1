"""Requests and answers of /v1/similar, /v1/recommend and /v1/feedback."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from models.find.interactions import EVENTS, EXPLICIT, RATINGS
from serving.schemas import MAX_SCORE_BASE64, Scorecard, Strict, Word

MAX_LIKES, MAX_FOUND = 10_000, 100
Opaque = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")
]  # no @: an id, never an address
Id = Annotated[str, StringConstraints(min_length=1, max_length=300)]


class FilterValues(Strict):
    """What an answer must be."""

    labels: dict[Word, Annotated[list[Word], Field(min_length=1, max_length=40)]] = Field(
        default_factory=dict,
        max_length=8,
        description="e.g. {'style': ['irish'], 'mode': ['minor', 'dorian']}",
    )
    ranges: dict[Word, tuple[float, float]] = Field(
        default_factory=dict,
        max_length=12,
        description="descriptors, e.g. {'note_density': [1, 2]}, both ends included",
    )


class SimilarRequest(Strict):
    """A score or an item to find the like of."""

    midi: Annotated[str, StringConstraints(max_length=MAX_SCORE_BASE64)] = Field(
        "", description="base64 MIDI"
    )
    id: Id | None = Field(None, description="an item of the catalogue, or the id of an answer in the log")
    bars: tuple[int, int] | None = Field(
        None, description="first and last bar of the passage to compare, counted from 1; left out: all"
    )
    k: int = Field(10, ge=1, le=MAX_FOUND)
    filters: FilterValues = Field(default_factory=FilterValues)
    with_midi: bool = Field(False, description="send each item's score too")

    @model_validator(mode="after")
    def _one_query(self) -> "SimilarRequest":
        if bool(self.midi) == bool(self.id):
            raise ValueError("give one of midi and id")
        if self.bars and not 1 <= self.bars[0] <= self.bars[1]:
            raise ValueError(
                f"bars {self.bars[0]} to {self.bars[1]}: count from 1, the first not after the last"
            )
        return self


class RecommendRequest(Strict):
    """Whose taste: a user of the log, lists of items, or both; neither is a new listener."""

    user: Opaque | None = Field(None, description="an opaque id as it was sent with feedback")
    likes: list[Id] = Field(
        default_factory=list, max_length=MAX_LIKES, description="items, or ids of answers"
    )
    dislikes: list[Id] = Field(default_factory=list, max_length=MAX_LIKES)
    k: int = Field(10, ge=1, le=MAX_FOUND)
    diversity: float = Field(
        0.2,
        ge=0,
        le=1,
        description="0: by score alone, 1: by unlikeness to what is already in the list alone",
    )
    exploration: float = Field(
        0.0, ge=0, le=1, description="share of places given to items further down the list"
    )
    repeat: bool = Field(False, description="also items the listener has met; disliked ones never")
    seed: int = Field(0, ge=0, le=2**31 - 1)
    filters: FilterValues = Field(default_factory=FilterValues)
    with_midi: bool = False
    compose: bool = Field(False, description="also pieces that the model writes for this taste")
    takes: int = Field(2, ge=1, le=4, description="pieces to write")


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


class ItemAnswer(Strict):
    """One piece of the catalogue."""

    id: str
    style: str
    rhythm: str
    metre: str
    key: str
    composer: str
    collection: str
    licence: str
    bars: int
    notes: int
    descriptors: dict[str, float]
    midi: str = Field("", description="base64, where it was asked for")


class MatchAnswer(Strict):
    query_bars: tuple[int, int]
    bars: tuple[int, int]
    likeness: float = Field(description="cosine of the two passages")


class WhyAnswer(Strict):
    same: list[str]
    alike: list[str]
    different: list[str]
    text: str


class SimilarHit(Strict):
    item: ItemAnswer
    likeness: float = Field(description="mean of the cosine of the wholes and of the nearest passages")
    matches: list[MatchAnswer]
    why: WhyAnswer


class SimilarAnswer(Strict):
    request_id: str
    model: str
    seed: int = 0
    found: list[SimilarHit]
    searched: int = Field(description="items that passed the filters")


class RecommendedItem(Strict):
    item: ItemAnswer
    score: float
    spoke: dict[str, float] = Field(description="which parts lifted it above the mean item, as shares")
    like: str = Field(description="the liked item that is nearest to it, if any")
    why: WhyAnswer | None


class ComposedForYou(Strict):
    id: str
    midi: str
    seed: int
    score: float
    asked: dict[str, str | float]
    scorecard: Scorecard


class RecommendAnswer(Strict):
    request_id: str
    model: str
    seed: int
    origin: str = Field(description="whom the collaborative part learned from: listeners, or simulated")
    likes: int
    dislikes: int
    found: list[RecommendedItem]
    composed: list[ComposedForYou]
    warnings: list[str]


class FeedbackAnswer(Strict):
    request_id: str
    model: str
    seed: int = 0
    stored: bool = Field(description="False where an event with this key was there already")


assert set(EXPLICIT) < set(EVENTS)
