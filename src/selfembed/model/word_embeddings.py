"""Tokens' final hidden states together with their input embeddings, by a module of sentence-transformers' own.

A decoder's final state says what comes next; which words a text is made of stands in the input embeddings. The sum of
both, averaged over a text and whitened, finds more than either (docs/log.md).

Shapes: T tokens, D hidden, L layers.
"""

from __future__ import annotations

import torch
from sentence_transformers.sentence_transformer.modules import Transformer, WeightedLayerPooling
from torch import Tensor, nn

# Any text will do; its first token is left out, since many decoders keep a state of its own size there.
_PROBE = "The council of the old harbour town met on Tuesday to speak about the new bridge over the river."


def word_and_state(transformer: Transformer, share: float) -> WeightedLayerPooling:
    """Makes the module that gives every token its final hidden state plus `share` times its input embedding.

    Both count at their root mean square over the tokens of a short text, so that at 1 they weigh the same in any
    decoder. The weights are divided by their sum, which changes the embedding's length alone.

    Args:
        transformer: The decoder, whose configuration has `output_hidden_states` on.
        share: The weight of the input embeddings, above 0.

    Returns:
        The module, its weights of all L + 1 layers fixed: those of the layers in between are 0.

    References:
        Input embeddings averaged over a text: Arora et al. 2017 (SIF). Mixing layers: Peters et al. 2018 (ELMo). The
        sum of these two layers is ours.
    """
    model = transformer.model
    ids = transformer.tokenizer(_PROBE, add_special_tokens=False, return_tensors="pt")["input_ids"].to(model.device)
    training = model.training
    model.eval()
    with torch.no_grad():
        states = model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    model.train(training)
    weights_L = torch.zeros(len(states))
    weights_L[0] = share * root_mean_square(states[-1][0, 1:]) / root_mean_square(states[0][0, 1:])
    weights_L[-1] = 1.0
    return WeightedLayerPooling(
        transformer.get_embedding_dimension(),
        num_hidden_layers=len(states) - 1,
        layer_start=0,
        layer_weights=nn.Parameter(weights_L, requires_grad=False),
    )


def root_mean_square(states_TD: Tensor) -> float:
    """Gives the root mean square of all entries."""
    return float(states_TD.float().square().mean().sqrt())
