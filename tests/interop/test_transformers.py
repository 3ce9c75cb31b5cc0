"""Models of transformers, accelerate and peft: swapped, trained, saved and loaded. Tiny ones with random weights.

Run them where `pip install transformers accelerate peft` has been; elsewhere they are skipped.
"""

import importlib.util
import sys

import pytest
import torch
from torch import nn

import fastkan
from fastkan import KANLinear

if importlib.util.find_spec("transformers") is None:
    pytest.skip("needs transformers, which is not installed", allow_module_level=True)


@pytest.fixture(scope="module", autouse=True)
def no_package_kernels():
    """transformers would take the folder `kernels` of this repository for the package of that name."""
    before = sys.modules.get("kernels")
    sys.modules["kernels"] = None
    yield
    sys.modules.pop("kernels")
    if before is not None:
        sys.modules["kernels"] = before


@pytest.fixture(scope="module")
def hf(no_package_kernels):
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers


TOKENS = {"input_ids": torch.arange(10)[None]}
BOTH = TOKENS | {"decoder_input_ids": torch.arange(6)[None]}
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 60}
WHISPER = {
    "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "vocab_size": 60, "num_mel_bins": 8, "max_source_positions": 10,
    "max_target_positions": 12, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 4,
}  # fmt: skip

# model: (class, config, batch, blocks replaced, blocks refused)
MODELS = {
    "GPT2": ("GPT2LMHeadModel", {"n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 60, "n_positions": 32}, TOKENS, 8, 1),
    "Llama": ("LlamaForCausalLM", SMALL | {"num_key_value_heads": 1, "intermediate_size": 24}, TOKENS, 15, 0),
    "T5": (
        "T5ForConditionalGeneration",
        {"d_model": 16, "d_ff": 32, "num_layers": 2, "num_heads": 2, "d_kv": 8, "vocab_size": 60},
        BOTH,
        32,
        1,
    ),
    "Bert": ("BertForSequenceClassification", SMALL | {"intermediate_size": 32}, TOKENS, 14, 0),
    "Mixtral": (
        "MixtralForCausalLM",
        SMALL | {"num_key_value_heads": 1, "intermediate_size": 24, "num_local_experts": 4},
        TOKENS,
        9,
        0,
    ),
    "ViT": (
        "ViTForImageClassification",
        SMALL | {"intermediate_size": 32, "image_size": 8, "patch_size": 4},
        {"pixel_values": torch.randn(2, 3, 8, 8)},
        13,
        0,
    ),
    "Whisper": (
        "WhisperForConditionalGeneration",
        WHISPER,
        {"input_features": torch.randn(1, 8, 20), "decoder_input_ids": torch.arange(6)[None]},
        32,
        1,
    ),
}


def build(hf, name):
    cls, config, batch, *_ = MODELS[name]
    cls = getattr(hf, cls)
    return cls(cls.config_class(**config)).eval(), batch


@torch.no_grad()
def logits(model, batch):
    return model.eval()(**batch).logits


def step(model, batch):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model(**batch).logits.square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_swapped_trained_saved_and_loaded(hf, name, tmp_path):
    model, batch = build(hf, name)
    want = logits(model, batch)
    report = fastkan.replace_linear(model, calibrate=[batch])
    wanted = MODELS[name][-2:]
    if name == "Mixtral" and hf.__version__.startswith("4."):
        wanted = (35, 0)  # experts and routers were linear layers
    assert (len(report.replaced), len(report.refused)) == wanted
    assert set(report.refused.values()) <= {"its weight is tied to another module's"}
    assert (logits(model, batch) - want).abs().max() < 1e-5
    step(model, batch)
    layers = [module for module in model.modules() if isinstance(module, KANLinear)]
    assert any(layer.weight.grad is not None and layer.weight.grad[:, :-1].any() for layer in layers)
    want = logits(model, batch)
    model.save_pretrained(tmp_path)
    again = fastkan.from_pretrained(type(model), tmp_path)
    assert type(again) is type(model) and torch.equal(logits(again, batch), want)
    with pytest.raises(RuntimeError):  # it cannot pass for a model without KAN layers
        type(model).from_pretrained(tmp_path)


def test_auto_classes_bodies_and_heads(hf, tmp_path):
    model, batch = build(hf, "Llama")
    fastkan.replace_linear(model, "*.mlp.*")
    model.save_pretrained(tmp_path / "whole")
    auto = fastkan.from_pretrained(hf.AutoModelForCausalLM, tmp_path / "whole")
    assert type(auto) is hf.LlamaForCausalLM and torch.equal(logits(auto, batch), logits(model, batch))
    body = fastkan.from_pretrained(hf.AutoModel, tmp_path / "whole")
    with torch.no_grad():
        assert torch.equal(body(**batch)[0], model.model(**batch)[0])
    body.save_pretrained(tmp_path / "body")
    headed = fastkan.from_pretrained(hf.LlamaForCausalLM, tmp_path / "body")
    with torch.no_grad():
        assert torch.equal(headed.model(**batch)[0], body(**batch)[0])


def test_half_precision_leaves_the_knots(hf, tmp_path):
    model, batch = build(hf, "Llama")
    fastkan.replace_linear(model, calibrate=[batch])
    model.save_pretrained(tmp_path)
    half = fastkan.from_pretrained(type(model), tmp_path, dtype=torch.bfloat16)
    for layer, whole in zip(half.modules(), model.modules(), strict=True):
        if isinstance(layer, KANLinear):
            assert layer.weight.dtype == torch.bfloat16 and torch.equal(layer.knots, whole.knots)
    assert (logits(half, batch) - logits(model, batch)).abs().max() < 0.02


def test_a_refined_model_says_so_or_is_refused(hf, tmp_path):
    model, batch = build(hf, "Bert")
    fastkan.replace_linear(model)
    fastkan.refine(model, 8)
    model.save_pretrained(tmp_path)
    with pytest.raises(RuntimeError):
        fastkan.from_pretrained(type(model), tmp_path)
    with pytest.raises(RuntimeError, match=r"^path: expected files that fit .*fastkan.describe\(model\) and save again"):
        fastkan.from_pretrained(type(model), tmp_path, ignore_mismatched_sizes=True)
    model.config.fastkan = fastkan.describe(model)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(fastkan.from_pretrained(type(model), tmp_path), batch), logits(model, batch))


def test_a_model_without_an_entry_is_refused(hf, tmp_path):
    model, _ = build(hf, "Bert")
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="^path: expected a model whose config has an entry `fastkan`"):
        fastkan.from_pretrained(type(model), tmp_path)


