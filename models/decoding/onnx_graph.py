"""The network as an ONNX graph, a few fused operators of ONNX Runtime: for decoding, with one ragged cache
and weights in fp32 or in 8 bits, and for reading whole sequences in fp32.

B: rows, T: tokens, D: width, H: heads, E: width of a head, V: vocabulary, C: positions of the cache.
Operators named here beyond the standard are ONNX Runtime's contrib operators (com.microsoft);
docs/decisions/0007-decoding.md has the back ends that were compared.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.network.config import NetworkConfig
from models.tokens.place import COPIES, WIDTH

BLOCK = 64  # weights that share a scale; with 128 the scores of a row depend on its company
ZERO_POINT = 128
EMBEDDING = "model.embed_tokens.weight"
Shape = list[int | str]


def eight_bits(weight: np.ndarray, block: int = BLOCK) -> tuple[np.ndarray, np.ndarray]:
    """Weights (N, K) rounded to 8 bits with a scale for every `block` of K: uint8 (N, K / block, block) with
    zero at 128, float32 (N, K / block)."""
    padded = np.pad(weight, ((0, 0), (0, -weight.shape[1] % block)))
    blocks = padded.reshape(len(weight), -1, block)
    scale = np.maximum(np.abs(blocks).max(axis=2), 1e-12) / (ZERO_POINT - 1)
    return (np.rint(blocks / scale[..., None]) + ZERO_POINT).astype(np.uint8), scale.astype(np.float32)


class _Graph:
    """Nodes and constants as they are added; every operator is named by its first output."""

    def __init__(self, eight_bit: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._eight_bit = eight_bit

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def op(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: str | Sequence[str],
        contrib: bool = False,
        **attributes: Any,
    ) -> str:
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        self.nodes.append(
            helper.make_node(
                kind,
                list(inputs),
                names,
                name=names[0],
                domain="com.microsoft" if contrib else "",
                **attributes,
            )
        )
        return names[0]

    def linear(self, x: str, name: str, weight: np.ndarray) -> str:
        """X @ weight.T for weight (N, K), as torch.nn.Linear without bias."""
        if not self._eight_bit:
            return self.op("MatMul", [x, self.constant(f"{name}.weight", weight.T)], name)
        packed, scale = eight_bits(weight)
        N, K = weight.shape
        return self.op(
            "MatMulNBits",
            [x, self.constant(f"{name}.packed", packed), self.constant(f"{name}.scale", scale)],
            name,
            contrib=True,
            K=K,
            N=N,
            bits=8,
            block_size=BLOCK,
            accuracy_level=4,
        )

    def norm(self, name: str, x: str, skip: str | None, weight: np.ndarray) -> tuple[str, str]:
        """RMS norm of (x + skip), and (x + skip) itself."""
        scale = self.constant(f"{name}.weight", weight)
        if skip is None:
            return self.op(
                "SimplifiedLayerNormalization", [x, scale], name, axis=-1, epsilon=1e-6, stash_type=1
            ), x
        self.op(
            "SkipSimplifiedLayerNormalization",
            [x, skip, scale],
            [name, "", "", f"{name}.sum"],
            contrib=True,
            epsilon=1e-6,
        )
        return name, f"{name}.sum"


def build_graph(weights: Mapping[str, np.ndarray], config: NetworkConfig, eight_bit: bool) -> bytes:
    """An ONNX model: tokens with their places and a cache in, logits (B, V) after the last token out.

    Inputs: `placed` int32 (B, T, WIDTH), tokens with their places, T = 1 where B > 1; `seqlens` int32 (B,),
    tokens in a row after this call minus one; `total` int32 scalar, the longest row after this call; `k0 v0
    k1 ..` float32 (B, H, C, E). Outputs: `logits`, and `k0_out ..`, to be bound to the memory of `k0 ..`.
    """
    g, cache = _Graph(eight_bit), [f"{p}{i}" for i in range(config.layers) for p in "kv"]
    w = {name: np.asarray(value, dtype=np.float32) for name, value in weights.items()}
    y, _ = _layers(g, w, config, cached=True)
    last = g.op("Gather", [y, g.constant("last", np.array(-1))], "last_hidden", axis=1)
    g.linear(last, "logits", w[EMBEDDING])
    rows: Shape = ["B", len(w[EMBEDDING])]
    shape: Shape = ["B", config.heads, "C", config.width // config.heads]
    placed = helper.make_tensor_value_info("placed", TensorProto.INT32, ["B", "T", WIDTH])
    more = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in cache]
    return _model(g, config, [placed, *more], {"logits": rows, **{f"{name}_out": shape for name in cache}})


def reading_graph(weights: Mapping[str, np.ndarray], config: NetworkConfig) -> bytes:
    """An ONNX model that reads one sequence. Inputs: `embedded` float32 (1, T, D), what the tables say of it
    (`tables_of`), `seqlens` and `total` as of `build_graph`. Outputs: `logits` (1, T, V) after every token,
    and hidden states (1, T, D) after half of the layers, `half`, and after the last with the final norm,
    `whole`.
    """
    g, w = _Graph(eight_bit=False), {name: np.asarray(value, np.float32) for name, value in weights.items()}
    y, half = _layers(g, w, config, cached=False)
    g.op("Identity", [half], "half")
    g.op("Identity", [y], "whole")
    g.linear(y, "logits", w[EMBEDDING])
    states: Shape = [1, "T", config.width]
    more = [helper.make_tensor_value_info("embedded", TensorProto.FLOAT, states)]
    return _model(g, config, more, {"logits": [1, "T", len(w[EMBEDDING])], "half": states, "whole": states})


def _layers(g: _Graph, w: Mapping[str, np.ndarray], config: NetworkConfig, cached: bool) -> tuple[str, str]:
    """(what the final norm says, what goes on after half of the layers)."""
    heads, E = config.heads, config.width // config.heads
    angle = np.outer(np.arange(config.context + 1), config.rope_base ** (-np.arange(E // 2) / (E // 2)))
    cos, sin = (
        g.constant("cos", np.cos(angle).astype(np.float32)),
        g.constant("sin", np.sin(angle).astype(np.float32)),
    )
    x, skip, half = _embedded(g, w) if cached else "embedded", None, ""
    for i in range(config.layers):
        at = f"model.layers.{i}."
        y, x = g.norm(f"{at}input_layernorm", x, skip, w[f"{at}input_layernorm.weight"])
        half = x if i == config.layers // 2 else half
        qkv = g.linear(y, f"{at}qkv", np.concatenate([w[f"{at}self_attn.{p}_proj.weight"] for p in "qkv"]))
        g.op(
            "GroupQueryAttention",
            [qkv, "", "", *((f"k{i}", f"v{i}") if cached else ("", "")), "seqlens", "total", cos, sin],
            [f"{at}attention", f"k{i}_out", f"v{i}_out"],
            contrib=True,
            num_heads=heads,
            kv_num_heads=heads,
            do_rotary=1,
            rotary_interleaved=0,
        )
        skip = g.linear(f"{at}attention", f"{at}o", w[f"{at}self_attn.o_proj.weight"])
        y, x = g.norm(f"{at}post_attention_layernorm", x, skip, w[f"{at}post_attention_layernorm.weight"])
        gate_up = g.linear(
            y, f"{at}gate_up", np.concatenate([w[f"{at}mlp.{p}_proj.weight"] for p in ("gate", "up")])
        )
        g.op("Split", [gate_up], [f"{at}gate", f"{at}up"], axis=-1, num_outputs=2)
        silu = g.op(
            "QuickGelu", [f"{at}gate"], f"{at}silu", contrib=True, alpha=1.0
        )  # x * sigmoid(alpha * x): SiLU at 1
        skip = g.linear(
            g.op("Mul", [silu, f"{at}up"], f"{at}gated"), f"{at}down", w[f"{at}mlp.down_proj.weight"]
        )
    y, _ = g.norm("model.norm", x, skip, w["model.norm.weight"])
    return y, half


def tables_of(w: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What the layers read of tokens with their places: rows of three kinds of tables (.., D), summed; and
    where the table starts that each number of a token with its place looks into, int32 (WIDTH,). What a copy
    says is the row of its token turned by a matrix, worked out here for every token; token 0 and entry 0 say
    nothing."""
    embedding, places = w[EMBEDDING], w["model.embed_places.weight"].copy()
    places[0] = 0
    vocabulary = len(embedding)
    tables = [embedding]
    for i in range(COPIES):
        table = embedding @ w[f"model.copies.{i}.weight"].T
        table[0] = 0
        tables.append(table)
    starts = np.zeros(WIDTH, dtype=np.int32)
    starts[1 : 1 + COPIES] = vocabulary * np.arange(1, 1 + COPIES)
    starts[1 + COPIES :] = vocabulary * (1 + COPIES)
    return np.concatenate([*tables, places]), starts


