"""What the plain ASGI of the service is made of: its types, an answer, a refusal."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from serving.errors import CODES, error_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


async def answer(
    send: Send, status: int, body: bytes, extra: Headers | None = None, content_type: str = "application/json"
) -> None:
    """One whole answer."""
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        *(extra or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refuse(
    send: Send, status: int, message: str, field: str = "", allow: str = "", retry_after: int = 0
) -> None:
    """An answer that says what is wrong; allow: the method to use; retry_after: seconds."""
    extra = [(b"allow", allow.encode())] if allow else []
    extra += [(b"retry-after", str(retry_after).encode())] if retry_after else []
    extra += [(b"www-authenticate", b"Bearer")] if status == 401 else []
    await answer(send, status, json.dumps(error_body(CODES[status], message, field)).encode(), extra)
