"""Text2Token's data-driven targets: a text's key tokens, weighted by TF-IDF (arXiv 2510.10224, Eq. 12-17).

    IDF(w) = ln(|D| / df(w)), unsmoothed                      Eq. 12
    TF(w, x) = count of w in x / length of x                  Eq. 13, see `DataDrivenOptions.tf`
    score(w, x) = TF(w, x) * IDF(w)  if w lies in a noun, proper noun or adjective of x, else 0
    P(w | x) from the scores                                  Eq. 17, see `DataDrivenOptions.form`

Words are the backbone's own token ids, on the bare text: no prompt, no special tokens, no truncation. Where the paper
leaves a choice, the option's default is the reading we take; docs/papers.md says why.

Shapes: N texts, B texts of one batch, T their tokens, C their characters, W their kept words, U distinct (text, token)
pairs among them, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from selfembed.errors import InputError
from selfembed.ground.files import arriving_file
from selfembed.ground.options import Range, check_options, require_choice
from selfembed.ground.progress import Progress, silent
from selfembed.targets.bare_tokens import BareTokenizer, chunked, number_of
from selfembed.targets.tagger import UNIVERSAL_TAGS, Tagger
from selfembed.targets.token_targets import TokenTargets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TargetForm = Literal["proportional", "softmax_support", "softmax_temperature", "literal"]


@dataclass(frozen=True, kw_only=True)
class DataDrivenOptions:
    """What makes a token a key token, and how much it weighs.

    Args:
        pos: Universal parts of speech whose words count; None counts every token.
        form: `"proportional"`: P is the score divided by the sum of scores. `"softmax_support"`: softmax over the
            tokens that score. `"softmax_temperature"`: the same of score / temperature. `"literal"`: Eq. 17 as
            printed, softmax over the whole vocabulary, where each token without a score weighs e^0; with
            `tf="length"` that is uniform to four digits on a real vocabulary.
        temperature: Temperature of `"softmax_temperature"`; the other forms do not read it.
        tf: `"length"`: share of the text's tokens. `"corpus"`: Eq. 13 as printed, share of the token's
            occurrences in the whole corpus, whatever their part of speech.
        variants: `"merge"` counts the ids that differ only in case or leading space as one token (TF and DF alike)
            and gives its mass to one id.
        variant_form: Which id that is: `"bare"`, without leading space, as a decoder predicts right after
            PromptEOL's open quote, or `"spaced"`, either in the case the text uses most and, where the vocabulary
            lacks it, the text's own id; `"common"`, the corpus's most frequent whatever its case.
        leading_space: Whether the first word is tokenised like a word inside a sentence.

    Raises:
        InputError: A value is of another kind, outside its range or not among its choices.
    """

    pos: tuple[str, ...] | None = ("NOUN", "PROPN", "ADJ")
    form: TargetForm = "proportional"
    temperature: Annotated[float, Range(above=0)] = 1.0
    tf: Literal["length", "corpus"] = "length"
    variants: Literal["keep", "merge"] = "keep"
    variant_form: Literal["bare", "spaced", "common"] = "bare"
    leading_space: bool = True

    def __post_init__(self) -> None:
        check_options(self)
        for part in self.pos or ():
            require_choice("pos", part, sorted(UNIVERSAL_TAGS))


@dataclass(frozen=True, kw_only=True)
class TokenStatistics:
    """How often, and in how many texts, each token of the vocabulary occurs in a corpus.

    Args:
        documents: Number of texts, |D|.
        df_V: Number of texts that contain the token or, with merged variants, any variant of it, int64.
        count_V: Number of occurrences of the id itself, int64.
        variants: The option of :class:`DataDrivenOptions` that they were collected with.
        leading_space: The option of :class:`DataDrivenOptions` that they were collected with.
    """

    documents: int
    df_V: np.ndarray
    count_V: np.ndarray
    variants: str = "keep"
    leading_space: bool = True

    @classmethod
    def collect(
        cls,
        texts: Iterable[str],
        tokenizer: PreTrainedTokenizerBase,
        options: DataDrivenOptions,
        vocab_size: int,
        progress: Progress = silent,
    ) -> TokenStatistics:
        """Counts the tokens of texts in one pass, and tells `progress` after each batch how many texts are done.

        Raises:
            InputError: There is no text, or the tokenizer is slow or not the decoder's.
        """
        bare = BareTokenizer(tokenizer, vocab_size, leading_space=options.leading_space)
        group_V = _groups(tokenizer, vocab_size, options)
        documents, df_V, count_V = 0, np.zeros(vocab_size, np.int64), np.zeros(vocab_size, np.int64)
        for batch in chunked(texts):
            ids_T, row_T = bare.ids(batch)
            documents += len(batch)
            count_V += np.bincount(ids_T, minlength=vocab_size)
            df_V += np.bincount(np.unique(row_T * vocab_size + group_V[ids_T]) % vocab_size, minlength=vocab_size)
            progress("token statistics", documents, number_of(texts))
        if not documents:
            raise InputError("corpus: no text; expected at least one; give a corpus with texts")
        return cls(
            documents=documents,
            df_V=df_V[group_V],
            count_V=count_V,
            variants=options.variants,
            leading_space=options.leading_space,
        )

    def __add__(self, other: TokenStatistics) -> TokenStatistics:
        """Adds up the statistics of two disjoint parts of a corpus."""
        assert (self.variants, self.leading_space) == (other.variants, other.leading_space)
        return TokenStatistics(
            documents=self.documents + other.documents,
            df_V=self.df_V + other.df_V,
            count_V=self.count_V + other.count_V,
            variants=self.variants,
            leading_space=self.leading_space,
        )

    @property
    def idf_V(self) -> np.ndarray:
        """Inverse document frequency in nats (Eq. 12); a token that the corpus lacks counts as if in one text."""
        idf_V: np.ndarray = np.log(self.documents / np.maximum(self.df_V, 1))
        return idf_V

    def save(self, path: Path) -> None:
        """Writes a safetensors file, which appears under its name only when it is complete."""
        about = {
            "documents": str(self.documents),
            "variants": self.variants,
            "leading_space": str(int(self.leading_space)),
        }
        with arriving_file(path) as staging:
            save_file({"df": self.df_V, "count": self.count_V}, staging, metadata=about)

    @classmethod
    def load(cls, path: Path) -> TokenStatistics:
        """Reads what :meth:`save` wrote."""
        with safe_open(path, "numpy") as file:
            about = file.metadata()
            return cls(
                documents=int(about["documents"]),
                df_V=file.get_tensor("df"),
                count_V=file.get_tensor("count"),
                variants=about["variants"],
                leading_space=about["leading_space"] == "1",
            )


def build_targets(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    tagger: Tagger | None,
    statistics: TokenStatistics,
    options: DataDrivenOptions,
    vocab_size: int,
    progress: Progress = silent,
) -> TokenTargets:
    """Builds the targets of Eq. 13-17.

    Each occurrence is judged by itself: in "The record shows what they record" one of two counts. All pieces of a
    kept word count. A token that every text has scores 0, and so does a special token. A text in which no token scores
    has an empty row.

    Args:
        texts: Full texts; row i of the result is text i. They may differ from the texts of the statistics.
        tokenizer: The backbone's tokenizer, a fast one.
        tagger: A tagger, see `load_tagger`; may be None where `options.pos` is None.
        statistics: Statistics collected with the same `variants` and `leading_space`.
        options: Which tokens count, and how much.
        vocab_size: V, the number of rows of the decoder layer.
        progress: Told after each batch how many texts are done.

    Raises:
        InputError: The tagger is missing, the statistics were collected otherwise, or the tokenizer is slow or not
            the decoder's.
    """
    if tagger is None and options.pos is not None:
        raise InputError(f"pos {options.pos!r}: no tagger was given; expected one; give load_tagger(), or pos=None")
    collected = (statistics.variants, statistics.leading_space, len(statistics.df_V))
    if collected != (options.variants, options.leading_space, vocab_size):
        raise InputError(
            f"statistics: variants, leading_space and vocabulary are {collected}; expected "
            f"{(options.variants, options.leading_space, vocab_size)}; collect the statistics anew"
        )
    bare = BareTokenizer(tokenizer, vocab_size, leading_space=options.leading_space)
    group_V = _groups(tokenizer, vocab_size, options)
    written_V = _written_as(tokenizer, group_V, statistics.count_V, options)
    idf_V = statistics.idf_V
    idf_V[bare.special] = 0.0  # unknown tokens
    corpus_V = np.bincount(group_V, statistics.count_V, vocab_size)[group_V]
    supports, ids, weights, rests, done = [np.zeros(1, np.int64)], [], [], [], 0
    for batch in chunked(texts):
        if options.pos is None:
            ids_T, row_T = bare.ids(batch)
            kept_T = np.ones(len(ids_T), bool)
        else:
            assert tagger is not None, "refused above"
            words = [[span for span in spans if span[2] in options.pos] for spans in tagger.tag(batch)]
            ids_T, row_T, kept_T = bare.ids_and_kept(batch, words)
        row_U, ids_U, count_U = _count(row_T[kept_T], ids_T[kept_T], group_V, written_V)
        length_B = np.bincount(row_T, minlength=len(batch))
        tf_U = count_U / (length_B[row_U] if options.tf == "length" else np.maximum(corpus_V[ids_U], 1))
        score_U = tf_U * idf_V[ids_U]
        scores = score_U > 0
        row_U, ids_U = row_U[scores], ids_U[scores]
        weight_U, rest_B = _distribution(score_U[scores], row_U, len(batch), vocab_size, options)
        weighs = weight_U > 0  # float32 ends where a low temperature begins
        supports.append(np.bincount(row_U[weighs], minlength=len(batch)))
        ids.append(ids_U[weighs].astype(np.int32))
        weights.append(weight_U[weighs])
        rests.append(rest_B)
        done += len(batch)
        progress("data-driven targets", done, number_of(texts))
    return TokenTargets(
        offsets_N1=np.cumsum(np.concatenate(supports), dtype=np.int64),
        ids_S=np.concatenate([np.zeros(0, np.int32), *ids]),
        weights_S=np.concatenate([np.zeros(0, np.float32), *weights]),
        vocab_size=vocab_size,
        rest_N=np.concatenate([np.zeros(0, np.float32), *rests]) if options.form == "literal" else None,
    )


def token_groups(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> np.ndarray:
    """Gives `group_V` (int32): for each id the lowest id that differs from it in leading space and case only.

    White space, special tokens and pieces of characters are each their own group.
    """
    lowest: dict[str, int] = {}
    plain, _ = _plain_forms(tokenizer, vocab_size)
    return np.array([lowest.setdefault(form.casefold(), i) if form else i for i, form in enumerate(plain)], np.int32)


def _groups(tokenizer: PreTrainedTokenizerBase, vocab_size: int, options: DataDrivenOptions) -> np.ndarray:
    if options.variants == "keep":
        return np.arange(vocab_size, dtype=np.int32)
    return token_groups(tokenizer, vocab_size)


def _plain_forms(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> tuple[list[str], np.ndarray]:
    """Gives each id's text without its leading space, "" where it is no text, and `spaced_V`: which had a space."""
    backend = tokenizer.backend_tokenizer
    decoded = backend.decode_batch([[i] for i in range(vocab_size)], skip_special_tokens=True)
    pieces = [backend.id_to_token(i) or "" for i in range(vocab_size)]
    plain = ["" if "\ufffd" in text else text.strip() for text in decoded]  # U+FFFD: a piece of a character
    # SentencePiece decoders drop a first space, so ask the piece too.
    spaced_V = np.array([p.startswith(("▁", "Ġ")) or d.startswith(" ") for p, d in zip(pieces, decoded, strict=True)])
    return plain, spaced_V


