"""Masked next-token prediction: a bidirectional decoder learns to use what comes after a word (LLM2Vec).

Some tokens of a text are masked. The hidden state at the position before a masked one, which a causal language model
predicts that token from, shall decode to the token that was there.

Shapes: B batch, T tokens, P masked positions (over the whole batch), D hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from selfembed.errors import InputError
from selfembed.ground.options import Range, check_options
from selfembed.losses.divergence import chunked_cross_entropy
from selfembed.losses.token_target import finite
from selfembed.model.prompt import PromptIds

LLM2VEC = """\
@inproceedings{llm2vec,
    title = {{LLM2Vec}: Large Language Models Are Secretly Powerful Text Encoders},
    author = {Parishad BehnamGhader and Vaibhav Adlakha and Marius Mosbach and Dzmitry Bahdanau and Nicolas Chapados
        and Siva Reddy},
    booktitle = {Conference on Language Modeling},
    year = {2024},
}"""

Style = Literal["bert", "all"]
_MASKED, _RANDOM = 0.8, 0.1  # of the predicted tokens, in BERT's style; the others stay as they are


@dataclass(frozen=True, kw_only=True)
class MaskedNextTokenOptions:
    """Which tokens are predicted, and what stands in their place.

    Args:
        rate: Share of a text's tokens that are predicted, on average.
        style: `"bert"`: of the predicted tokens 80 % are masked, 10 % replaced by a token drawn from the vocabulary
            and 10 % left as they are; `"all"`: all are masked.
        mask_token: Token of the vocabulary that stands for a masked one; decoders have no token of this kind.

    Raises:
        InputError: A value is of another kind, outside its range or not among its choices.

    References:
        LLM2Vec, arXiv 2404.05961: 0.2 in BERT's style for Llama models; 0.8, all masked, for Mistral; `_`.
    """

    rate: Annotated[float, Range(above=0, below=1, example="0.2")] = 0.2
    style: Style = "bert"
    mask_token: str = "_"

    def __post_init__(self) -> None:
        check_options(self)

    def choose(self, first: int, last: int, random: np.random.Generator) -> list[int]:
        """Draws the predicted positions from `first` to before `last`: each with the rate, at least one.

        Raises:
            ValueError: There is no position to draw.
        """
        chosen = (first + np.flatnonzero(random.random(last - first) < self.rate)).tolist()
        return chosen or [int(random.integers(first, last))]

    def replacement(self, token: int, *, mask_id: int, vocab_size: int, random: np.random.Generator) -> int:
        """Draws what stands in the place of a predicted token."""
        draw = random.random()
        if self.style == "all" or draw < _MASKED:
            return mask_id
        return int(random.integers(vocab_size)) if draw < _MASKED + _RANDOM else token


def mask_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """Finds the id of the token that masks others.

    Raises:
        InputError: The vocabulary has no token of this name.
    """
    found: int | None = tokenizer.get_vocab().get(token)
    if found is None:
        raise InputError(
            f"mask_token {token!r}: not in the vocabulary of {len(tokenizer)} tokens; expected one that is; "
            "name a token that texts seldom have"
        )
    return found


def maskable(ids_T: list[int] | Tensor, prompt: PromptIds) -> tuple[int, int]:
    """Finds the first position that can be predicted and the one after the last: in the text, with one before it."""
    return max(1, len(prompt.before)), len(ids_T) - len(prompt.after)


class MaskedNextTokenLoss(nn.Module):
    """Mean cross-entropy of masked tokens, each predicted from the hidden state at the position before it.

    A text is a document by itself: no text sees another. What is masked is drawn from `seed` and the label, whatever
    the batch, so that a text seen again under another label is masked elsewhere. Prompt and memory tokens are neither
    masked nor predicted, nor is a token at the very beginning, which has no position before it.

    Args:
        model: An embedder with bidirectional attention.
        head: The backbone's frozen decoder layer.
        options: How many tokens are masked, and how; None takes the defaults.
        mask_id: Id of the mask token.
        prompt: Ids that stand before and after every text.
        vocab_size: Number of tokens that replacements are drawn from.
        seed: Seed for what is masked.

    References:
        LLM2Vec, arXiv 2404.05961, §2.2.

    Inputs:
        +-------+----------------------------------------------------+
        | Texts | Labels                                             |
        +=======+====================================================+
        | text  | a number; with the seed it decides what is masked  |
        +-------+----------------------------------------------------+
    """

    def __init__(
        self,
        model: SentenceTransformer,
        head: nn.Module,
        options: MaskedNextTokenOptions | None = None,
        *,
        mask_id: int,
        prompt: PromptIds,
        vocab_size: int,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.head = head
        self.options = options or MaskedNextTokenOptions()
        self.mask_id = mask_id
        self.prompt = prompt
        self.vocab_size = vocab_size
        self.seed = seed

    def forward(self, sentence_features: list[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Computes the mean cross-entropy over the masked tokens of a batch in nats, a float32 scalar.

        Raises:
            TrainingDiverged: The loss is not a finite number.
            ValueError: A text has no token that can be masked.
        """
        features = sentence_features[0]
        ids_BT, mask_BT = features["input_ids"], features["attention_mask"]
        masked_BT, row_P, position_P = self.mask(ids_BT, mask_BT.sum(1).tolist(), labels.tolist())
        hidden_BTD = self.model({**features, "input_ids": masked_BT})["token_embeddings"]
        before_PD = hidden_BTD[row_P, position_P - 1]
        return finite(chunked_cross_entropy(before_PD, ids_BT[row_P, position_P], self.head).mean())

    def mask(self, ids_BT: Tensor, lengths: list[int], numbers: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Replaces some ids; gives the new ids, and row and position of each that is predicted.

        Args:
            ids_BT: Ids, padded on the right.
            lengths: Number of tokens of each text, prompt included.
            numbers: Label of each text.

        Returns:
            `masked_BT`, `row_P` and `position_P`.
        """
        masked_BT = ids_BT.clone()
        found: list[tuple[int, int]] = []
        for row, (length, number) in enumerate(zip(lengths, numbers, strict=True)):
            random = np.random.default_rng((self.seed, number))
            first, last = maskable(ids_BT[row, :length], self.prompt)
            for position in self.options.choose(first, last, random):
                masked_BT[row, position] = self.options.replacement(
                    int(ids_BT[row, position]), mask_id=self.mask_id, vocab_size=self.vocab_size, random=random
                )
                found.append((row, position))
        row_P, position_P = torch.tensor(found, device=ids_BT.device).T
        return masked_BT, row_P, position_P

    def get_config_dict(self) -> dict[str, Any]:
        return {"rate": self.options.rate, "style": self.options.style, "mask_token": self.options.mask_token}

    @property
    def citation(self) -> str:
        return LLM2VEC
