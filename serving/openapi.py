"""The OpenAPI document of the service, from the route table: what is asked, what is answered, every error."""

from functools import cache
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from serving.errors import CODES
from serving.jobs import JobAnswer
from serving.routes import PAGES, ROUTES, WATCHED, Route
from serving.scores import SERVED
from serving.streaming import MEDIA

ANY, ASKED = (401, 403, 404, 405, 429, 500, 503), (504,)  # of every path; of those that BentoML answers
SENT = (400, 408, 413, 415, 422)  # of those that a body is sent to
STREAMED = "events: begin, a bar for each as it is written, then done (the answer) or error"
ACCEPTED: dict[str, Any] = {"name": "Accept", "in": "header", "required": False}
PREFERRED: dict[str, Any] = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "respond-async: keep it as a job",
    "schema": {"type": "string", "enum": ["respond-async"]},
}
BY_ID: dict[str, Any] = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}
AGAIN = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}


class ErrorTold(BaseModel):
    code: str = Field(description=", ".join([*CODES.values(), "internal"]))
    message: str = Field(description="what is wrong, and what can be done")
    field: str = Field("", description="where in the request, if at one place")


class Error(BaseModel):
    """The one shape of an error."""

    error: ErrorTold


@cache
def document(version: str) -> dict[str, Any]:
    """OpenAPI 3.1; `version`: of the model that answers."""
    sent = [route.body for route in ROUTES.values() if route.body]
    answered: list[type[BaseModel]] = [*(route.answer for route in ROUTES.values()), Error]
    names, schemas = models_json_schema(
        [*((model, "validation") for model in sent), *((model, "serialization") for model in answered)],
        ref_template="#/components/schemas/{model}",
    )
    named = {model.__name__: names[model, "validation"] for model in sent}
    named |= {model.__name__: names[model, "serialization"] for model in answered}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ostinato",
            "version": version,
            "description": "Composes, edits, scores and recommends music.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {path: {route.method.lower(): _operation(route, named)} for path, route in ROUTES.items()}
        | {path: {"get": _page(path, does)} for path, does in (PAGES | WATCHED).items()},
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],  # {}: a service that asks for no keys
    }


def _operation(route: Route, named: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": named[route.answer.__name__]}}
    if route.gives_files:
        content |= {media: {"schema": {"type": "string", "format": "binary"}} for media in SERVED}
    if route.writes:
        content[MEDIA] = {"schema": {"type": "string", "description": STREAMED}}
    parameters = [dict(ACCEPTED, schema={"type": "string", "enum": list(content)})] if route.writes else []
    if route.writes:
        parameters.append(PREFERRED)
    if route.ours:
        parameters.append(BY_ID)
    later = {
        "202": {
            "description": "kept as a job",
            "headers": {"Location": {"schema": {"type": "string"}}},
            "content": {"application/json": {"schema": named[JobAnswer.__name__]}},
        }
    }
    found: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.does,
        **({"parameters": parameters} if parameters else {}),
        "responses": {
            "200": {"description": "done", "content": content},
            **(later if route.writes else {}),
            **{
                str(status): _error(status, named)
                for status in sorted({*ANY, *(SENT if route.body else ()), *(() if route.ours else ASKED)})
            },
        },
    }
    if route.body:
        told = {"schema": named[route.body.__name__], "example": route.example}
        found["requestBody"] = {"required": True, "content": {"application/json": told}}
    return found


def _error(status: int, named: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {"application/json": {"schema": named["Error"]}},
    }
    return found | ({"headers": AGAIN} if status in (429, 503, 504) else {})


def _page(path: str, does: str) -> dict[str, Any]:
    kind = {"/": "text/html", "/docs.json": "application/json"}.get(path, "text/plain")
    name = path.strip("/").replace(".", "_") or "page"
    return {
        "operationId": name,
        "summary": does,
        "responses": {"200": {"description": does, "content": {kind: {}}}},
    }
