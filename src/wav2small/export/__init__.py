"""Export of weights to files. Each file is compared with the reference before it is written."""
