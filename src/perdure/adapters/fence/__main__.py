"""The program of the supervisor: `python -I -S .../adapters/fence/__main__.py DIRECTORY DESCRIPTOR`.

The interpreter is started bare, without site-packages and the user's environment, so that it is small and nothing can
be slipped under it; so it has to be told where Perdure is. `client` starts it, `supervisor` goes on.
"""

import os
import sys


def main() -> None:
    """Find Perdure beside this file, and run the supervisor for a directory."""
    root = os.path.realpath(__file__)
    for _ in range(4):
        root = os.path.dirname(root)  # noqa: PTH120 - pathlib is large
    sys.path.append(root)
    from perdure.adapters.fence import supervisor

    supervisor.main(sys.argv[1], int(sys.argv[2]))


if __name__ == "__main__":
    main()
