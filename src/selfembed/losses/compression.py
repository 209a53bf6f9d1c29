"""The losses of LLM2Comp: what a text says must come through a few memory vectors.

A text is split in two. The embedder compresses the first part, the *context*, into k memory vectors; the same weights,
as the frozen causal decoder they were, read those in the context's place. Compression by distillation (CTKD) asks that
the decoder then expects of the rest, the *continuation*, what it expects after the context itself; CT-NLL asks for the
continuation's own tokens; reconstruction (RC) for the context's.

Shapes: B batch, T tokens, K memory tokens, D hidden, P positions that are scored (over the whole batch).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from selfembed.errors import InputError
from selfembed.ground.options import Range, check_options
from selfembed.losses.divergence import chunked_cross_entropy, chunked_kl
from selfembed.losses.token_target import finite
from selfembed.model.memory_tokens import decoder_inputs, memory_embedding, memory_states
from selfembed.model.modes import decoder_states

LLM2COMP = """\
@article{llm2comp,
    title = {Learning to Compress: Unlocking the Potential of Large Language Models for Text Representation},
    journal = {arXiv preprint arXiv:2511.17129},
    year = {2025},
}"""

Task = Literal["distillation", "continuation", "reconstruction"]


@dataclass(frozen=True, kw_only=True)
class CompressionOptions:
    """Which compression task, and where texts are split.

    Args:
        task: `"distillation"` (CTKD: forward KL from the decoder on the whole text), `"continuation"` (CT-NLL) or
            `"reconstruction"` (RC).
        min_context: Least number of tokens of the context, bos included where the tokenizer writes one.
        min_continuation: Least number of tokens of the continuation. Shorter texts are counted and left out.
        word_length: Whether the decoder reads memory vectors scaled to the mean length of its words' input
            embeddings; a final hidden state is many times longer. Embeddings are not scaled.

    Raises:
        InputError: A value is of another kind, outside its range or not among its choices.

    References:
        LLM2Comp, arXiv 2511.17129; bounds of 10 tokens as in its code. `word_length` is ours.
    """

    task: Task = "distillation"
    min_context: Annotated[int, Range(least=1)] = 10
    min_continuation: Annotated[int, Range(least=1)] = 10
    word_length: bool = False

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def min_tokens(self) -> int:
        """Least number of tokens of a text that can be split."""
        return self.min_context + self.min_continuation

    def split(self, tokens: int, *, seed: int, row: int) -> int:
        """Draws how many tokens of a text are its context: uniform within the bounds, the same in every run.

        Args:
            tokens: Number of tokens of the text.
            seed: Seed of the run.
            row: Number of the text in the order of training.

        Raises:
            ValueError: The text is too short.
        """
        if tokens < self.min_tokens:
            raise ValueError(f"{tokens} tokens cannot be split into {self.min_context} and {self.min_continuation}")
        random = np.random.default_rng((seed, row))
        return int(random.integers(self.min_context, tokens - self.min_continuation, endpoint=True))


class CompressionLoss(nn.Module):
    """LLM2Comp's losses: the memory vectors of a context shall serve the decoder as the context itself does.

    Encoder, decoder and teacher are one copy of the weights: the embedder, and the same with its adapters off and its
    attention causal. Each sequence counts alike: mean over its scored positions, then over the batch. Where texts are
    split is drawn from `seed` and the label, so that a text seen again under another label is split elsewhere.

    Args:
        model: An embedder with memory tokens and without a prompt.
        head: The backbone's frozen decoder layer.
        options: The task and the bounds of the split; None takes the defaults.
        bos_id: The backbone's beginning-of-sequence token, which the decoder reads before the memory vectors.
        seed: Seed for the splits.

    Raises:
        InputError: The model has no memory tokens, or the backbone no beginning-of-sequence token.

    References:
        LLM2Comp, arXiv 2511.17129: forward KL at temperature 1 over the continuation and the position after it
        (CTKD), cross-entropy of the continuation (CT-NLL), cross-entropy of the context (RC).

    Inputs:
        +-------+-----------------------------------------------+
        | Texts | Labels                                        |
        +=======+===============================================+
        | text  | a number; with the seed it decides the split  |
        +-------+-----------------------------------------------+
    """

    def __init__(
        self,
        model: SentenceTransformer,
        head: nn.Module,
        options: CompressionOptions | None = None,
        *,
        bos_id: int | None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.head = head
        self.options = options or CompressionOptions()
        self.bos_id = require_bos(bos_id)
        self.seed = seed
        self.memory_embedding = [memory_embedding(model)]  # in a list: it is the model's, not a module of the loss

    def forward(self, sentence_features: list[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Computes the mean divergence or cross-entropy of a batch in nats, a float32 scalar.

        Raises:
            TrainingDiverged: The loss is not a finite number.
            ValueError: A text is shorter than the bounds of the split.
        """
        texts = self.text_ids(sentence_features[0])
        sites = [
            self.options.split(len(ids_T), seed=self.seed, row=row)
            for ids_T, row in zip(texts, labels.tolist(), strict=True)
        ]
        contexts = [ids_T[:site] for ids_T, site in zip(texts, sites, strict=True)]
        states_BKD = self.compress(contexts)
        if self.options.task == "reconstruction":
            read = [ids_T[int(ids_T[0] == self.bos_id) :] for ids_T in contexts]
        else:
            read = [ids_T[site:] for ids_T, site in zip(texts, sites, strict=True)]
        distilled = self.options.task == "distillation"
        # The last memory token's position predicts the first token read, that of the last token what comes after it.
        student_PD = self.decode(states_BKD, read, positions=[len(ids_L) + distilled for ids_L in read])
        weight_P = torch.cat([
            torch.full((len(ids_L) + distilled,), 1 / (len(ids_L) + distilled) / len(read)) for ids_L in read
        ]).to(student_PD.device)  # fmt: skip
        if distilled:
            loss_P = chunked_kl(student_PD, self.teach(texts, sites), self.head)
        else:
            loss_P = chunked_cross_entropy(student_PD, torch.cat(read), self.head)
        return finite((loss_P * weight_P).sum())

    def text_ids(self, features: dict[str, Tensor]) -> list[Tensor]:
        """Takes the ids of each text, with neither memory tokens nor padding."""
        ids_BT = features["input_ids"]
        memory = self.memory_embedding[0]
        memory_BT = (ids_BT >= memory.first_id) & (ids_BT < memory.first_id + memory.memory_tokens)
        text_BT = features["attention_mask"].bool() & ~memory_BT
        return [ids_T[text_T] for ids_T, text_T in zip(ids_BT, text_BT, strict=True)]

    def compress(self, contexts: list[Tensor]) -> Tensor:
        """Computes `states_BKD`: the embedder's memory vectors of contexts, as the decoder reads them."""
        memory = self.memory_embedding[0]
        ids_K = memory.first_id + torch.arange(memory.memory_tokens, device=contexts[0].device)
        features = self.model(padded([torch.cat([ids_T, ids_K]) for ids_T in contexts]))
        states_BKD = memory_states(self.model, features)
        if not self.options.word_length:
            return states_BKD
        return memory.word_length * nn.functional.normalize(states_BKD.float(), dim=-1)

    def decode(self, states_BKD: Tensor, read: list[Tensor], *, positions: list[int]) -> Tensor:
        """Computes `student_PD`: the decoder's final hidden states from the last memory token on, so many a text."""
        batch = padded(read)
        inputs_BTD = decoder_inputs(self.model, states_BKD, batch["input_ids"], bos_id=self.bos_id)
        before = inputs_BTD.shape[1] - batch["input_ids"].shape[1]
        mask_BT = nn.functional.pad(batch["attention_mask"], (before, 0), value=1)
        hidden_BTD = decoder_states(self.model, inputs_embeds=inputs_BTD, attention_mask=mask_BT)
        start = before - 1
        return torch.cat([row_TD[start : start + count] for row_TD, count in zip(hidden_BTD, positions, strict=True)])

    def teach(self, texts: list[Tensor], sites: list[int]) -> Tensor:
        """Computes `teacher_PD`: the raw decoder's final hidden states from the context's last token on."""
        with torch.no_grad():
            hidden_BTD = decoder_states(self.model, **padded(texts))
        parts = zip(hidden_BTD, texts, sites, strict=True)
        return torch.cat([hidden_TD[site - 1 : len(ids_T)] for hidden_TD, ids_T, site in parts])

    def state(self) -> dict[str, Tensor]:
        """Gives the memory vectors, which are in no adapter."""
        return {"memory": self.memory_embedding[0].memory.detach().cpu()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Takes back what :meth:`state` gave."""
        self.memory_embedding[0].memory.data.copy_(tensors["memory"])

    def get_config_dict(self) -> dict[str, Any]:
        return {"task": self.options.task, "memory_tokens": self.memory_embedding[0].memory_tokens}

    @property
    def citation(self) -> str:
        return LLM2COMP


def require_bos(bos_id: int | None) -> int:
    """Gives back the beginning-of-sequence token's id, which the decoder reads before the memory vectors.

    Raises:
        InputError: The tokenizer has no such token.
    """
    if bos_id is None:
        raise InputError(
            "tokenizer: no beginning-of-sequence token; expected one, which the decoder reads before memory vectors; "
            "use another backbone, or a recipe without compression"
        )
    return bos_id


def padded(rows: list[Tensor]) -> dict[str, Tensor]:
    """Pads rows of ids on the right to make a batch."""
    mask_BT = pad_sequence([torch.ones_like(ids_T) for ids_T in rows], batch_first=True)
    return {"input_ids": pad_sequence(rows, batch_first=True), "attention_mask": mask_BT}
