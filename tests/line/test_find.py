"""Finding, recommending, feedback and pairs over HTTP."""

import base64
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from symusic import Score

from models.bundle import open_bundle
from tests.conftest import run
from tests.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("served")]


def test_similar_finds_a_piece_again_in_another_key_and_says_why(server: Server, tiny_line: Path) -> None:
    catalogue = open_bundle(tiny_line / "bundle").catalogue
    tokenizer = open_bundle(tiny_line / "bundle").tokenizer
    row = next(row for row, item in enumerate(catalogue.items) if item.style == "irish" and item.bars >= 16)
    moved = tokenizer.decode_ids(catalogue.tokens[row]).shift_pitch(2)
    status, answer = server.ask(
        "/v1/similar",
        {"midi": base64.b64encode(bytes(moved.dumps_midi())).decode(), "k": 5, "with_midi": True},
    )
    assert status == 200, answer
    first = answer["found"][0]
    assert first["item"]["id"] == catalogue.items[row].id and first["likeness"] > 0.99
    assert f"same metre ({first['item']['metre']})" in first["why"]["text"]
    assert Score.from_midi(base64.b64decode(first["item"]["midi"])).note_num() == first["item"]["notes"]
    by_id = server.ask(
        "/v1/similar",
        {"id": first["item"]["id"], "bars": [1, 8], "filters": {"labels": {"style": ["irish"]}}},
    )[1]
    assert first["item"]["id"] not in [hit["item"]["id"] for hit in by_id["found"]]
    assert {hit["item"]["style"] for hit in by_id["found"]} == {"irish"}
    assert all(hit["matches"][0]["query_bars"] == [1, 8] for hit in by_id["found"])


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("similar", {}, "one of midi, score and id"),
        ("similar", {"id": "nobody"}, "never there, was removed"),
        ("similar", {"id": "nobody", "filters": {"labels": {"mood": ["sad"]}}}, "never there"),
        ("recommend", {"likes": ["nobody"]}, "never there"),
        ("recommend", {"compose": True}, "at least one liked item"),
        ("feedback", {"user": "ann@example.org", "item": "x", "event": "like"}, "user"),
        ("feedback", {"user": "ann", "item": "nobody", "event": "like"}, "never there"),
        ("feedback", {"user": "ann", "item": "x", "event": "rating"}, "a rating has a value"),
        ("recommend", {"likes": ["x"] * 10_001}, "10000"),
    ],
)
def test_questions_about_nothing_say_so(
    server: Server, path: str, body: dict[str, object], message: str
) -> None:
    status, answer = server.ask(f"/v1/{path}", body)
    assert status == 422
    assert message in json.dumps(answer["error"])


def test_feedback_moves_recommendations_counts_once_and_can_be_forgotten(
    server: Server, tiny_line: Path
) -> None:
    catalogue = open_bundle(tiny_line / "bundle").catalogue
    chorales = [item.id for item in catalogue.items if item.style == "chorale"]
    fresh = server.ask("/v1/recommend", {"user": "new-1"})[1]
    assert len(fresh["found"]) == 10 and "is new" in fresh["warnings"][0]
    for n, item in enumerate(chorales[:6]):
        assert server.ask("/v1/feedback", {"user": "ann", "item": item, "event": "like", "key": f"k{n}"})[1][
            "stored"
        ]
    assert (
        server.ask("/v1/feedback", {"user": "ann", "item": chorales[0], "event": "like", "key": "k0"})[1][
            "stored"
        ]
        is False
    )
    server.ask("/v1/feedback", {"user": "ann", "item": chorales[6], "event": "dislike"})
    mine = server.ask("/v1/recommend", {"user": "ann", "k": 10, "diversity": 0.0})[1]
    styles = [each["item"]["style"] for each in mine["found"]]
    assert (
        mine["likes"] == 6
        and mine["dislikes"] == 1
        and styles.count("chorale") > sum(each["item"]["style"] == "chorale" for each in fresh["found"])
    )
    assert not {each["item"]["id"] for each in mine["found"]} & set(chorales[:7])
    assert chorales[6] not in {
        each["item"]["id"]
        for each in server.ask("/v1/recommend", {"user": "ann", "k": 100, "repeat": True})[1]["found"]
    }
    assert all(abs(sum(each["spoke"].values()) - 1) < 0.02 for each in mine["found"])
    composed = server.ask("/v1/recommend", {"user": "ann", "compose": True, "takes": 1})[1]["composed"][0]
    assert composed["asked"]["style"] == "chorale" and composed["scorecard"]["nats_per_note"] > 0
    assert server.ask("/v1/feedback", {"user": "ann", "item": composed["id"], "event": "like"})[1]["stored"]
    assert server.ask("/v1/recommend", {"user": "ann"})[1]["likes"] == 7
    run(tiny_line, "forget", "ann")
    assert "is new" in server.ask("/v1/recommend", {"user": "ann"})[1]["warnings"][0]


