"""Voice agents: the tone of a turn as soon as it ends, and tools for language models."""

from wav2small.agents.turn import Reading, Turn

__all__ = ["Reading", "Turn"]
