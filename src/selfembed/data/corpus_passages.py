"""The passages of a corpus as the sources of pairs read them."""

from __future__ import annotations

from collections.abc import Sequence

from datasets import Dataset

from selfembed.data.corpus import Corpus
from selfembed.data.passages import PassageRow
from selfembed.data.sampling import choose_rows


class CorpusPassages(Sequence[PassageRow]):
    """Passages of a corpus, each read when it is asked for.

    Args:
        rows: What :meth:`selfembed.data.corpus.Corpus.passages` gives, or some rows of it.
    """

    def __init__(self, rows: Dataset) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> PassageRow:  # type: ignore[override]
        return PassageRow(words=0, **self.rows[index])


def last_passages(corpus: Corpus, count: int, *, seed: int) -> CorpusPassages:
    """Takes the passages that training with this seed would read last; they are unseen where it reads fewer.

    Args:
        corpus: The corpus of the training.
        count: Number of passages, at most.
        seed: Seed of the training.
    """
    rows = corpus.passages()
    order = choose_rows(len(rows), len(rows), seed=seed)
    return CorpusPassages(rows.select(sorted(order[-count:].tolist())))
