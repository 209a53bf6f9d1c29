"""``python -m selfembed``."""

from selfembed.terminal.main import main

raise SystemExit(main())