def _embedded(g: _Graph, w: Mapping[str, np.ndarray]) -> str:
    tables, starts = tables_of(w)
    table = g.constant("tables", tables)
    rows = g.op("Add", ["placed", g.constant("table_starts", starts)], "rows")
    found = g.op("Gather", [table, rows], "looked_up")  # (B, T, WIDTH, D)
    # summed by a product of one row: ReduceSum adds in another order where other rows are beside it
    ones = g.constant("ones", np.ones((1, WIDTH), dtype=np.float32))
    total = g.op("MatMul", [ones, found], "summed")  # (B, T, 1, D)
    return g.op("Squeeze", [total, g.constant("places", np.array([2]))], "embedded")


def _model(
    g: _Graph, config: NetworkConfig, more: list[onnx.ValueInfoProto], out: Mapping[str, Shape]
) -> bytes:
    """more: inputs beside those that every graph has, first what is read; out: outputs of floats."""
    value = helper.make_tensor_value_info
    inputs = [
        more[0],
        value("seqlens", TensorProto.INT32, ["B"]),
        value("total", TensorProto.INT32, []),
        *more[1:],
    ]
    outputs = [value(name, TensorProto.FLOAT, shape) for name, shape in out.items()]
    graph = helper.make_graph(g.nodes, "decoder", inputs, outputs, g.constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    helper.set_model_props(
        model,
        {
            "context": str(config.context),
            "heads": str(config.heads),
            "layers": str(config.layers),
            "width": str(config.width),
        },
    )
    return bytes(model.SerializeToString())
