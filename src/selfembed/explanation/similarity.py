"""Why two texts are similar, in words: the part of their vocabulary distributions that they share.

Shapes: D hidden, V vocabulary, W words (tokens that differ in case and leading space only are one word).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import nn
from transformers import PreTrainedTokenizerBase

from selfembed.encoding.encode import encode
from selfembed.explanation.aligned_tokens import bare
from selfembed.explanation.checks import require_decodable, require_texts
from selfembed.ground.page import shorten

# Smaller contributions read 0.000 on a terminal.
_SHOWN = 5e-4


@dataclass(frozen=True, kw_only=True)
class WordShare:
    """The part of one word in the similarity or the difference of two texts.

    Attributes:
        word: The word as its likeliest token reads, without leading space.
        a: The word's probability under A's embedding, all variants of case and leading space together.
        b: The word's probability under B's embedding.
        contribution: The word's part of the total of the list it stands in.
    """

    word: str
    a: float
    b: float
    contribution: float


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """The similarity of two texts, taken apart by words; see :func:`explain_similarity` for what it means.

    `shared + only_a + only_b` is 1, and each is the sum of its words' contributions over the whole vocabulary.

    Attributes:
        text_a: The text A.
        text_b: The text B.
        cosine: The cosine of the two embeddings, -1 to 1.
        shared: The part that both say, 0 to 1: sum of sqrt(a b), the Bhattacharyya coefficient.
        only_a: The part that A says beyond B: sum of (sqrt(a) - sqrt(b))^2 / 2 over the words likelier under A.
        only_b: The part that B says beyond A.
        shared_words: The words with the largest contributions to `shared`, largest first.
        only_a_words: The words with the largest contributions to `only_a`, of those that set the texts apart more than
            they join them (A gives them at least 14 times B's probability).
        only_b_words: The same words for B.
    """

    text_a: str
    text_b: str
    cosine: float
    shared: float
    only_a: float
    only_b: float
    shared_words: tuple[WordShare, ...]
    only_a_words: tuple[WordShare, ...]
    only_b_words: tuple[WordShare, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def lines(self) -> list[str]:
        """Returns the lines for a terminal."""
        lines = [f"{name}: {shorten(text)}" for name, text in (("A", self.text_a), ("B", self.text_b))]
        lines.append(f"cosine {self.cosine:.3f}")
        lines.append(f"in words: {self.shared:.3f} shared + {self.only_a:.3f} only A + {self.only_b:.3f} only B = 1")
        for name, total, words in (
            ("shared", self.shared, self.shared_words),
            ("only A", self.only_a, self.only_a_words),
            ("only B", self.only_b, self.only_b_words),
        ):
            lines.append(f"  {name:<8}{total:.3f}{'A says':>26}{'B says':>9}")
            shown = [word for word in words if word.contribution >= _SHOWN]
            for word in shown:
                lines.append(f"    {word.contribution:9.3f}  {word.word!r:<18}{word.a:8.1%} {word.b:8.1%}")
            rest = total - sum(word.contribution for word in shown)
            lines.append(f"    {rest:9.3f}  all other words")
        lines.append("note: these are shares of what the two embeddings say in words, not of the cosine")
        return lines


def explain_similarity(
    embedder: SentenceTransformer,
    head: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    text_a: str,
    text_b: str,
    *,
    k: int = 10,
) -> Similarity:
    """Says in words what two texts share and what they do not, as an embedder sees them.

    Each embedding is read as the distribution of its aligned tokens, `softmax(W_lm e)`. Tokens that differ in case and
    leading space only are added up into one word. With a_w and b_w the probabilities of word w under A and B, every
    word's mass splits without remainder,

        (a_w + b_w) / 2  =  sqrt(a_w b_w)  +  (sqrt(a_w) - sqrt(b_w))^2 / 2
                            shared            said by one beyond the other

    so that over the vocabulary shared + only A + only B = 1. The shared part is the Bhattacharyya coefficient, the
    cosine between the vectors sqrt(a) and sqrt(b); the rest is the squared Hellinger distance. The split is exact: no
    word is left out of the totals, and each contribution follows from the two probabilities shown.

    What it is not: a decomposition of the cosine. Over pairs of texts the two rise and fall together, but not in
    proportion: the cosine also counts what all embeddings of a backbone have in common and the many middling scores
    that no word stands out of, and the distributions grow sharper with the embeddings' lengths, which the cosine does
    not see. The cosine itself can be written as a sum over the vocabulary (the rows of W_lm (W_lm^T W_lm)^(-1/2) are
    a tight frame), and the inner product of the logits follows it more closely than this does; but both spread so
    evenly that no ten words carry a noticeable part of the sum, and a reader would be shown noise. Nor is it causal:
    it does not say which words of the texts made the embeddings what they are.

    Args:
        embedder: Any SentenceTransformer over the backbone, its vectors not normalised.
        head: The raw backbone's decoder layer, weight (V, D).
        tokenizer: The backbone's tokenizer, without the prompt.
        text_a: One text.
        text_b: The other.
        k: The largest number of words listed in each part.

    Returns:
        The three parts with their words.

    Raises:
        InputError: A text is empty, `k` is outside the vocabulary, the head is missing or does not fit the embedder,
            or an embedding is zero, not finite or normalised.

    References:
        Text2Token, equation 8, and Nie et al. 2025 (arXiv 2406.17378), for the aligned tokens.
        Bhattacharyya 1943, for the coefficient.
    """
    texts = require_texts([text_a, text_b])
    embedding_2D = torch.from_numpy(encode(embedder, texts))
    return compare_embeddings(embedding_2D[0], embedding_2D[1], head, tokenizer, k=k, texts=(text_a, text_b))


def compare_embeddings(
    embedding_a_D: torch.Tensor,
    embedding_b_D: torch.Tensor,
    head: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    *,
    k: int = 10,
    texts: tuple[str, str] = ("A", "B"),
) -> Similarity:
    """Says in words what two embeddings share, as :func:`explain_similarity` does for texts.

    Args:
        embedding_a_D: The embedding of A, not normalised.
        embedding_b_D: The embedding of B, not normalised.
        head: The raw backbone's decoder layer, weight (V, D).
        tokenizer: The backbone's tokenizer, without the prompt.
        k: The largest number of words listed in each part.
        texts: The texts A and B, to be shown.

    Raises:
        InputError: `k` is outside the vocabulary, the head is missing or does not fit, or an embedding is zero,
            not finite or normalised.
    """
    embedding_2D = torch.stack([torch.as_tensor(side).detach().float() for side in (embedding_a_D, embedding_b_D)])
    require_decodable(embedding_2D, head, k, texts)
    weight_VD: Any = head.weight
    logits_2V = head(embedding_2D.to(weight_VD.device))
    token_2V = logits_2V.detach().double().softmax(-1).cpu().numpy()
    word_V, names = _words(tokenizer, token_2V.mean(0))
    a_W, b_W = (np.bincount(word_V, weights=token_V, minlength=len(names)) for token_V in token_2V)

    shared_W = np.sqrt(a_W * b_W)
    apart_W = np.square(np.sqrt(a_W) - np.sqrt(b_W)) / 2
    only_a_W, only_b_W = np.where(a_W > b_W, apart_W, 0), np.where(b_W > a_W, apart_W, 0)

    def listed(contribution_W: np.ndarray, shown_W: np.ndarray) -> tuple[WordShare, ...]:
        best = np.argsort(-np.where(shown_W, contribution_W, 0), kind="stable")[:k]
        return tuple(
            WordShare(word=names[w], a=float(a_W[w]), b=float(b_W[w]), contribution=float(contribution_W[w]))
            for w in best
            if shown_W[w]
        )

    return Similarity(
        text_a=texts[0],
        text_b=texts[1],
        cosine=float(torch.cosine_similarity(embedding_2D[0].double(), embedding_2D[1].double(), dim=0).clip(-1, 1)),
        shared=float(shared_W.sum()),
        only_a=float(only_a_W.sum()),
        only_b=float(only_b_W.sum()),
        shared_words=listed(shared_W, shared_W > 0),
        only_a_words=listed(only_a_W, only_a_W > shared_W),
        only_b_words=listed(only_b_W, only_b_W > shared_W),
    )


def _words(tokenizer: PreTrainedTokenizerBase, weight_V: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Assigns a word to every token, and names words after their heaviest tokens."""
    decoded = tokenizer.batch_decode([[i] for i in range(len(weight_V))])
    numbers: dict[Any, int] = {}
    # Pieces of a character and rows without a token all read alike but are not the same: each stays by itself.
    keys = (i if not token or "\ufffd" in token else bare(token) for i, token in enumerate(decoded))
    word_V = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    names = [""] * len(numbers)
    for i in np.argsort(weight_V, kind="stable"):
        names[word_V[i]] = decoded[i].strip() or decoded[i]
    return word_V, names
