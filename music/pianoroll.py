"""Piano-roll pictures: time across, pitch up, one colour a track, a line at every bar."""

from pathlib import Path

from symusic import Score

from music.instruments import DRUMS, name_of
from music.score import bar_table, note_array

COLOURS = ("#3b6ea5", "#c8553d", "#5b8c5a", "#8e6c8a", "#b8860b", "#4f4f4f", "#2a9d8f", "#d17a9b")


def save_piano_roll(score: Score, path: Path, title: str) -> None:
    """Write a PNG of the score in normal form; an empty score gives an empty roll."""
    import matplotlib  # only jobs that draw pay for it

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = bar_table(score)
    figure, axis = pyplot.subplots(figsize=(min(4 + 0.9 * len(bars), 24), 3.2), dpi=90)
    for index, track in enumerate(score.tracks):
        notes = note_array(track)
        axis.barh(notes[:, 2], notes[:, 1] * 0.94, left=notes[:, 0], height=0.85, color=COLOURS[index % len(COLOURS)],
                  label=name_of(DRUMS if track.is_drum else track.program))
    for start, _, _, _ in bars:
        axis.axvline(start, color="#bbbbbb", linewidth=0.6, zorder=0)
    axis.set_xticks(bars[:, 0], [str(i + 1) for i in range(len(bars))])
    axis.set(title=title, xlabel="bar", ylabel="MIDI pitch")
    if score.tracks:
        axis.legend(loc="upper right", fontsize=7, ncols=4)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
