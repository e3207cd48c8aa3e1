import numpy as np
import pytest
import torch

from models.compose import Composition, compose
from models.decoding import TorchDecoder
from models.fill import FillRequest, empty, fill
from models.grammar import Plan
from models.labels import Labels
from models.network import KVCache, Network, NetworkConfig, sized
from models.scoring import piece_nats, windows_of
from models.tokens import CellTokenizer, NotRepresentable
from music.score import bar_table, same_notes

CONFIG = NetworkConfig(vocabulary=50, context=32, width=32, layers=2, heads=2, feed_forward=48)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return Network(CONFIG).eval()


@pytest.fixture
def composer(tokenizer: CellTokenizer) -> Network:
    torch.manual_seed(0)
    return Network(sized("tiny", vocabulary=len(tokenizer), context=96)).eval()


def test_cached_steps_give_the_logits_of_one_pass(network: Network) -> None:
    ids = torch.randint(0, 50, (3, 20))
    cache = KVCache(CONFIG, 3)
    with torch.inference_mode():
        whole = network(ids)
        parts = [network(ids[:, :7], cache), network(ids[:, 7:8], cache), network(ids[:, 8:20], cache)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=1e-4)


def test_left_padding_changes_nothing(network: Network) -> None:
    ids = torch.randint(0, 50, (1, 9))
    padded = torch.cat([torch.zeros(1, 5, dtype=torch.long), ids], dim=1)
    with torch.inference_mode():
        cache = KVCache(CONFIG, 1)
        left = network(padded, cache, torch.tensor([5]))[:, 5:]
        torch.testing.assert_close(left, network(ids), atol=1e-4, rtol=1e-4)


def test_no_token_sees_the_future(network: Network) -> None:
    ids = torch.randint(0, 50, (1, 12))
    changed = ids.clone()
    changed[0, 8:] = (changed[0, 8:] + 1) % 50
    with torch.inference_mode():
        torch.testing.assert_close(network(ids)[:, :8], network(changed)[:, :8])


def test_untrained_network_scores_like_a_uniform_guess(tokenizer: CellTokenizer, composer: Network) -> None:
    random = np.random.default_rng(0)
    body = random.integers(0, len(tokenizer), 400).astype(np.uint16)
    nats = piece_nats(composer, tokenizer, [(body, np.arange(0, 400, 10))])[0]
    assert nats.mean() == pytest.approx(np.log(len(tokenizer)), abs=0.15)


def test_windows_score_every_token_once_and_with_context(tokenizer: CellTokenizer) -> None:
    body, bars = np.arange(400) % 30, np.arange(0, 400, 9)
    covered = np.zeros(400, dtype=int)
    for window in windows_of(0, body, bars, Labels(), tokenizer, context=96):
        assert len(window.ids) <= 97
        scored = window.ids[window.first :]
        assert np.array_equal(scored, body[window.target : window.target + len(scored)])
        covered[window.target : window.target + len(scored)] += 1
        assert window.target == 0 or window.first > 30, "later windows see at least a third of the context before what they score"
    assert (covered == 1).all()


def test_same_seed_same_music_and_another_seed_another(tokenizer: CellTokenizer, composer: Network) -> None:
    takes = [compose(TorchDecoder(composer), tokenizer, Composition(bars=3, metre="6/8", instruments=["fiddle"], seed=seed))[0].score for seed in (5, 5, 6)]
    assert same_notes(takes[0], takes[1])
    assert not same_notes(takes[0], takes[2])


def test_exactly_the_asked_bars_metre_and_tracks_past_the_context(tokenizer: CellTokenizer, composer: Network) -> None:
    plan = Plan(((3, 4),) * 24, (52, 52, -1))
    filled = fill(TorchDecoder(composer), tokenizer, [FillRequest(plan, empty(plan), Labels(style="chorale", bars=24), seed=1)])[0]
    assert len(filled.ids) > 2 * composer.config.context
    assert [(int(n), int(d)) for _, _, n, d in bar_table(filled.score)] == [(3, 4)] * 24
    assert [(t.program, t.is_drum) for t in filled.score.tracks] == [(52, False), (52, False), (0, True)]


def test_unknown_instrument_or_metre_names_the_known(tokenizer: CellTokenizer, composer: Network) -> None:
    with pytest.raises(NotRepresentable, match="known are: 0, 40, 52, -1"):
        compose(TorchDecoder(composer), tokenizer, Composition(instruments=["flute"]))
    with pytest.raises(ValueError, match="unknown instrument 'kazoo'"):
        compose(TorchDecoder(composer), tokenizer, Composition(instruments=["kazoo"]))


def test_parameters_have_the_names_of_llama(network: Network) -> None:
    names = set(network.state_dict())
    assert {"model.embed_tokens.weight", "model.layers.1.self_attn.q_proj.weight", "model.layers.0.mlp.gate_proj.weight", "model.layers.0.post_attention_layernorm.weight", "model.norm.weight"} <= names
    assert not any("cos" in name or "sin" in name for name in names)
