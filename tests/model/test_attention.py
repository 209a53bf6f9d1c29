"""The switch is believed for no family: each is probed, and the probe itself is tried on planted faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import BIDIRECTIONAL_FAMILIES, FAMILIES, tiny_model
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM

from selfembed.errors import InputError
from selfembed.model.attention import LAYOUTS, probe_attention, require_attention, set_attention

ABSOLUTE_POSITIONS = ("gpt2", "gpt_neo")


def plant(model: nn.Module, fault: Callable[[Tensor], Tensor]) -> None:
    """Make the first decoder layer of a Llama add `fault(hidden_BTD)` to what it gives."""

    def hook(module: nn.Module, args: object, output: Tensor) -> Tensor:
        return output + fault(output)

    model.get_decoder().layers[0].register_forward_hook(hook)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoder_is_causal_as_it_comes(family: str) -> None:
    probe = probe_attention(tiny_model(family))
    assert probe.verdict == "causal"
    assert probe.cases == dict.fromkeys(LAYOUTS, False)
    assert probe.right_padding_invariant
    assert probe.left_padding_invariant == (family not in ABSOLUTE_POSITIONS)


@pytest.mark.parametrize("family", BIDIRECTIONAL_FAMILIES)
def test_a_decoder_becomes_bidirectional_and_causal_again(family: str) -> None:
    model = tiny_model(family)
    assert model.config._attn_implementation == ("eager" if family == "gemma2" else "sdpa")
    probe = require_attention(model, "bidirectional")
    assert model.config.is_causal is False
    assert probe.cases == dict.fromkeys(LAYOUTS, True)
    assert probe.right_padding_invariant
    assert probe.left_padding_invariant == (family not in ABSOLUTE_POSITIONS)
    assert require_attention(model, "causal").verdict == "causal"


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gpt2", "stablelm"])
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_the_verdict_does_not_hang_on_precision_or_scale(family: str, attention: str) -> None:
    model = tiny_model(family, initializer_range=0.02).to(torch.bfloat16)
    assert require_attention(model, attention).right_padding_invariant


@pytest.mark.parametrize("family", BIDIRECTIONAL_FAMILIES)
def test_eager_attention_obeys_too(family: str) -> None:
    model = tiny_model(family)
    model.set_attn_implementation("eager")
    require_attention(model, "bidirectional")


def test_gpt_neo_ignores_the_switch_and_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"backbone gpt_neo \(GPTNeoForCausalLM\): is causal under eager") as refusal:
        require_attention(tiny_model("gpt_neo"), "bidirectional")
    message = str(refusal.value)
    assert all(layout in message for layout in LAYOUTS)
    assert "use `attention='causal'` or another backbone" in message
    assert "\n" not in message


def test_stablelm_needs_the_flag_on_its_modules() -> None:
    model = tiny_model("stablelm")
    model.config.is_causal = False
    probe = probe_attention(model)
    assert probe.verdict == "partial"
    assert probe.cases == {"no_mask": False, "no_padding": False, "right_padding": True, "left_padding": True}
    require_attention(model, "bidirectional")


def test_the_cure_of_stablelm_is_not_saved_and_the_probe_says_so(tmp_path: Path) -> None:
    tiny_model("stablelm", bidirectional=True).save_pretrained(tmp_path)
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert probe_attention(reloaded).verdict == "partial"
    require_attention(reloaded, "bidirectional")


def test_eager_is_advised_where_only_the_kernel_disobeys() -> None:
    model = tiny_model("stablelm")
    for module in model.modules():
        if hasattr(module, "is_causal"):
            del module.is_causal  # without the flag the kernel takes itself for causal
    with pytest.raises(InputError, match="partial under sdpa .*no_mask, no_padding.*attn_implementation='eager'"):
        require_attention(model, "bidirectional")
    assert model.config._attn_implementation == "sdpa"


def test_a_leak_of_the_whole_text_is_caught() -> None:
    model = tiny_model("llama")
    plant(model, lambda hidden_BTD: hidden_BTD.mean(1, keepdim=True))
    probe = probe_attention(model)
    assert probe.verdict == "bidirectional"
    assert not probe.right_padding_invariant
    assert not probe.left_padding_invariant
    with pytest.raises(InputError, match=r"llama \(LlamaForCausalLM\): .*; expected causal attention"):
        require_attention(model, "causal")


@pytest.mark.parametrize("size", [1.0, 1e-4])
def test_a_leak_by_one_token_is_caught(size: float) -> None:
    model = tiny_model("llama")
    plant(model, lambda hidden_BTD: size * hidden_BTD.roll(-1, 1))
    probe = probe_attention(model)
    assert probe.verdict == "partial"
    assert all(probe.cases.values())
    with pytest.raises(InputError, match="use another backbone"):
        require_attention(model, "causal")


def test_a_leak_in_batches_alone_is_caught() -> None:
    model = tiny_model("llama")
    plant(model, lambda hidden_BTD: hidden_BTD.mean(1, keepdim=True) * (len(hidden_BTD) > 1))
    probe = probe_attention(model)
    assert probe.verdict == "partial"
    assert [layout for layout, leaks in probe.cases.items() if leaks] == ["right_padding", "left_padding"]


def test_padding_that_leaks_like_a_convolution_is_caught() -> None:
    model = tiny_model("llama")

    def previous(hidden_BTD: Tensor) -> Tensor:
        return nn.functional.pad(hidden_BTD, (0, 0, 1, 0))[:, :-1]

    plant(model, previous)
    probe = probe_attention(model)
    assert probe.verdict == "causal"
    assert probe.right_padding_invariant
    assert not probe.left_padding_invariant


def test_a_window_narrower_than_the_text_is_partial() -> None:
    model = tiny_model("mistral", sliding_window=4)
    assert probe_attention(model).verdict == "causal"
    with pytest.raises(InputError, match="reaches only part of the text"):
        require_attention(model, "bidirectional")


def test_a_blind_probe_says_so() -> None:
    model = tiny_model("llama")
    for layer in model.model.layers:
        nn.init.zeros_(layer.self_attn.o_proj.weight)
    with pytest.raises(InputError, match="no token sees the first"):
        probe_attention(model)


def test_states_that_are_not_finite_are_no_verdict() -> None:
    model = tiny_model("llama")
    plant(model, lambda hidden_BTD: hidden_BTD * float("nan"))
    with pytest.raises(InputError, match="not finite"):
        probe_attention(model)


def test_the_switch_is_saved_with_the_model(tiny_backbone_dir: Path, tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(tiny_backbone_dir)
    require_attention(model, "bidirectional")
    model.save_pretrained(tmp_path)
    assert probe_attention(AutoModel.from_pretrained(tmp_path)).verdict == "bidirectional"
    assert probe_attention(AutoModel.from_pretrained(tiny_backbone_dir)).verdict == "causal"


def test_an_unknown_attention_is_refused() -> None:
    with pytest.raises(InputError, match="attention 'both': expected 'causal' or 'bidirectional'"):
        set_attention(tiny_model("llama"), "both")


def test_probing_leaves_no_trace() -> None:
    model = tiny_model("llama", bidirectional=True).train()
    model.model.layers[1].eval()
    modes = [module.training for module in model.modules()]
    settings = model.config.to_dict()
    random_state = torch.get_rng_state()
    first, second = probe_attention(model), probe_attention(model)
    assert first == second
    assert [module.training for module in model.modules()] == modes
    assert model.config.to_dict() == settings
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("with_head", [True, False], ids=["causal_lm", "bare"])
@pytest.mark.parametrize("family", ["llama", "stablelm", "opt"])
def test_bare_and_adapted_models_are_switched_too(family: str, with_head: bool) -> None:
    model = tiny_model(family)
    model = model if with_head else model.base_model
    assert require_attention(model, "bidirectional").verdict == "bidirectional"
    task = "CAUSAL_LM" if with_head else "FEATURE_EXTRACTION"
    adapted = get_peft_model(model, LoraConfig(task_type=task, r=2, target_modules=["q_proj", "v_proj"]))
    assert probe_attention(adapted).verdict == "bidirectional"
    require_attention(adapted, "causal")
    require_attention(adapted, "bidirectional")
    assert adapted.get_base_model().config.is_causal is False


def test_a_refused_adapted_model_is_named_by_its_own_class() -> None:
    adapted = get_peft_model(tiny_model("gpt_neo"), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    with pytest.raises(InputError, match=r"gpt_neo \(GPTNeoForCausalLM\)"):
        require_attention(adapted, "bidirectional")