def _written_as(
    tokenizer: PreTrainedTokenizerBase, group_V: np.ndarray, count_V: np.ndarray, options: DataDrivenOptions
) -> np.ndarray:
    """Gives `written_V`: the id that a target lists when a text has this one."""
    own_V = np.arange(len(group_V))
    if options.variants == "keep":
        return own_V
    if options.variant_form == "common":
        order = np.lexsort((own_V, -count_V, group_V))
        groups, first = np.unique(group_V[order], return_index=True)
        own_V[groups] = order[first]
        written_V: np.ndarray = own_V[group_V]
        return written_V
    plain, spaced_V = _plain_forms(tokenizer, len(group_V))
    wanted: dict[str, int] = {}
    for i in np.flatnonzero(spaced_V == (options.variant_form == "spaced")):
        wanted.setdefault(plain[i], int(i))
    return np.array([wanted.get(form, i) if form else i for i, form in enumerate(plain)])


def _count(
    row_T: np.ndarray, ids_T: np.ndarray, group_V: np.ndarray, written_V: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts tokens per text: `row_U`, `ids_U` (as written), `count_U`, sorted by row."""
    vocab_size = len(group_V)
    pair_U, count_U = np.unique(row_T * vocab_size + ids_T, return_counts=True)
    row_U, ids_U = np.divmod(pair_U, vocab_size)
    # One entry per group, written like the text's most frequent variant (no change where each id is its own group).
    order = np.lexsort((-count_U, group_V[ids_U], row_U))
    _, first = np.unique((row_U * vocab_size + group_V[ids_U])[order], return_index=True)
    count_U = np.add.reduceat(count_U[order], first) if len(first) else count_U
    return row_U[order][first], written_V[ids_U[order][first]], count_U


def _distribution(
    score_U: np.ndarray, row_U: np.ndarray, batch: int, vocab_size: int, options: DataDrivenOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Computes `weight_U` and `rest_B` (float32) from positive scores: Eq. 17 in the form asked for."""
    rest_B = np.zeros(batch)
    weight_U = score_U
    if options.form != "proportional":
        scaled_U = score_U / (options.temperature if options.form == "softmax_temperature" else 1.0)
        highest_B = np.zeros(batch)
        np.maximum.at(highest_B, row_U, scaled_U)
        weight_U = np.exp(scaled_U - highest_B[row_U])
        if options.form == "literal":
            support_B = np.bincount(row_U, minlength=batch)
            rest_B = np.where(support_B > 0, (vocab_size - support_B) * np.exp(-highest_B), 0.0)
    total_B = np.bincount(row_U, weight_U, batch) + rest_B
    total_B[total_B == 0] = 1.0  # empty rows
    return (weight_U / total_B[row_U]).astype(np.float32), (rest_B / total_B).astype(np.float32)
