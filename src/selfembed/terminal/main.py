"""The command line: parses it, runs one verb, and says in one line what was wrong with the input.

What prints is in this room; everything heavy is imported when a verb runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from selfembed.errors import InputError, TrainingDiverged
from selfembed.terminal import calibrate, compare, doctor, evaluate, explain, index, search, targets, train
from selfembed.terminal.wording import worded

_DESCRIPTION = "Turn a decoder-only language model into a text embedder, from unlabelled text alone."


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb, and returns the exit status: 0, 1 (doctor: not usable), 2 (input), 130 (interrupted)."""
    options = parser().parse_args(arguments)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from selfembed.ground.quiet import quiet_libraries

    try:
        quiet_libraries()
        status: int = options.run(options)
        return status
    except (InputError, TrainingDiverged) as error:
        print(f"selfembed: error: {worded(str(error), options)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("selfembed: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except RuntimeError as error:
        if "out of memory" not in str(error).lower() and "can't allocate memory" not in str(error).lower():
            raise
        print(f"selfembed: error: {str(error).splitlines()[0]}; try {options.less_memory}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """Builds the parser of the whole command line."""
    top = argparse.ArgumentParser(prog="selfembed", description=_DESCRIPTION)
    verbs = top.add_subparsers(metavar="VERB", required=True)
    for verb in (train, calibrate, targets, explain, evaluate, compare, index, search, doctor):
        verb.add(verbs)
    return top
