"""`python -m compressit`."""

from compressit.cli import main

if __name__ == "__main__":
    main()
