"""`python -m engine`: an engine process. Started by `engine.client`, which writes a Launch to its standard input."""

import sys

import msgspec

from engine.logs import set_up_engine
from engine.process import serve
from engine.wire import Launch


def main() -> int:
    """Reads the launch, serves, returns the exit status."""
    launch = msgspec.json.decode(sys.stdin.buffer.read(), type=Launch)
    set_up_engine(as_json=launch.config.json_logs)
    return serve(launch)


if __name__ == "__main__":
    sys.exit(main())
