"""Memory and clock of boards, and whether a network fits them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wav2small.errors import WeightsError
from wav2small.evaluation.macs import COUNTED_DUR, layer_macs
from wav2small.network.config import Network
from wav2small.runtime import compiler
from wav2small.runtime.c_header import header
from wav2small.runtime.native import Library

FLAGS = ("-std=c99", "-Os", "-ffp-contract=fast", "-shared", "-fPIC", "-s")
MONITOR_BYTES = 1024
"""RAM of ``w2s_monitor`` beside its stream, rounded up."""
INSTRUCTIONS_A_MAC = {"integers": 4, "floats": 4, "floats in software": 40}
"""At least so many for each multiply-accumulate of the layers, front end included: ``make -C c firmware-check``."""


@dataclass(frozen=True)
class Board:
    """A board, as its vendor describes it.

    Attributes:
        name: as people call it
        flash: KB for programs
        ram: KB
        clock: MHz
        has_fpu: floats of 32 bits are computed in hardware
    """

    name: str
    flash: int
    ram: int
    clock: int
    has_fpu: bool


BOARDS = {
    "arduino-uno": Board("Arduino Uno", 32, 2, 16, False),
    "arduino-mega": Board("Arduino Mega 2560", 256, 8, 16, False),
    "arduino-zero": Board("Arduino Zero, MKR, Nano 33 IoT (SAMD21)", 256, 32, 48, False),
    "nano-33-ble": Board("Arduino Nano 33 BLE Sense (nRF52840)", 1024, 256, 64, True),
    "microbit-v2": Board("BBC micro:bit V2 (nRF52833)", 512, 128, 64, True),
    "nrf52840-dk": Board("Nordic nRF52840 DK", 1024, 256, 64, True),
    "nrf5340-dk": Board("Nordic nRF5340 DK, application core", 1024, 512, 128, True),
    "pico": Board("Raspberry Pi Pico, Arduino Nano RP2040 (RP2040)", 2048, 264, 133, False),
    "pico-2": Board("Raspberry Pi Pico 2 (RP2350)", 4096, 520, 150, True),
    "stm32f4-discovery": Board("ST STM32F407 Discovery", 1024, 192, 168, True),
    "teensy-4": Board("Teensy 4.0 (i.MX RT1062)", 1984, 1024, 600, True),
    "esp32": Board("Espressif ESP32", 4096, 520, 240, True),
    "esp32-c3": Board("Espressif ESP32-C3", 4096, 400, 160, False),
    "esp32-s3": Board("Espressif ESP32-S3", 8192, 512, 240, True),
}
"""By the names of ``--board``. Flash of modules with external memory is that of the smallest common one."""


@dataclass(frozen=True)
class Needs:
    """What a network takes of a device.

    Attributes:
        flash: bytes of weights and code, about
        ram: bytes of one ``w2s_monitor`` with a window of three hops
        instructions: of a second of audio, at least
    """

    flash: int
    ram: int
    instructions: float


def needs(weights: Path, network: Network, has_fpu: bool) -> Needs:
    """Measure memory with the C compiler of this machine, and estimate the time.

    Args:
        weights: safetensors file
        network: of the weights
        has_fpu: whether the device has one

    Raises:
        NativeError: without a C compiler
    """
    path = compiler.compiled(header(weights), FLAGS)
    kind = "integers" if network.integers else "floats" if has_fpu else "floats in software"
    instructions = layer_macs(network) / COUNTED_DUR * INSTRUCTIONS_A_MAC[kind]
    ram = Library(path, False).about.stream_bytes + MONITOR_BYTES
    return Needs(path.stat().st_size, ram, instructions)


def check_board(weights: Path, network: Network, key: str) -> Needs:
    """Refuse a network that a board cannot hold, or cannot compute in time.

    Args:
        weights: safetensors file
        network: of the weights
        key: of ``BOARDS``

    Returns:
        what the network needs

    Raises:
        WeightsError: with the reason
        NativeError: without a C compiler
    """
    board = BOARDS[key]
    found = needs(weights, network, board.has_fpu)
    for needed, available, what in (
        (found.flash / 1024, board.flash, "KB of flash"),
        (found.ram / 1024, board.ram, "KB of RAM"),
        (found.instructions / 1e6, board.clock, "million instructions per second of audio"),
    ):
        if needed > available:
            limit = f"{board.clock} MHz" if "instructions" in what else f"{available} KB"
            raise WeightsError(
                f"{weights}: needs about {needed:.0f} {what}, and {board.name} has {limit}; take a smaller network "
                "or another board"
            )
    return found
