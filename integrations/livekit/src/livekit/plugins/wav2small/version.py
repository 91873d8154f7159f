"""The version of the plugin."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("livekit-plugins-wav2small")
except PackageNotFoundError:  # run from its sources
    __version__ = "0"
