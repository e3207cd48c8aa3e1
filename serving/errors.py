"""The one shape of an error: {"error": {"code", "message", "field"?}}."""

import json
from http import HTTPStatus
from typing import Any

from bentoml.exceptions import BentoMLException
from pydantic import ValidationError

CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    429: "busy",
    503: "not_ready",
    504: "timeout",
}


def error_body(code: str, message: str, field: str = "") -> dict[str, Any]:
    """The JSON of an error."""
    return {"error": {"code": code, "message": message, **({"field": field} if field else {})}}


class Refused(BentoMLException):
    """A request that is well formed but cannot be done; the message says what can. Answered as 422."""

    error_code = HTTPStatus.UNPROCESSABLE_ENTITY

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(json.dumps(error_body("invalid", message, field)))


class Crowded(BentoMLException):
    """More is asked than can be written soon. Answered as 429."""

    error_code = HTTPStatus.TOO_MANY_REQUESTS

    def __init__(self, message: str) -> None:
        super().__init__(json.dumps(error_body("busy", message)))


class Gone(BentoMLException):
    """Nobody waits for the answer any more, nor reads this. Counted as a 408."""

    error_code = HTTPStatus.REQUEST_TIMEOUT

    def __init__(self, message: str) -> None:
        super().__init__(json.dumps(error_body("cancelled", message)))


def error_of(error: Exception) -> dict[str, Any]:
    """{"code", "message", "field"?} of what an endpoint raised."""
    if isinstance(error, BentoMLException):
        inner = _innermost(error.message)
        if isinstance(inner, dict):
            return inner
        code = CODES.get(int(error.error_code), "internal")
        if code != "internal":
            return {"code": code, "message": inner}
    if isinstance(error, ValidationError):
        return {"code": "invalid", "message": str(error.errors()[0]["msg"])}
    return {"code": "internal", "message": "something went wrong on our side; it is logged"}


def reshape(status: int, body: bytes) -> bytes:
    """Any error answer in the one shape: ours pass through, BentoML's {"error": "text"} and plain text are
    wrapped."""
    inner = _innermost(body.decode("utf-8", errors="replace"))
    if isinstance(inner, dict):
        return json.dumps({"error": inner}).encode()
    message = (
        "something went wrong on our side; it is logged with the request id"
        if status >= 500 and status not in CODES
        else inner or HTTPStatus(status).phrase
    )
    return json.dumps(
        error_body(CODES.get(status, "internal" if status >= 500 else "bad_request"), message)
    ).encode()


def _innermost(value: Any) -> dict[str, Any] | str:
    """Our error object, however BentoML has wrapped it in JSON, lists and {"error": ...}; else the text."""
    if isinstance(value, dict):
        return (
            value
            if {"code", "message"} <= value.keys()
            else _innermost(value.get("error", json.dumps(value)))
        )
    if isinstance(value, list):
        return _innermost(value[0]) if value else ""
    try:
        parsed = json.loads(str(value))
    except ValueError:
        return str(value)
    return _innermost(parsed) if isinstance(parsed, (dict, list)) else str(value)
