"""A client of the service: `Client("http://127.0.0.1:3000", key).compose(rhythm="jig").takes[0].midi`.

Answers are the service's own schemas. A service that is busy or away is asked again, after as long as it says
or a little longer each time; a request that writes or stores is only asked again where the service says that
it did nothing (429, 503), or where an idempotency key makes that safe.
"""

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel

from serving.about import ModelAnswer
from serving.compose import ComposeAnswer
from serving.edit import EditAnswer
from serving.feedback import FeedbackAnswer
from serving.find import RecommendAnswer, SimilarAnswer
from serving.jobs import EndAnswer, JobAnswer
from serving.pair import PairAnswer, WinsAnswer
from serving.score import ScoreAnswer

A = TypeVar("A", bound=BaseModel)
LONGEST_WAIT_S = 60.0  # that a service may ask for before it is asked again


class ServiceError(RuntimeError):
    """What the service said no to: its status, code, message and field (docs/api.md)."""

    def __init__(self, status: int, code: str, message: str, field: str = "") -> None:
        super().__init__(f"{status} {code}: {message}" + (f" ({field})" if field else ""))
        self.status, self.code, self.message, self.field = status, code, message, field


@dataclass(frozen=True)
class Heard:
    """An event of an answer that is being written: `bar` with its draft, number and notes."""

    event: str
    data: dict[str, Any]


class Client:
    """One service. tries: of each request; timeout: seconds that an answer may take."""

    def __init__(self, url: str, key: str = "", tries: int = 4, timeout: float = 75.0) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout)
        self._tries = tries

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def compose(self, **asked: Any) -> ComposeAnswer:
        """Write music; arguments as docs/api.md has them for each path. Raises ServiceError, as all do."""
        return self._ask("POST", "/v1/compose", ComposeAnswer, asked)

    def edit(self, **asked: Any) -> EditAnswer:
        return self._ask("POST", "/v1/edit", EditAnswer, asked)

    def score(self, **asked: Any) -> ScoreAnswer:
        return self._ask("POST", "/v1/score", ScoreAnswer, asked, safe=True)

    def similar(self, **asked: Any) -> SimilarAnswer:
        return self._ask("POST", "/v1/similar", SimilarAnswer, asked, safe=True)

    def recommend(self, **asked: Any) -> RecommendAnswer:
        return self._ask("POST", "/v1/recommend", RecommendAnswer, asked, safe=not asked.get("compose"))

    def feedback(self, **asked: Any) -> FeedbackAnswer:
        return self._ask("POST", "/v1/feedback", FeedbackAnswer, asked, safe=bool(asked.get("key")))

    def pair(self, **asked: Any) -> PairAnswer:
        return self._ask("POST", "/v1/pair", PairAnswer, asked)

    def wins(self) -> WinsAnswer:
        return self._ask("GET", "/v1/wins", WinsAnswer, safe=True)

    def model(self) -> ModelAnswer:
        return self._ask("GET", "/v1/model", ModelAnswer, safe=True)

    def composing(self, **asked: Any) -> Iterator[Heard | ComposeAnswer]:
        """The bars as they are written, then the answer. Who stops listening ends the work."""
        yield from self._listen("/v1/compose", ComposeAnswer, asked)

    def editing(self, **asked: Any) -> Iterator[Heard | EditAnswer]:
        yield from self._listen("/v1/edit", EditAnswer, asked)

    def later(self, path: str, **asked: Any) -> JobAnswer:
        """Have a request (of /v1/compose, /v1/edit or /v1/pair) done as a job."""
        return self._ask("POST", path, JobAnswer, asked, headers={"prefer": "respond-async"})

    def job(self, job_id: str, wait_s: float = 0.0) -> JobAnswer:
        """What became of a job, which is waited for so long."""
        until = time.monotonic() + wait_s
        while True:
            found = self._ask("GET", f"/v1/jobs/{job_id}", JobAnswer, safe=True)
            if found.state != "waiting" or time.monotonic() >= until:
                return found
            time.sleep(0.3)

    def end(self, request_id: str) -> EndAnswer:
        """End a request or job."""
        return self._ask("DELETE", f"/v1/requests/{request_id}", EndAnswer)

    def _ask(
        self,
        method: str,
        path: str,
        answer: type[A],
        body: Mapping[str, Any] | None = None,
        safe: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> A:
        def ask() -> httpx.Response:
            return self._http.request(method, path, json=body, headers=headers)

        return answer.model_validate_json(self._patiently(ask, safe).content)

    def _patiently(self, ask: Callable[[], httpx.Response], safe: bool) -> httpx.Response:
        """Ask until there is an answer. safe: to ask again where nobody knows whether it was done."""
        for n in range(self._tries):
            last = n + 1 == self._tries
            try:
                response = ask()
            except (httpx.ConnectError, httpx.ConnectTimeout):  # it was never sent
                if last:
                    raise
                wait = 0.0
            except httpx.TransportError:
                if last or not safe:
                    raise
                wait = 0.0
            else:
                if response.is_success:
                    return response
                wait = float(response.headers.get("retry-after", 0))
                again = response.status_code in (429, 503) or (safe and response.status_code == 504)
                if last or not again or wait > LONGEST_WAIT_S:
                    raise error_in(response.status_code, response.content)
            time.sleep(max(wait, 0.2 * 2**n) * (1 + 0.2 * random.random()))  # not all at the same moment
        raise AssertionError("a client tries at least once")

    def _listen(self, path: str, answer: type[A], body: Mapping[str, Any]) -> Iterator[Heard | A]:
        with self._http.stream("POST", path, json=body, headers={"accept": "text/event-stream"}) as response:
            if not response.is_success:
                raise error_in(response.status_code, response.read())
            event = ""
            for line in response.iter_lines():
                name, _, value = line.partition(": ")
                if name == "event":
                    event = value
                elif name == "data" and event == "done":
                    yield answer.model_validate_json(value)
                    return
                elif name == "data" and event == "error":
                    raise error_in(json.loads(value)["status"], value.encode())
                elif name == "data":
                    yield Heard(event, json.loads(value))
        raise ServiceError(0, "cut", "the answer ended before it was whole: ask again")


def error_in(status: int, body: bytes) -> ServiceError:
    """The error of an answer; one that is not in our shape (a proxy's) is told as text."""
    try:
        told = json.loads(body)["error"]
        return ServiceError(status, told["code"], told["message"], told.get("field", ""))
    except (ValueError, KeyError, TypeError):
        return ServiceError(status, "other", body.decode(errors="replace")[:500])


def main() -> None:
    """`python -m serving.client URL compose < request.json`: the answer as JSON, or the error and exit 1; the
    key in OSTINATO_KEY."""
    url, name = sys.argv[1:]
    asked = json.loads(sys.stdin.read())
    paths = {"compose", "edit", "score", "similar", "recommend", "feedback", "pair"}
    try:
        with Client(url, os.environ.get("OSTINATO_KEY", "")) as client:
            if name not in paths:
                raise ServiceError(0, "unknown", f"there is no {name!r}: {', '.join(sorted(paths))}")
            print(getattr(client, name)(**asked).model_dump_json())
    except ServiceError as error:
        sys.exit(json.dumps({"status": error.status, "code": error.code, "message": error.message}))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        sys.exit(json.dumps({"status": 0, "code": "away", "message": str(error)}))


if __name__ == "__main__":
    main()
