"""Scores of embedders, on mteb's tasks or on own data."""

from selfembed.ground.extras import require_extra

require_extra("eval")  # at the door: scores are mteb's
