"""Everything that is written to be judged: samples like the test split's, by the model and by the n-gram, and
what a musician hears of them beside real pieces."""

from dataclasses import dataclass, replace
from typing import Any

from symusic import Score

from models.decoding.loop import Decoder
from models.fill.forms import Forms
from models.fill.sampling import Sample, requests_like, write_samples
from models.judge.controls import asked_evenly
from models.judge.evaluation import ask_of_cells, write_form_samples, write_unasked
from models.judge.musical import chorales, endings, parts, sections
from models.judge.ngram import NgramDecoder, NgramModel
from models.tokens.shards import Shard
from models.tokens.tokenizer import CellTokenizer
from music.score.form import first_bars

CONTEXT = 512  # of the n-gram's histories; it looks back by its order only
CHORALE, CHORALE_BARS, CONTROL_BARS = "chorale", 12, 8


@dataclass(frozen=True)
class Wish:
    """How much is written, and how. samples: pieces of `sample_bars` bars; form_bars: of those whose form is
    looked at; control_samples: pieces a class of each control; batch_size: decoded at once."""

    samples: int
    sample_bars: int
    form_bars: int
    control_samples: int
    batch_size: int
    seed: int
    temperature: float
    top_p: float
    guidance: float


def write_all_samples(
    decoder: Decoder, ngram: NgramModel, tokenizer: CellTokenizer, test: Shard, wish: Wish, forms: Forms
) -> dict[str, Any]:
    """Samples of the model, the same that also ask for every cell, longer ones for form (told one
    of `forms`, as they are served), and the n-gram's for the same requests; and the openings (with their
    keys) of the test pieces they are like."""
    requests, order = requests_like(
        test,
        tokenizer,
        count=wish.samples,
        bars=wish.sample_bars,
        seed=wish.seed,
        temperature=wish.temperature,
        top_p=wish.top_p,
        guidance=wish.guidance,
    )
    few = max(wish.samples // 4, 2)
    base = [replace(request, temperature=1.0, top_p=1.0, guidance=1.0) for request in requests]
    baseline = NgramDecoder(ngram, tokenizer, wish.batch_size, CONTEXT)
    return {
        "model": write_samples(decoder, tokenizer, requests),
        "unasked": write_unasked(decoder, tokenizer, requests),
        "cells": write_samples(
            decoder, tokenizer, ask_of_cells(requests[:few], order[:few], test, tokenizer)
        ),
        "form": write_form_samples(decoder, tokenizer, requests, wish.form_bars, few, forms),
        "ngram": write_samples(baseline, tokenizer, base),
        "chorales": _of_style(CHORALE, decoder, tokenizer, test, wish),
        "ngram_chorales": _of_style(CHORALE, baseline, tokenizer, test, wish),
        "controls": asked_evenly(
            decoder, tokenizer, test, each=wish.control_samples, bars=CONTROL_BARS, seed=wish.seed
        ),
        "ngram_form": write_form_samples(baseline, tokenizer, base, wish.form_bars, few),
        "human": [
            (first_bars(tokenizer.decode_ids(test.piece(i)), wish.sample_bars), test.records[i]["key"])
            for i in dict.fromkeys(order)
        ],
    }


def _of_style(
    style: str, decoder: Decoder, tokenizer: CellTokenizer, test: Shard, wish: Wish
) -> list[Sample]:
    """Samples like the test pieces of one style, each of 12 bars; [] where there are none."""
    requests, _ = requests_like(
        test,
        tokenizer,
        count=max(wish.samples // 4, 2),
        bars=CHORALE_BARS,
        seed=wish.seed,
        temperature=wish.temperature,
        top_p=wish.top_p,
        style=style,
    )
    labelled = [replace(r, labels=replace(r.labels, tracks=())) for r in requests]
    return write_samples(decoder, tokenizer, labelled)


def music(written: dict[str, Any], test: Shard, tokenizer: CellTokenizer) -> dict[str, Any]:
    """What a musician hears first (models/judge/musical.py): the model's pieces, the n-gram's, and real ones
    to their real ends."""

    def keyed(samples: list[Sample], of_chorales: bool) -> list[tuple[Score, str]]:
        return [
            (s.score, s.request.labels.key)
            for s in samples
            if s.score is not None and (s.request.labels.style == CHORALE) == of_chorales
        ]

    real = [(tokenizer.decode_ids(test.piece(i)), test.records[i]) for i in range(len(test))]
    tunes = [(score, record["key"]) for score, record in real if record["style"] != CHORALE]
    groups = {
        "model": (keyed(written["model"], False), written["form"], keyed(written["chorales"], True)),
        "ngram": (
            keyed(written["ngram"], False),
            written["ngram_form"],
            keyed(written["ngram_chorales"], True),
        ),
        "real": (
            tunes,
            [score for score, _ in tunes],
            [(score, record["key"]) for score, record in real if record["style"] == CHORALE],
        ),
    }
    return {
        who: {
            "tunes": {
                **endings(pieces),
                **sections(long),
                **parts(tokenizer, [score for score, _ in pieces]),
            },
            "chorales": chorales(four),
        }
        for who, (pieces, long, four) in groups.items()
    }
