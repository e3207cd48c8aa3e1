"""Keys of the service: who may ask what, and how much. Only hashes are kept; a key is shown once, when it is
made."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, get_args

from monitoring.whole_file import write_whole

Scope = Literal["read", "compose", "feedback", "admin"]
SCOPES: tuple[str, ...] = get_args(Scope)
PREFIX = "ost"


class KeysError(ValueError):
    """A key or file of keys that is not right; the message says what to do."""


@dataclass(frozen=True)
class Key:
    """One key. digest: sha256 of its secret, which is 32 random bytes, so that no slow hash is needed. The
    limits are of one worker; 0: none."""

    id: str
    name: str
    digest: str
    scopes: tuple[str, ...]
    requests_a_minute: int = 0
    cells_a_minute: int = 0
    at_once: int = 0
    keeps_music: bool = False  # whether the log keeps music that it sends, so that edits of it have children
    made: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))


ANYBODY = Key("", "anybody", "", SCOPES, keeps_music=True)  # where the service asks for no keys


def made(name: str, scopes: Sequence[str], keeps_music: bool = False, **limits: int) -> tuple[Key, str]:
    """A new key and its text. Raises KeysError for a scope that is none."""
    unknown = set(scopes) - set(SCOPES)
    if unknown or not scopes:
        raise KeysError(
            f"unknown scope {', '.join(sorted(unknown)) or '(none)'}: there are {', '.join(SCOPES)}"
        )
    if any(limit < 0 for limit in limits.values()):
        raise KeysError("a limit is a number from 1 on, or 0 for none")
    key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    key = replace(Key(key_id, name, _digest(secret), tuple(scopes), keeps_music=keeps_music), **limits)  # type: ignore[arg-type]
    return key, f"{PREFIX}_{key_id}_{secret}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyFile:
    """Keys in a JSON file, which is read again when it changes: a key that is revoked is so at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._keys: dict[str, Key] = {}

    def all(self) -> list[Key]:
        """Every key there is. Raises KeysError where the file cannot be read as keys."""
        try:
            found = self.path.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if stamp != self._stamp:
                rows = json.loads(self.path.read_text())
                self._keys = {row["id"]: Key(**{**row, "scopes": tuple(row["scopes"])}) for row in rows}
                self._stamp = stamp
        except FileNotFoundError:
            self._keys, self._stamp = {}, None
        except (ValueError, TypeError, KeyError) as error:
            raise KeysError(
                f"{self.path} is not a file of keys ({error}): put back a copy, or move it away and make new "
                f"ones with `ostinato keys add`"
            ) from error
        return list(self._keys.values())

    def of(self, text: str) -> Key | None:
        """The key of a text as clients send it; None for one that is wrong or revoked."""
        self.all()
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        key = self._keys.get(key_id)
        same = hmac.compare_digest(_digest(secret), key.digest if key else "0" * 64)
        return key if key and same and prefix == PREFIX else None

    def add(self, key: Key) -> None:
        self._write([*self.all(), key])

    def revoke(self, name: str) -> Key:
        """Remove the key of an id or name. Raises KeysError where that is not one key."""
        found = [key for key in self.all() if name in (key.id, key.name)]
        if len(found) != 1:
            raise KeysError(
                f"{len(found)} keys are called {name!r}: name one by its id (`ostinato keys list` shows them)"
            )
        self._write([key for key in self.all() if key != found[0]])
        return found[0]

    def _write(self, keys: Sequence[Key]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, json.dumps([asdict(key) for key in keys], indent=1) + "\n", 0o600)
