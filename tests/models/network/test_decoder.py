from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.decoding.script import Plan
from models.decoding.torch_decoder import TorchDecoder
from models.fill.compose import Composition, compose, sounding_as
from models.fill.fill import fill
from models.fill.request import FillRequest, empty
from models.network.config import NetworkConfig, sized
from models.network.decoder import KVCache, Network, rotate
from models.network.likelihood import piece_nats, windows_of
from models.tokens.labels import Labels
from models.tokens.place import COPIES, WIDTH
from models.tokens.place_reader import PlaceReader
from models.tokens.tokenizer import CellTokenizer, NotRepresentable
from music.score.form import bar_table, same_notes
from tests.places import placed_tensor

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
    ids = placed_tensor(torch.randint(0, 50, (3, 20)), 50)
    cache = KVCache(CONFIG, 3)
    with torch.inference_mode():
        whole = network(ids)
        parts = [network(ids[:, :7], cache), network(ids[:, 7:8], cache), network(ids[:, 8:20], cache)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=1e-4)


def plain_embedding(network: Network, placed: torch.Tensor) -> torch.Tensor:
    """Rows of the tables one by one, summed."""
    trunk, placed = network.model, placed.long()
    x = F.embedding(placed[..., 0], trunk.embed_tokens.weight)
    for i, copy in enumerate(trunk.copies):
        told = placed[..., 1 + i]
        x = x + torch.where((told > 0)[..., None], copy(F.embedding(told, trunk.embed_tokens.weight)), 0.0)
    for column in range(1 + COPIES, WIDTH):
        entry = placed[..., column]
        x = x + torch.where((entry > 0)[..., None], F.embedding(entry, trunk.embed_places.weight), 0.0)
    return x


def plain_loss(network: Network, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Loss by torch's own functions, which the fused ones must equal."""
    B, T, _ = rows.shape
    x, c = plain_embedding(network, rows), network.config
    for layer in network.model.layers:
        a, m = layer.self_attn, layer.mlp
        h = F.rms_norm(x, (c.width,), layer.input_layernorm.weight, 1e-6)
        q, k, v = (p(h).view(B, T, c.heads, -1).transpose(1, 2) for p in (a.q_proj, a.k_proj, a.v_proj))
        q, k = rotate(q, network.cos[:T], network.sin[:T]), rotate(k, network.cos[:T], network.sin[:T])
        x = x + a.o_proj(
            F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, -1)
        )
        h = F.rms_norm(x, (c.width,), layer.post_attention_layernorm.weight, 1e-6)
        x = x + m.down_proj(F.silu(m.gate_proj(h)) * m.up_proj(h))
    logits = F.rms_norm(x, (c.width,), network.model.norm.weight, 1e-6) @ network.model.embed_tokens.weight.T
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


@pytest.mark.parametrize("length", [2, 5, 128, 200, 256])
def test_fused_training_step_has_the_loss_and_gradients_of_torch(length: int) -> None:
    torch.manual_seed(length)
    network = Network(NetworkConfig(vocabulary=50, context=256, width=32, layers=2, heads=2, feed_forward=48))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    rows = placed_tensor(torch.randint(0, 50, (3, length)), 50)
    targets = torch.randint(0, 50, (3, length))
    targets[:, ::3] = -100
    found = {}
    for name, loss in (("plain", plain_loss), ("fused", Network.loss)):
        network.zero_grad()
        value = loss(network, rows, targets)
        (value * 1.5).backward()
        found[name] = [value.detach(), *(p.grad.clone() for p in network.parameters())]
    for plain, fused in zip(found["plain"], found["fused"], strict=True):
        torch.testing.assert_close(fused, plain, atol=2e-5, rtol=1e-3)


def test_fused_training_step_in_bf16_is_as_near_to_32_bits_as_torch() -> None:
    torch.manual_seed(0)
    network = Network(sized("tiny", vocabulary=100, context=256))
    rows, targets = placed_tensor(torch.randint(0, 100, (4, 256)), 100), torch.randint(0, 100, (4, 256))

    def gradient(loss: Callable[..., torch.Tensor], bf16: bool) -> torch.Tensor:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss(network, rows, targets)
        value.backward()
        return torch.cat([p.grad.flatten() for p in network.parameters()])

    exact = gradient(plain_loss, False)
    ours, theirs = (
        (gradient(loss, True) - exact).norm() / exact.norm() for loss in (Network.loss, plain_loss)
    )
    assert ours < 1.5 * theirs < 0.05


def test_targets_that_do_not_count_teach_nothing() -> None:
    network = Network(CONFIG)
    loss = network.loss(placed_tensor(torch.randint(0, 50, (2, 8)), 50), torch.full((2, 8), -100))
    loss.backward()
    assert loss == 0
    assert all((p.grad == 0).all() for p in network.parameters())


def test_no_token_sees_the_future(network: Network) -> None:
    ids = placed_tensor(torch.randint(0, 50, (1, 12)), 50)
    changed = ids.clone()
    changed[0, 8:, 0] = (changed[0, 8:, 0] + 1) % 50
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
    for window in windows_of(0, body, bars, Labels(), tokenizer, PlaceReader(tokenizer), context=96):
        assert len(window.placed) <= 97
        scored = window.placed[window.first :, 0]
        assert np.array_equal(scored, body[window.target : window.target + len(scored)])
        covered[window.target : window.target + len(scored)] += 1
        assert window.target == 0 or window.first > 30, (
            "later windows see at least a third of the context before what they score"
        )
    assert (covered == 1).all()


def test_same_seed_same_music_and_another_seed_another(tokenizer: CellTokenizer, composer: Network) -> None:
    takes = [
        compose(
            TorchDecoder(composer),
            tokenizer,
            Composition(bars=3, metre="6/8", instruments=["fiddle"], seed=seed),
        )[0].score
        for seed in (5, 5, 6)
    ]
    assert same_notes(takes[0], takes[1])
    assert not same_notes(takes[0], takes[2])


def test_exactly_the_asked_bars_metre_and_tracks_past_the_context(
    tokenizer: CellTokenizer, composer: Network
) -> None:
    plan = Plan(((3, 4),) * 24, (52, 52, -1))
    filled = fill(
        TorchDecoder(composer),
        tokenizer,
        [FillRequest(plan, empty(plan), Labels(style="chorale", bars=24), seed=1)],
    )[0]
    assert len(filled.ids) > 2 * composer.config.context
    assert [(int(n), int(d)) for _, _, n, d in bar_table(filled.score)] == [(3, 4)] * 24
    assert [(t.program, t.is_drum) for t in filled.score.tracks] == [(52, False), (52, False), (0, True)]


def test_an_instrument_is_written_as_for_another_a_metre_or_a_word_is_not(
    tokenizer: CellTokenizer, composer: Network
) -> None:
    asked = Composition(bars=1, instruments=["flute"])
    assert compose(TorchDecoder(composer), tokenizer, asked)[0].score.tracks[0].program == 73
    assert "does not know Flute (track 1)" in sounding_as(tokenizer, asked)[1][0]
    with pytest.raises(NotRepresentable, match="known are: "):
        compose(TorchDecoder(composer), tokenizer, Composition(metre="7/16"))
    with pytest.raises(ValueError, match="unknown instrument 'kazoo'"):
        compose(TorchDecoder(composer), tokenizer, Composition(instruments=["kazoo"]))


def test_parameters_have_the_names_of_llama(network: Network) -> None:
    names = set(network.state_dict())
    assert {
        "model.embed_tokens.weight",
        "model.layers.1.self_attn.q_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.norm.weight",
    } <= names
    assert not any("cos" in name or "sin" in name for name in names)
