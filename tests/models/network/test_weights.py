"""Weights that change shape: low-rank differences, and a vocabulary that grows."""

import torch
from torch.nn import functional as F

from models.network.config import NetworkConfig
from models.network.decoder import Network
from models.network.lora import add_low_rank, merged
from models.tokens.build import train_tokenizer
from models.tokens.tokenizer import CellTokenizer
from models.tokens.vocabulary import EMBEDDING, grown
from tests.conftest import TPQ
from tests.places import placed_tensor

CONFIG = NetworkConfig(vocabulary=40, context=32, width=32, layers=2, heads=2, feed_forward=48)


def test_low_rank_starts_as_the_network_learns_little_and_merges_exactly() -> None:
    torch.manual_seed(0)
    network = Network(CONFIG)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tokens = torch.randint(0, 40, (2, 12))
    ids = placed_tensor(tokens, 40)
    plain = network(ids)
    add_low_rank(network, rank=4)
    torch.testing.assert_close(network(ids), plain)
    learned = [p for p in network.parameters() if p.requires_grad]
    assert sum(p.numel() for p in learned) < sum(value.numel() for value in before.values()) * 0.6
    optimiser = torch.optim.AdamW(learned, lr=0.01)
    for _ in range(5):
        F.cross_entropy(network(ids[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimiser.step()
        optimiser.zero_grad()
    again = Network(CONFIG)
    again.load_state_dict(merged({name: value.detach() for name, value in network.state_dict().items()}))
    torch.testing.assert_close(again(ids), network(ids), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(again(ids), plain, atol=1e-3)


def test_a_grown_vocabulary_keeps_known_tokens_and_starts_new_ones_as_their_kind(
    tokenizer: CellTokenizer,
) -> None:
    torch.manual_seed(0)
    weights = Network(NetworkConfig(len(tokenizer), 32, 32, 1, 2, 48)).state_dict()
    bigger = train_tokenizer(
        metres=["4/4", "7/8"],
        programs=[0, 52, 73],
        styles=["chorale", "irish", "lied"],
        rhythms=["jig"],
        tempos=["fast"],
        ticks_per_quarter=TPQ,
        velocity=80,
        max_note_quarters=16,
        max_bars_control=64,
    )
    table = grown(weights, tokenizer, bigger)[EMBEDDING]
    assert table.shape == (len(bigger), 32)
    for token in ("Pitch_60", "Style_irish", "Bar_4/4", "EOS_None"):
        assert torch.equal(table[bigger.vocab[token]], weights[EMBEDDING][tokenizer.vocab[token]])
    styles = slice(tokenizer.first_id["Style"], tokenizer.first_id["Style"] + 2)
    torch.testing.assert_close(table[bigger.vocab["Style_lied"]], weights[EMBEDDING][styles].mean(dim=0))
