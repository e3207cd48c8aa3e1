"""The route table: every path of the service once. The middleware checks and counts by it, the front page and
the documentation list it, and the service has a method for each."""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from monitoring.keys import Scope
from serving.about import ModelAnswer
from serving.compose import ComposeAnswer, ComposeRequest
from serving.edit import EditAnswer, EditRequest
from serving.feedback import FeedbackAnswer, FeedbackRequest
from serving.find import RecommendAnswer, RecommendRequest, SimilarAnswer, SimilarRequest
from serving.jobs import EndAnswer, JobAnswer
from serving.pair import PairAnswer, PairRequest, WinsAnswer
from serving.score import ScoreAnswer, ScoreRequest

ID = "{id}"  # at the end of a path: of a request
TUNE = "X:1\nM:6/8\nL:1/8\nK:G\nGAB BAG|ABA AGE|GAB BAG|ABA G3|\n"


@dataclass(frozen=True)
class Route:
    """A path of ours. body: schema of what is sent, None where nothing is; example: of it; scope: that a key
    needs; writes: music, so that it can be streamed, and asked for as a job; gives_files: a score alone too,
    by `Accept`; verb: "" for POST where there is a body and GET where there is none."""

    path: str
    does: str
    answer: type[BaseModel]
    body: type[BaseModel] | None = None
    example: dict[str, Any] | None = None
    scope: Scope = "read"
    writes: bool = False
    gives_files: bool = False
    verb: str = ""

    @property
    def name(self) -> str:
        """What it is called in the log and as the label `endpoint`."""
        return self.path.removeprefix("/v1/").partition("/")[0]

    @property
    def method(self) -> str:
        return self.verb or ("POST" if self.body else "GET")

    @property
    def ours(self) -> bool:
        """Answered by the middleware: about requests, not by a model."""
        return self.path.endswith(ID)


ROUTES = {
    route.path: route
    for route in (
        Route(
            "/v1/compose",
            "write music under controls",
            ComposeAnswer,
            ComposeRequest,
            {"rhythm": "jig", "key": "D major", "metre": "6/8", "bars": 8, "seed": 1},
            scope="compose",
            writes=True,
            gives_files=True,
        ),
        Route(
            "/v1/edit",
            "change a part of a score, and prove that nothing else changed",
            EditAnswer,
            EditRequest,
            {"score": {"data": TUNE}, "operation": "infill", "bars": [2, 3], "seed": 1},
            scope="compose",
            writes=True,
            gives_files=True,
        ),
        Route(
            "/v1/score",
            "how likely a score is, bar by bar, and what it is like",
            ScoreAnswer,
            ScoreRequest,
            {"score": {"data": TUNE}},
        ),
        Route(
            "/v1/similar",
            "pieces like a score or an item, and why",
            SimilarAnswer,
            SimilarRequest,
            {"score": {"data": TUNE}, "k": 3},
        ),
        Route("/v1/recommend", "pieces for a taste", RecommendAnswer, RecommendRequest, {"k": 3}),
        Route(
            "/v1/feedback",
            "what a listener did or thinks",
            FeedbackAnswer,
            FeedbackRequest,
            {"user": "listener-1", "item": "an id of an item or answer", "event": "like"},
            scope="feedback",
        ),
        Route(
            "/v1/pair",
            "two takes of one prompt in a blind order",
            PairAnswer,
            PairRequest,
            {"seed": 1},
            scope="compose",
            writes=True,
        ),
        Route("/v1/wins", "which model people preferred", WinsAnswer),
        Route("/v1/model", "which model answers, and what it may be used for", ModelAnswer),
        Route(
            "/v1/requests/{id}", "end a request that is at work", EndAnswer, scope="compose", verb="DELETE"
        ),
        Route("/v1/jobs/{id}", "what became of a job", JobAnswer, scope="compose"),
    )
}
PAGES = {"/": "this page", "/docs.json": "OpenAPI"}
WATCHED = {"/metrics": "Prometheus", "/livez": "alive", "/readyz": "ready", "/healthz": "alive"}


def route_of(path: str) -> tuple[Route | None, str]:
    """The route of a path, and the id in it where it has one."""
    if path in ROUTES:
        return (None, "") if path.endswith(ID) else (ROUTES[path], "")
    before, _, last = path.rpartition("/")
    found = ROUTES.get(f"{before}/{ID}")
    return (found, last) if found and re.fullmatch(r"[0-9a-f]{32}", last) else (None, "")
