"""`python -m engine`: an engine process. Started by `engine.client`, which writes a Launch to its standard input."""

import logging
import sys

import msgspec

from engine.process import serve
from engine.wire import Launch


def main() -> int:
    """Reads the launch, serves, returns the exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    return serve(msgspec.json.decode(sys.stdin.buffer.read(), type=Launch))


if __name__ == "__main__":
    sys.exit(main())
