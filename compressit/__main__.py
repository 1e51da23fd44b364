"""The command `compressit`, and `python -m compressit`."""

import sys

from compressit.processes.python import leave_current_folder


def main() -> None:
    """Runs the command line with a search path of installed code: it is imported after that."""
    try:
        leave_current_folder(added=__name__ == "__main__")
        from compressit import cli

        cli.main()
    except KeyboardInterrupt:  # while it was importing
        sys.exit(130)


if __name__ == "__main__":
    main()
