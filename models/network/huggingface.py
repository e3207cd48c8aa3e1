"""The network for engines that serve Hugging Face checkpoints: its layers are a LlamaForCausalLM, tensor by
tensor.

What such a checkpoint has no room for is what places say (models/tokens/place.py): those tables go into a
file of their own. An engine that takes embedded inputs and is given `Network.embed(..)` scores as this
network does; one that is given token ids alone writes without knowing where it is, and much worse.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from models.network.config import NetworkConfig
from models.network.decoder import Network
from models.tokens.tokenizer import CellTokenizer


def llama_config(config: NetworkConfig, eos_id: int, pad_id: int) -> dict[str, Any]:
    """config.json of the same network as transformers names things."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.feed_forward,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.heads,
        "hidden_act": "silu",
        "max_position_embeddings": config.context,
        "rms_norm_eps": 1e-6,
        "rope_theta": config.rope_base,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": None,
        "eos_token_id": eos_id,
        "pad_token_id": pad_id,
    }


PLACES = ("model.embed_places.", "model.copies.")  # what a LlamaForCausalLM lacks
LEFT_OUT = """# What this checkpoint leaves out

`model.safetensors` holds the layers and the token table of the network as a LlamaForCausalLM. The network
also adds to every token what its place says (the beat, what sounds in the other tracks, the bars that are
left, chords): the tables are in `places.safetensors`, and ostinato's `models.network.decoder.Network.embed`
applies them. Give its output as `inputs_embeds` and the logits are those of ostinato. With token ids alone
the checkpoint loads and runs, but it does not know where in the music it is: do not judge the model by that.
"""


def export(network: Network, tokenizer: CellTokenizer, folder: Path) -> list[Path]:
    """Write model.safetensors, places.safetensors, config.json, generation_config.json, tokenizer.json
    (miditok's), vocab.json and a README that says what is left out; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    pad = int(tokenizer.vocab["PAD_None"])
    config = llama_config(network.config, tokenizer.eos_id, pad) | {"dtype": "float32"}
    weights = {
        name: value.detach().to(torch.float32).contiguous() for name, value in network.state_dict().items()
    }
    places = {name: weights.pop(name) for name in list(weights) if name.startswith(PLACES)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    save_file(places, folder / "places.safetensors", metadata={"format": "pt"})
    (folder / "README.md").write_text(LEFT_OUT)
    for name, content in (
        ("config.json", config),
        (
            "generation_config.json",
            {"eos_token_id": tokenizer.eos_id, "pad_token_id": pad, "do_sample": True},
        ),
        ("vocab.json", tokenizer.vocab),
    ):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")
    tokenizer.save(folder / "tokenizer.json")
    return sorted(folder.iterdir())