@pytest.mark.parametrize("initialise", [False, True])
def test_a_new_head_is_initialised_or_says_that_it_is_not(hf, tmp_path, initialise):
    class Headed(hf.BertPreTrainedModel):
        def __init__(self, config):
            super().__init__(config)
            self.bert, self.head = hf.BertModel(config), KANLinear(config.hidden_size, 3)
            self.post_init()

        def _init_weights(self, module):
            super()._init_weights(module)
            if initialise and isinstance(module, KANLinear):
                module.reset_parameters()

        def forward(self, **batch):
            return self.head(self.bert(**batch)[0])

    model, batch = build(hf, "Bert")
    model.save_pretrained(tmp_path)
    headed = Headed.from_pretrained(tmp_path)
    if initialise:
        assert headed(**batch).isfinite().all() and torch.equal(headed.head.knots, KANLinear(16, 3).knots)
    elif headed.head.unset and not (headed.head.knots.diff(dim=1) > 0).all():  # its memory may hold another layer's knots
        with pytest.raises(RuntimeError, match="^knots: expected those of reset_parameters"):
            headed(**batch)


def test_accelerate(hf):
    accelerate = pytest.importorskip("accelerate", reason="needs accelerate, which is not installed")
    with accelerate.init_empty_weights():
        layer = KANLinear(3, 4)
    assert layer.weight.is_meta and torch.equal(layer.knots, KANLinear(3, 4).knots)
    with accelerate.init_empty_weights(include_buffers=True):
        layer = KANLinear(3, 4)
    assert layer.knots.is_meta and layer.unset
    model = accelerate.cpu_offload(nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)))
    report = fastkan.replace_linear(model)
    reason = "accelerate's hook moves its weights (device_map, cpu_offload); replace first, then dispatch"
    assert not report.replaced and report.refused == dict.fromkeys(["0", "2"], reason)
    assert model(torch.randn(2, 3)).shape == (2, 2)


# ---- peft


@pytest.fixture(scope="module")
def peft(hf):
    return pytest.importorskip("peft", reason="needs peft, which is not installed")


ADAPTERS = {
    "LoRA on the linear blocks that are left": {"target_modules": ["q_proj", "v_proj"]},
    "KAN layers trained whole": {"target_modules": ["q_proj"], "modules_to_save": ["down_proj"]},
    "LoRA on the weights of KAN layers": {"target_modules": [], "target_parameters": ["down_proj.weight"]},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("settings", ADAPTERS.values(), ids=list(ADAPTERS))
def test_lora_on_a_swapped_model(hf, peft, settings, tmp_path):
    model, batch = build(hf, "Llama")
    fastkan.replace_linear(model, "*.mlp.*", calibrate=[batch])
    want = logits(model, batch)
    model.save_pretrained(tmp_path / "model")
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, **settings))
    assert torch.equal(logits(adapted, batch), want)
    step(adapted, batch)
    trained = logits(adapted, batch)
    assert not torch.equal(trained, want)
    adapted.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(fastkan.from_pretrained(type(model), tmp_path / "model"), tmp_path / "adapter")
    assert torch.equal(logits(again, batch), trained)
    merged = adapted.merge_and_unload()
    assert isinstance(merged.model.layers[0].mlp.down_proj, KANLinear)
    torch.testing.assert_close(logits(merged, batch), trained, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_blocks_inside_adapters_are_refused_one_by_one(hf, peft):
    model, batch = build(hf, "Llama")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    adapted = peft.get_peft_model(model, config)
    want = logits(adapted, batch)
    report = fastkan.replace_linear(adapted)
    assert len(report.refused) == 2 * 3 + 2
    assert {reason.partition("; ")[2] for reason in report.refused.values()} == {
        "call replace_linear(model) first, then get_peft_model"
    }
    assert len(report.replaced) == 12 and not hasattr(model.config, "fastkan")
    torch.testing.assert_close(logits(adapted, batch), want, rtol=0, atol=1e-5)