def test_own_pieces_are_offered_and_removed_while_the_service_runs(
    server: Server, tiny_line: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.abc").write_text("X:1\nT:Mine\nM:4/4\nL:1/8\nK:D\n" + "DEFG ABcd|dcBA GFED|" * 8 + "\n")
    said = run(
        tiny_line, "catalogue", "add", str(tmp_path), "--licence", "public-domain", "--style", "mine"
    ).stdout
    assert "1 pieces added" in said
    found = server.ask("/v1/similar", {"id": "own/mine.abc"})
    assert found[0] == 200
    assert "own/mine.abc" in run(tiny_line, "similar", str(tmp_path / "mine.abc")).stdout
    run(tiny_line, "catalogue", "remove", "own/mine.abc")
    assert server.ask("/v1/similar", {"id": "own/mine.abc"})[0] == 422


def test_alignment_is_reported_by_part_with_what_it_cost(tiny_line: Path) -> None:
    table = json.loads((tiny_line / "reports/metrics.json").read_text())["alignment"]
    assert {"style", "key", "ending", "fifths", "originality"} <= set(table["parts"])
    assert all(
        row["low"] <= row["worth_after"] - row["worth_before"] <= row["high"]
        for row in (*table["parts"].values(), table["kept_out"])
    )
    assert 0.5 < table["nats_per_note"]["ratio"] < 2 and 0 < table["distinct"]["after"] <= 1
    takes = pq.read_table(tiny_line / "data/align/takes.parquet").to_pylist()
    report = json.loads((tiny_line / "reports/align_report.json").read_text())
    assert len(takes) == report["own"]["takes"] == 16 and report["people"]["comparisons"] == 0
    assert all(Score.from_midi(row["midi"]).note_num() for row in takes if row["reward"] > 0.3)
    before, after = (
        load_file(tiny_line / f"data/{stage}/model.safetensors") for stage in ("finetune", "align")
    )
    assert any((before[name] != after[name]).any() for name in before)


def test_a_pair_is_offered_blind_compared_once_and_found_in_the_snapshot(
    server: Server, tiny_line: Path
) -> None:
    status, pair = server.ask("/v1/pair", {"seed": 5})
    assert status == 200, pair
    assert (
        pair["asked"]["style"]
        and len(pair["takes"]) == 2
        and pair["takes"][0]["midi"] != pair["takes"][1]["midi"]
    )
    first, second = (take["id"] for take in pair["takes"])
    assert server.ask("/v1/feedback", {"user": "eva", "event": "prefer", "item": second, "over": first})[1][
        "stored"
    ]
    for wrong, message in (
        ({"item": second, "over": "nobody"}, "no answer 'nobody'"),
        ({"item": second, "over": second}, "two takes of one answer"),
        ({"item": second}, "name the other take"),
    ):
        status, answer = server.ask("/v1/feedback", {"user": "eva", "event": "prefer"} | wrong)
        assert status == 422 and message in json.dumps(answer["error"])
    assert server.ask("/v1/wins")[1]["duels"] == [], "two takes of one model are no duel"
    said = run(tiny_line, "snapshot").stdout
    assert "1 comparisons" in said
    (row,) = pq.read_table(tiny_line / "data/feedback/kept/preferences.parquet").to_pylist()
    assert (row["chosen_id"], row["side"], json.loads(row["asked"])["style"]) == (
        second,
        "second",
        pair["asked"]["style"],
    )
    for path in (tiny_line / "data/feedback/kept").glob("*.parquet"):
        path.unlink()  # the line of this checkout was made without feedback
