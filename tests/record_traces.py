"""Records the traces that tests/test_traces.py holds training to: `python tests/record_traces.py [NAME ...]`.

Every number of a trace changes whenever training does. Record anew only what was meant to change, and say in the
commit why.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import conftest  # noqa: F401 - threads, cache and network as in the tests, before anything else is imported
from test_traces import FOLDER, NAMES, dropout_masks, machine, trace


def main(names: list[str]) -> None:
    unknown = set(names) - set(NAMES)
    if unknown:
        sys.exit(f"{', '.join(sorted(unknown))}: expected some of {', '.join(NAMES)}")
    FOLDER.mkdir(exist_ok=True)
    for name in names or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            found = trace(name, Path(folder))
        found |= {"dropout_masks": dropout_masks(), "machine": machine()}
        (FOLDER / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {', '.join(stage['name'] for stage in found['stages'])}")


if __name__ == "__main__":
    main(sys.argv[1:])
