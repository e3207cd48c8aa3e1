"""What can be asked of a piece, of its tracks and of single cells."""

from dataclasses import dataclass, replace

from music.score.cells import PER_BAR

KIND_OF = {
    "density": "Density",
    "polyphony": "Polyphony",
    "range": "Range",
    "note_length": "NoteLength",
    "syncopation": "Syncopation",
}
CELL_KINDS = tuple(
    KIND_OF[name] for name in PER_BAR
)  # the controls that may also follow a Program inside the music


@dataclass(frozen=True)
class TrackAsk:
    """What one track can be asked to be: its program, and classes (music/score/cells.py) of some controls by
    name."""

    program: int
    classes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Labels:
    """What a piece can be asked to be; "" or 0 where it is not asked. `excerpt`: starts in the middle of a
    piece."""

    style: str = ""
    rhythm: str = ""
    key: str = ""
    bars: int = 0
    excerpt: bool = False
    tempo: str = ""
    tracks: tuple[TrackAsk, ...] = ()

    def without_controls(self) -> "Labels":
        """The same place in a piece, with nothing asked, as in training: the other side of guidance."""
        return replace(self, style="", rhythm="", key="", tempo="", tracks=())
