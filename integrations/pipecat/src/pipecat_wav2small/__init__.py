"""Pipecat: arousal, dominance and valence of every user turn, computed while the user speaks."""

from pipecat_wav2small.processor import METADATA, EmotionFrame, EmotionProcessor

__all__ = ["METADATA", "EmotionFrame", "EmotionProcessor"]
