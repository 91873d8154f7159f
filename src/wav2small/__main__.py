"""``python -m wav2small``: the command line."""

from wav2small.cli import main

if __name__ == "__main__":  # worker processes import this module, too
    main(prog_name="wav2small")
