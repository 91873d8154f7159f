"""Weights to files, each compared with its reference or refused."""
