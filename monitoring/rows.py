"""A row of the log and the line it is: JSON whose last field is a checksum of the rest, so that a line that
was cut or changed is told from a whole one."""

import json
import re
import uuid
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal
from zlib import crc32

VERSION = 2
CHECKED = 2  # the first version whose lines have a checksum
Kind = Literal["request", "answer", "feedback"]
_END = re.compile(r', "crc": "([0-9a-f]{8})"\}$')


@dataclass(frozen=True)
class Row:
    """One line. `side`: whose descriptors these are, "input" for what a client sent, "output" for what the
    model wrote."""

    kind: Kind
    endpoint: str
    request_id: str
    model: str
    seed: int | None = None
    side: str = ""
    seconds: float | None = None
    nats_per_note: float | None = None
    descriptors: dict[str, float] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    owner: str = ""  # id of the key that asked; "" where the service asks for none
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    time: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="milliseconds"))
    version: int = VERSION


def line_of(row: Row) -> str:
    """A row as a line, with its end. Raises ValueError for a number that JSON has not."""
    text = json.dumps(asdict(row), allow_nan=False)
    return f'{text[:-1]}, "crc": "{crc32(text.encode()):08x}"}}\n'


def row_of(line: str) -> Row | None:
    """The row of a line; None where it was cut or changed."""
    text = line.strip()
    checked = _END.search(text)
    if checked:
        text = text[: checked.start()] + "}"
        if int(checked[1], 16) != crc32(text.encode()):
            return None
    try:
        row = Row(**json.loads(text))
    except (ValueError, TypeError):
        return None
    return row if checked or row.version < CHECKED else None
