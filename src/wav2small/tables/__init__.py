"""Rows in and out: tables, manifests, label stores, annotation formats and trends."""
