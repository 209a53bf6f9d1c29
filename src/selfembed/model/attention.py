"""Attention, causal or bidirectional: sets it in a decoder, and proves by its behaviour that it is set.

The switch is transformers' own: `config.is_causal`. Some families heed it only in part, or not at all, and do not say
so; therefore the switch is never trusted. The probe replaces the last token of a text and looks at the hidden
states of the tokens before it. They may move only if attention is bidirectional.

Shapes: B batch, T tokens, D hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from transformers import PreTrainedModel

from selfembed.errors import InputError
from selfembed.ground.options import check_value

Attention = Literal["causal", "bidirectional"]
Verdict = Literal["causal", "bidirectional", "partial"]
Layout = Literal["no_mask", "no_padding", "right_padding", "left_padding"]

# Without padding transformers drops the mask and lets the kernel's own causal flag decide: another path, other bugs.
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
LENGTHS = (12, 9, 6)
# In one row the same kernel on the same shapes gives the same bits, so even a change this small is information.
SMALLEST_CHANGE = 1e-6


@dataclass(frozen=True)
class AttentionProbe:
    """What the leak probe found.

    Attributes:
        verdict: "bidirectional" if, in every layout, the first token of every text sees the last one; "causal" if no
            token ever sees a later one; "partial" for anything in between. In a hybrid one bidirectional layer is
            enough for "bidirectional"; its convolutions may still be causal.
        cases: Whether some token sees a later one, by layout.
        right_padding_invariant: Whether a text has the same hidden states alone and padded on the right, whatever the
            padding token.
        left_padding_invariant: Whether this holds on the left too, without explicit `position_ids`. It does not for
            models that count absolute positions from the first column (GPT-2, GPT-Neo): pad those on the right.
    """

    verdict: Verdict
    cases: dict[str, bool]
    right_padding_invariant: bool
    left_padding_invariant: bool


def set_attention(model: PreTrainedModel, attention: Attention) -> None:
    """Asks a decoder for causal or bidirectional attention, in place; `require_attention` also proves that it obeys.

    Sets `config.is_causal`, which is saved with the model, and the flag of the same name on the decoder's attention
    modules, which is not saved but which some families (StableLM, Nemotron) hand to the kernel instead.

    Args:
        model: Any transformers decoder, with or without its LM head, also wrapped by peft.
        attention: The attention that is wanted.

    Raises:
        InputError: `attention` is neither "causal" nor "bidirectional".
    """
    check_value("attention", attention, Attention)
    is_causal = attention == "causal"
    for config in (model.config, model.config.get_text_config()):
        config.is_causal = is_causal
    # only the text decoder: a vision tower is bidirectional whatever we ask for
    for module in model.get_decoder().modules():
        is_cross_attention = getattr(module, "is_cross_attention", False)
        if isinstance(getattr(module, "is_causal", None), bool) and not is_cross_attention:
            module.is_causal = is_causal


def probe_attention(model: PreTrainedModel) -> AttentionProbe:
    """Finds out by behaviour which attention a decoder has; changes neither its configuration nor its mode.

    It takes some two dozen forward passes over at most 27 tokens each. A change of hidden states counts if it is
    larger than what other neighbours in the batch cause: nothing in most models, something in mixtures of experts.

    Args:
        model: Any transformers decoder, with or without its LM head, also wrapped by peft.

    Returns:
        The verdict, what each layout showed, and whether padding is harmless.

    Raises:
        InputError: Hidden states are not finite, or no token sees the first one, so that the probe cannot tell one
            attention from the other.
    """
    texts = _random_texts(model)
    new_last = [_replace(ids_T, -1) for ids_T in texts]
    new_first = [_replace(ids_T, 0) for ids_T in texts]
    with _evaluating(model):
        before = {layout: _states(model, texts, layout) for layout in LAYOUTS}
        new_neighbours = _states(model, [texts[0], *new_last[1:]], "right_padding")
        noise = _change(before["right_padding"][0], new_neighbours[0]).max().item()
        smallest = max(SMALLEST_CHANGE, 10 * noise)

        cases: dict[str, bool] = {}
        seen: list[bool] = []
        for layout in LAYOUTS:
            after_last = _states(model, new_last, layout)
            after_first = _states(model, new_first, layout)
            if any(_change(a, b)[1:].max() <= smallest for a, b in zip(before[layout], after_first, strict=True)):
                raise InputError(
                    f"backbone {_name(model)}: no token sees the first one ({layout}), so the probe cannot tell causal"
                    f" from bidirectional; expected trained weights; load those, or in float32 (now {model.dtype})"
                )
            leaks = [_change(a, b)[:-1] > smallest for a, b in zip(before[layout], after_last, strict=True)]
            cases[layout] = any(bool(leak_T.any()) for leak_T in leaks)
            seen += [bool(leak_T[0]) for leak_T in leaks]

        invariant: dict[Layout, bool] = {}
        for layout in ("right_padding", "left_padding"):
            other_filler = _states(model, texts, layout, filler=1)
            leaks = [_change(a, b) > smallest for a, b in zip(before[layout], other_filler, strict=True)]
            leaky = any(bool(leak_T.any()) for leak_T in leaks)
            invariant[layout] = not leaky and _similar(before["no_padding"], before[layout])

    verdict: Verdict = "bidirectional" if all(seen) else "partial" if any(cases.values()) else "causal"
    return AttentionProbe(verdict, cases, invariant["right_padding"], invariant["left_padding"])


def require_attention(model: PreTrainedModel, attention: Attention) -> AttentionProbe:
    """Sets a decoder's attention and proves it, or refuses.

    Args:
        model: Any transformers decoder, with or without its LM head, also wrapped by peft.
        attention: The attention the model must have.

    Returns:
        The probe that proved it.

    Raises:
        InputError: The model does not behave as asked; the message names the model, the layouts that fail and what
            to do.
    """
    set_attention(model, attention)
    probe = probe_attention(model)
    if probe.verdict == attention:
        return probe
    wrong = [layout for layout, leaks in probe.cases.items() if leaks == (attention == "causal")]
    where = f"wrong in {', '.join(wrong)}" if wrong else "the last token reaches only part of the text"
    other = "bidirectional" if attention == "causal" else "causal"
    advice = f"use `attention={other!r}` or another backbone"
    if probe.verdict == "partial":
        advice = "use another backbone"
    if _eager_obeys(model, attention):
        advice = "load it with attn_implementation='eager', which obeys"
    implementation = getattr(model.config, "_attn_implementation", None)
    raise InputError(
        f"backbone {_name(model)}: is {probe.verdict} under {implementation} ({where}); "
        f"expected {attention} attention; {advice}"
    )


def _eager_obeys(model: PreTrainedModel, attention: Attention) -> bool:
    """Says whether the model would pass under eager attention; puts the implementation back."""
    implementation = getattr(model.config, "_attn_implementation", None)
    if implementation in (None, "eager"):
        return False
    model.set_attn_implementation("eager")
    try:
        return probe_attention(model).verdict == attention
    except InputError:
        return False
    finally:
        model.set_attn_implementation(implementation)


def _random_texts(model: PreTrainedModel) -> list[Tensor]:
    """Draws one text of ordinary token ids per entry of `LENGTHS`, always the same ones for the same vocabulary."""
    size = len(model.get_input_embeddings().weight)
    special = {
        value
        for key, value in model.config.get_text_config().to_dict().items()
        if key.endswith("_token_id") and isinstance(value, int)
    }
    # special tokens live at both ends of a vocabulary, words in the middle
    pool = torch.tensor([i for i in range(size // 4, size - size // 4) if i not in special])
    generator = torch.Generator().manual_seed(0)
    return [pool[torch.randint(len(pool), (length,), generator=generator)] for length in LENGTHS]


def _replace(ids_T: Tensor, position: int) -> Tensor:
    """Puts another of a text's own tokens at a position, so that the new id is an ordinary one too."""
    ids_T = ids_T.clone()
    others = ids_T[ids_T != ids_T[position]]
    ids_T[position] = others[len(others) // 2]
    return ids_T


def _states(model: PreTrainedModel, texts: list[Tensor], layout: Layout, filler: int = 0) -> list[Tensor]:
    """Computes the last hidden states of each text's own tokens, [T, D] each, under a layout.

    Padding is an ordinary token (number `filler` of the first text's), not the padding token, whose embedding may be
    zero and hide a leak; a model that heeds the mask does not mind.
    """
    if layout in ("no_mask", "no_padding"):
        return [
            _forward(model, ids_T[None], None if layout == "no_mask" else torch.ones(1, len(ids_T)).long())[0]
            for ids_T in texts
        ]
    longest = max(map(len, texts))
    on_left = layout == "left_padding"
    starts = [longest - len(ids_T) if on_left else 0 for ids_T in texts]
    ids_BT = texts[0].unique()[filler].repeat(len(texts), longest)
    mask_BT = torch.zeros_like(ids_BT)
    for row, (start, ids_T) in enumerate(zip(starts, texts, strict=True)):
        ids_BT[row, start : start + len(ids_T)] = ids_T
        mask_BT[row, start : start + len(ids_T)] = 1
    hidden_BTD = _forward(model, ids_BT, mask_BT)
    return [
        hidden_BTD[row, start : start + len(ids_T)]
        for row, (start, ids_T) in enumerate(zip(starts, texts, strict=True))
    ]


def _forward(model: PreTrainedModel, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
    device = model.get_input_embeddings().weight.device
    mask_BT = None if mask_BT is None else mask_BT.to(device)
    output = model(input_ids=ids_BT.to(device), attention_mask=mask_BT, use_cache=False, output_hidden_states=True)
    hidden_BTD: Tensor | None = getattr(output, "last_hidden_state", None)
    if hidden_BTD is None:
        hidden_BTD = output.hidden_states[-1]
    assert hidden_BTD is not None
    real_BTD = hidden_BTD if mask_BT is None else hidden_BTD[mask_BT.to(hidden_BTD.device).bool()]
    if not real_BTD.isfinite().all():
        raise InputError(
            f"backbone {_name(model)}: gives hidden states that are not finite; expected numbers; "
            "try attn_implementation='eager'"
        )
    return hidden_BTD


def _change(before_TD: Tensor, after_TD: Tensor) -> Tensor:
    """Computes how far each token's state moved, relative to its length, [T]."""
    before_TD, after_TD = before_TD.float(), after_TD.float()
    moved_T: Tensor = (after_TD - before_TD).norm(dim=-1) / before_TD.norm(dim=-1).clamp_min(1e-30)
    return moved_T


def _similar(alone: list[Tensor], padded: list[Tensor]) -> bool:
    """Says whether states agree in half of the significant digits (3e-4 float32, 0.09 bfloat16).

    Of each text the median token counts: in bfloat16 the first token of a decoder turned bidirectional but not yet
    trained moves by 0.26 (SmolLM2-135M) where the others move by 0.04.
    """
    tolerance = torch.finfo(alone[0].dtype).eps ** 0.5
    return all(bool(_change(a, b).median() <= tolerance) for a, b in zip(alone, padded, strict=True))


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Sets evaluation mode without gradients; every module gets its own mode back."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def _name(model: PreTrainedModel) -> str:
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    return f"{model.config.model_type} ({type(bare).__name__})"
