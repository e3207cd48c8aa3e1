"""Reading on ONNX Runtime: what the network says, whatever is read beside it."""

import numpy as np
import pytest
import torch

from models.decoding.onnx_reader import OnnxReader
from models.network.config import sized
from models.network.decoder import Network
from tests.places import places_at_random

VOCABULARY = 90


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(3)
    network = Network(sized("tiny", vocabulary=VOCABULARY, context=96))
    for parameter in network.parameters():
        parameter.data *= 3  # far from flat, so that errors show
    return network.eval()


@pytest.fixture(scope="module")
def reader(network: Network) -> OnnxReader:
    return OnnxReader({name: value.numpy() for name, value in network.state_dict().items()}, network.config)


def rows(count: int, length: int) -> np.ndarray:
    ids = np.random.default_rng(length).integers(0, VOCABULARY, (count, length))
    return places_at_random(ids, VOCABULARY)


@pytest.mark.parametrize("length", [2, 17, 96, 97])
def test_nats_are_those_of_the_network(network: Network, reader: OnnxReader, length: int) -> None:
    placed = rows(3, length)
    expected = network.nats(placed)
    assert reader.nats(placed).shape == expected.shape == (3, length - 1)
    assert np.abs(reader.nats(placed) - expected).max() < 2e-3 * max(expected.max(), 1)


def test_states_are_those_of_the_network(network: Network, reader: OnnxReader) -> None:
    placed, lengths = rows(3, 40), np.array([40, 7, 1])
    for row, length in enumerate(lengths):
        placed[row, length:] = 0
    expected = network.mean_states(placed, lengths)
    found = reader.mean_states(placed, lengths)
    assert found.shape == (3, 2 * network.config.width)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()


def test_a_row_is_read_the_same_to_the_bit_in_any_company(reader: OnnxReader) -> None:
    placed = rows(4, 50)
    assert np.array_equal(reader.nats(placed)[2], reader.nats(placed[2:3])[0])
