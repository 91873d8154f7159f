"""Wyoming and Home Assistant: arousal, dominance and valence of voice commands, beside their transcripts."""

from wyoming_wav2small.handler import CONTEXT, EmotionHandler
from wyoming_wav2small.mqtt import Sensors, discovery, state

__all__ = ["CONTEXT", "EmotionHandler", "Sensors", "discovery", "state"]
