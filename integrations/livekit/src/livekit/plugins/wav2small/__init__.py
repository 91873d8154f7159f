"""LiveKit Agents: arousal, dominance and valence of every user turn, computed while the user speaks."""

from livekit.agents import Plugin
from livekit.plugins.wav2small.emotion import METADATA, EmotionInput
from livekit.plugins.wav2small.log import logger
from livekit.plugins.wav2small.version import __version__

__all__ = ["METADATA", "EmotionInput", "__version__"]


class Wav2SmallPlugin(Plugin):
    """Name, version and logger of this plugin. There is nothing to download: weights ship with wav2small."""

    def __init__(self) -> None:
        super().__init__(__name__, __version__, __package__, logger)


Plugin.register_plugin(Wav2SmallPlugin())
