"""The shape of a network; no torch here, as the service reads it too."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of a network. `context`: tokens it is trained on at once; positions past it are not learned."""

    vocabulary: int
    context: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    dropout: float = 0.0
    rope_base: float = 10_000.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


SIZES = {  # width, layers, heads, feed_forward: about 0.1, 3.5, 14 and 85 million parameters
    "tiny": (64, 2, 2, 176),
    "small": (256, 4, 4, 704),
    "base": (384, 8, 6, 1024),
    "large": (768, 12, 12, 2048),
}


def sized(size: str, *, vocabulary: int, context: int, dropout: float = 0.0) -> NetworkConfig:
    """The configuration of a named size."""
    width, layers, heads, feed_forward = SIZES[size]
    return NetworkConfig(vocabulary, context, width, layers, heads, feed_forward, dropout)
