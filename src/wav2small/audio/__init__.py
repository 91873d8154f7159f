"""Sound in: decoding, reading, live sources, and voice activity."""
