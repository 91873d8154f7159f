"""ESPHome sensors of wav2small: arousal, dominance and valence of the speech at a microphone."""

import esphome.codegen as cg
import esphome.config_validation as cv
from esphome.components import microphone, sensor
from esphome.const import CONF_ID, CONF_MICROPHONE, STATE_CLASS_MEASUREMENT

from . import add_runtime

AUTO_LOAD = ["audio"]
DEPENDENCIES = ["microphone"]

CONF_HOP = "hop"
CONF_MIN_CHANGE = "min_change"
CONF_PASSIVE = "passive"
CONF_WINDOW = "window"
SAMPLING_RATE = 16000
EMOTION = ("arousal", "dominance", "valence")
SENSORS = {
    **dict.fromkeys(EMOTION, "mdi:account-voice"),
    "speech_ratio": "mdi:microphone-message",
    **{f"{name}_deviation": "mdi:delta" for name in EMOTION},
}
"""Name and icon of each sensor, in the order of the enumeration in wav2small.h."""

Wav2small = cg.esphome_ns.namespace("wav2small").class_("Wav2small", cg.Component)


def whole_hops(config: dict) -> dict:
    """Refuse a window that is not 1 to 64 hops, and a configuration without sensors."""
    hop, window = (config[name].total_milliseconds for name in (CONF_HOP, CONF_WINDOW))
    if window % hop or not 1 <= window // hop <= 64:
        raise cv.Invalid(f"window is {window} ms and hop {hop} ms; a window needs 1 to 64 whole hops")
    if not SENSORS.keys() & config.keys():
        raise cv.Invalid(f"at least one of the sensors {', '.join(SENSORS)} is needed")
    return config


CONFIG_SCHEMA = cv.All(
    cv.Schema(
        {
            cv.GenerateID(): cv.declare_id(Wav2small),
            cv.Optional(CONF_MICROPHONE, default={}): microphone.microphone_source_schema(
                min_bits_per_sample=16, max_bits_per_sample=16
            ),
            cv.Optional(CONF_HOP, default="1s"): cv.All(
                cv.positive_time_period_milliseconds,
                cv.Range(min=cv.TimePeriod(milliseconds=100), max=cv.TimePeriod(seconds=1)),
            ),
            cv.Optional(CONF_WINDOW, default="3s"): cv.positive_time_period_milliseconds,
            cv.Optional(CONF_MIN_CHANGE, default=0.02): cv.float_range(min=0.0, max=10.0),
            cv.Optional(CONF_PASSIVE, default=False): cv.boolean,
            **{
                cv.Optional(name): sensor.sensor_schema(
                    accuracy_decimals=2, icon=icon, state_class=STATE_CLASS_MEASUREMENT
                )
                for name, icon in SENSORS.items()
            },
        }
    ).extend(cv.COMPONENT_SCHEMA),
    whole_hops,
)

FINAL_VALIDATE_SCHEMA = cv.Schema(
    {
        cv.Required(CONF_MICROPHONE): microphone.final_validate_microphone_source_schema(
            "wav2small", sample_rate=SAMPLING_RATE
        )
    },
    extra=cv.ALLOW_EXTRA,
)


async def to_code(config: dict) -> None:
    """Generate the C++ that makes the component and its sensors."""
    hop, window = (config[name].total_milliseconds for name in (CONF_HOP, CONF_WINDOW))
    add_runtime(window // hop)
    var = cg.new_Pvariable(config[CONF_ID])
    await cg.register_component(var, config)
    source = await microphone.microphone_source_to_code(config[CONF_MICROPHONE], passive=config[CONF_PASSIVE])
    cg.add(var.set_microphone_source(source))
    cg.add(var.set_hop_length(hop * SAMPLING_RATE // 1000))
    cg.add(var.set_min_change(config[CONF_MIN_CHANGE]))
    for number, name in enumerate(SENSORS):
        if name in config:
            cg.add(var.set_sensor(number, await sensor.new_sensor(config[name])))
