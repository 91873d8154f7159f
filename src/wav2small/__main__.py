"""``python -m wav2small``: the command line."""

from wav2small.cli import main

main(prog_name="wav2small")
