"""The OpenAPI document says what the service does: its examples run, and what schemathesis makes of it is
answered as it says."""

import base64
import warnings
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from models.bundle import open_bundle
from serving.routes import PAGES, ROUTES, WATCHED
from tests.server import Server

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.specs.openapi.checks import positive_data_acceptance

# the schema does not know which styles, dances and metres a model has: what it lets pass may be a 422
NOT_CHECKED = [positive_data_acceptance]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("served")]


@pytest.mark.parametrize("path", [path for path, route in ROUTES.items() if not route.ours])
def test_every_example_is_answered(server: Server, tiny_line: Any, path: str) -> None:
    told = server.ask("/docs.json")[1]["paths"][path]
    (method,) = told
    body = None
    if method == "post":
        body = told[method]["requestBody"]["content"]["application/json"]["example"]
        if path == "/v1/feedback":
            body = {**body, "item": open_bundle(tiny_line / "bundle").catalogue.items[0].id}
    status, answer = server.ask(path, body)
    assert status == 200, answer
    ROUTES[path].answer.model_validate(answer)


def test_the_document_has_every_path_and_each_is_there(server: Server) -> None:
    paths = server.ask("/docs.json")[1]["paths"]
    assert set(paths) == set(ROUTES) | set(PAGES) | set(WATCHED)
    for path in (*PAGES, *WATCHED):
        assert server.ask(path)[0] == 200, path


def test_generated_requests_are_answered_as_the_document_says(server: Server) -> None:
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/docs.json")
    tried = set()
    for found in schema.get_all_operations():
        operation = found.ok()
        tried.add(operation.path)

        @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate(timeout=70, excluded_checks=NOT_CHECKED)

        check()
    assert tried | {"/docs.json"} == set(ROUTES) | set(PAGES) | set(WATCHED)
    assert 'status="5xx"' not in server.ask("/metrics")[1]


@pytest.mark.parametrize(
    "junk", [b"", b"MThd", b"PK\x03\x04", b"<score-partwise/>", b"X:1\nK:C\n", b"**kern\n*-\n"]
)
@pytest.mark.parametrize("path", ["/v1/edit", "/v1/score", "/v1/similar"])
def test_junk_of_every_format_is_a_422(server: Server, path: str, junk: bytes) -> None:
    body: dict[str, Any] = {"score": {"data": base64.b64encode(junk + b"\0" * 4).decode()}}
    status, answer = server.ask(path, body | ({"operation": "retrograde"} if path == "/v1/edit" else {}))
    assert (status, answer["error"]["field"]) == (422, "score")
