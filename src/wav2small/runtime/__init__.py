"""A network at work: loading, streams, files, the C runtime, calibrations and heads."""
