"""Labelling with a teacher: in threads, or on a Ray cluster."""
