"""One page on one finished embedder: how it was trained, and what that changed. Each section is a file."""

from selfembed.ground.extras import require_extra

require_extra("explain")  # at the door: its pictures need matplotlib
