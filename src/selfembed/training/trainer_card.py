"""Keeps the model card that sentence-transformers' trainer writes into every checkpoint short, and texts out of it.

The trainer's callback picks examples out of the training data whenever the card has none. No option turns that off; an
example that is there already does. The template of the whole card, which takes longer to fill in than a small model
takes for a step, gives way to one that names nothing. A finished folder gets a card of its own.
"""

from __future__ import annotations

from pathlib import Path

from sentence_transformers import SentenceTransformer


def keep_texts_out_of_card(embedder: SentenceTransformer) -> None:
    """Gives the embedder's card an example that stands for none, and a template without any."""
    embedder.model_card_data.widget = [{"text": "unused"}]
    embedder.model_card_data.template_path = Path(__file__).with_name("checkpoint_card.md")
