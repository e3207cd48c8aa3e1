"""The route table: every path of the service once. The middleware checks and counts by it, the front page and
the documentation list it, and the service has a method for each."""

from dataclasses import dataclass

from pydantic import BaseModel

from serving.compose import ComposeRequest
from serving.edit import EditRequest
from serving.feedback import FeedbackRequest
from serving.find import RecommendRequest, SimilarRequest
from serving.pair import PairRequest
from serving.score import ScoreRequest


@dataclass(frozen=True)
class Route:
    """A path of ours. body: schema of what is sent, None where nothing is."""

    path: str
    does: str
    body: type[BaseModel] | None = None

    @property
    def name(self) -> str:
        """What it is called in the log and as the label `endpoint`."""
        return self.path.removeprefix("/v1/")

    @property
    def method(self) -> str:
        return "POST" if self.body else "GET"


ROUTES = {
    route.path: route
    for route in (
        Route("/v1/compose", "write music under controls", ComposeRequest),
        Route("/v1/edit", "change a part of a score, and prove that nothing else changed", EditRequest),
        Route("/v1/score", "how likely a score is, bar by bar, and what it is like", ScoreRequest),
        Route("/v1/similar", "pieces like a score or an item, and why", SimilarRequest),
        Route("/v1/recommend", "pieces for a taste", RecommendRequest),
        Route("/v1/feedback", "what a listener did or thinks", FeedbackRequest),
        Route("/v1/pair", "two takes of one prompt in a blind order", PairRequest),
        Route("/v1/wins", "which model people preferred"),
        Route("/v1/model", "which model answers, and what it may be used for"),
    )
}
PAGES = {"/": "this page", "/docs.json": "OpenAPI", "/schema.json": "schemas as BentoML has them"}
WATCHED = {"/metrics": "Prometheus", "/livez": "alive", "/readyz": "ready", "/healthz": "alive"}
