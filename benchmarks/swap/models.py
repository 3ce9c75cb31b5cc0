"""The models: small ones, of the kinds that people have. Those of transformers are left out where it is not installed."""

import importlib.util
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.swap import tasks
from benchmarks.swap.tasks import CHARACTERS, LENGTH, Task


class Case(NamedTuple):
    """build(width) -> the model; steps: how many an ordinary run takes."""

    build: Callable[[int], nn.Module]
    task: Callable[[], Task]
    width: int = 32
    steps: int = 100


# ---- of plain torch


def mlp(inputs: int, outputs: int) -> Callable[[int], nn.Module]:
    def build(width: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, outputs)
        )  # fmt: skip

    return build


class Block(nn.Module):
    """A block of an MLP-mixer: along the tokens, then along the channels."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.along_tokens = nn.Sequential(nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens))
        self.along_channels = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.along_tokens(self.norms[0](x).mT).mT
        return x + self.along_channels(self.norms[1](x))


class Mean(nn.Module):
    """Over the tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def mixer(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(8, width), Block(8, width), Block(8, width), nn.LayerNorm(width), Mean(), nn.Linear(width, 10))


def encoder(width: int) -> nn.Module:
    layers = [nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True) for _ in range(2)]
    return nn.Sequential(nn.Linear(8, width), *layers, Mean(), nn.Linear(width, 10))


def pointwise(width: int) -> nn.Module:
    """Depthwise convolutions and 1x1 ones, as in MobileNet."""
    parts: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1)]
    for _ in range(2):
        depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        parts += [depthwise, nn.BatchNorm2d(width), nn.Conv2d(width, width, 1), nn.SiLU()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, 10))


class Recurrent(nn.Module):
    """An LSTM with a head of two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, CHARACTERS))

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(input_ids))[0])


CASES = {
    "MLP, Friedman 1": Case(mlp(10, 1), tasks.friedman, 64, 1000),
    "MLP, diabetes": Case(mlp(10, 1), tasks.diabetes, 64, 100),
    "MLP, digits": Case(mlp(64, 10), lambda: tasks.digits((64,)), 64, 100),
    "mixer, digits": Case(mixer, lambda: tasks.digits((8, 8))),
    "TransformerEncoder, digits": Case(encoder, lambda: tasks.digits((8, 8))),
    "1x1 convolutions, digits": Case(pointwise, tasks.digits),
    "LSTM, text": Case(Recurrent, tasks.next_characters),
}

# ---- of transformers


def _of(name: str, **settings: Any) -> Callable[[int], nn.Module]:
    """settings may be functions of the width."""

    def build(width: int) -> nn.Module:
        cls = getattr(_transformers(), name)
        return cls(cls.config_class(**{key: value(width) if callable(value) else value for key, value in settings.items()}))

    return build


def _transformers() -> Any:
    sys.modules.setdefault("kernels", None)  # type: ignore[arg-type]  # else it takes our folder for the package of that name
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers


def one(width: int) -> int:
    return width


def two(width: int) -> int:
    return 2 * width


BODY: dict[str, Any] = {"hidden_size": one, "intermediate_size": two, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = BODY | {"vocab_size": CHARACTERS, "num_key_value_heads": 2, "max_position_embeddings": LENGTH}
GPT2: dict[str, Any] = {"n_embd": one, "n_layer": 2, "n_head": 4, "vocab_size": CHARACTERS, "n_positions": LENGTH}
T5: dict[str, Any] = {"d_model": one, "d_ff": two, "num_layers": 2, "num_heads": 4, "d_kv": lambda width: width // 4}
WHISPER: dict[str, Any] = {
    "d_model": one, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": two, "decoder_ffn_dim": two, "vocab_size": 60, "num_mel_bins": 8, "max_source_positions": 12,
    "max_target_positions": 12, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 4,
}  # fmt: skip
MORE = {
    "Llama, text": Case(_of("LlamaForCausalLM", **LLAMA), lambda: tasks.text(tasks.causal)),
    "Mixtral, text": Case(_of("MixtralForCausalLM", **LLAMA, num_local_experts=4), lambda: tasks.text(tasks.causal)),
    "GPT-2, text": Case(_of("GPT2LMHeadModel", **GPT2), lambda: tasks.text(tasks.causal)),
    "BERT, text": Case(_of("BertForMaskedLM", **BODY, vocab_size=CHARACTERS + 1), lambda: tasks.text(tasks.masked)),
    "T5, text": Case(
        _of("T5ForConditionalGeneration", **T5, vocab_size=CHARACTERS + 1, decoder_start_token_id=0),
        lambda: tasks.text(tasks.halves),
    ),
    "Whisper, patterns": Case(_of("WhisperForConditionalGeneration", **WHISPER), tasks.spoken, steps=250),
    "ViT, digits": Case(
        _of("ViTForImageClassification", **BODY, image_size=8, patch_size=2, num_channels=1, num_labels=10),
        tasks.digits_for_transformers,
    ),
}
if importlib.util.find_spec("transformers") is not None:
    CASES |= MORE


def built(case: Case, width: int, seed: int) -> nn.Module:
    """The model of a width, from a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return case.build(width)


def wide(case: Case, parameters: int) -> int:
    """The least width, in eighths of the case's, at which the model has so many parameters."""
    width = case.width
    while sum(p.numel() for p in built(case, width, 0).parameters()) < parameters:
        width += case.width // 4
    return width
