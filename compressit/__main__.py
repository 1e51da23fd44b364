"""The command `compressit`, and `python -m compressit`."""

from compressit.process import leave_current_folder


def main() -> None:
    """Runs the command line with a search path of installed code: it is imported after that."""
    leave_current_folder(added=__name__ == "__main__")
    from compressit import cli

    cli.main()


if __name__ == "__main__":
    main()
