"""Training and validation on devices that this machine does not have: shapes and devices are checked, numbers
are not.

On `meta`, as on CUDA and MPS, an operation on tensors of two devices is an error.
"""

import pytest
import torch

from models.network.config import sized
from models.network.decoder import KVCache, Network
from models.tokens.place import WIDTH

CONFIG = sized("tiny", vocabulary=50, context=32)


@pytest.fixture
def network() -> Network:
    return Network(CONFIG).to("meta")


def ids(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, dtype=torch.long, device="meta")


def placed(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, WIDTH, dtype=torch.int32, device="meta")


def test_a_training_step_stays_on_its_device(network: Network) -> None:
    loss = network.loss(placed(2, 16), ids(2, 16))
    loss.backward()
    assert loss.device == network.device
    assert {p.grad.device.type for p in network.parameters() if p.grad is not None} == {"meta"}


def test_validation_stays_on_its_device(network: Network) -> None:
    with torch.inference_mode():
        assert network.eval().token_nats(placed(3, 17)).device.type == "meta"


def test_caches_and_masks_are_made_where_the_network_is(network: Network) -> None:
    cache = KVCache(CONFIG, 2, device=network.device)
    with torch.inference_mode():
        network.hidden(placed(2, 5), cache)
        assert network.hidden(placed(2, 3), cache).device.type == "meta"
