"""Keeps the texts of a corpus out of the model card that sentence-transformers' trainer prepares.

The trainer's callback picks examples out of the training data whenever the card has none, and writes them into every
checkpoint. No option turns that off; an example that is there already does. A finished folder gets a card of its own.
"""

from __future__ import annotations

from sentence_transformers import SentenceTransformer


def keep_texts_out_of_card(embedder: SentenceTransformer) -> None:
    """Gives the embedder's card an example that stands for none, so that the trainer looks for no others."""
    embedder.model_card_data.widget = [{"text": "unused"}]
