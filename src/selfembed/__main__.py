"""``python -m selfembed``."""

from selfembed.cli import main

raise SystemExit(main())
