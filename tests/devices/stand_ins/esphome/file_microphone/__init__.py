"""ESPHome component for tests: a microphone that plays clip.raw and ends the program."""
