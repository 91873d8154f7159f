#pragma once

#include <array>
#include <atomic>
#include <vector>

#include "esphome/components/microphone/microphone_source.h"
#include "esphome/components/sensor/sensor.h"
#include "esphome/core/component.h"
#include "wav2small/w2s.h"

namespace esphome::wav2small {

/// The sensors, in the order of SENSORS in sensor.py.
enum SensorIndex { AROUSAL, DOMINANCE, VALENCE, SPEECH_RATIO, AROUSAL_DEVIATION, DOMINANCE_DEVIATION, VALENCE_DEVIATION, N_SENSORS };

/// Runs the network in the main loop, and publishes what changed. Audio comes from the microphone's thread.
class Wav2small : public Component {
 public:
  void setup() override;
  void loop() override;
  void dump_config() override;
  float get_setup_priority() const override { return setup_priority::AFTER_CONNECTION; }

  void set_microphone_source(microphone::MicrophoneSource *source) { this->source_ = source; }
  void set_hop_length(int hop_length) { this->hop_length_ = hop_length; }
  void set_min_change(float min_change) { this->min_change_ = min_change; }
  void set_sensor(size_t index, sensor::Sensor *sensor) { this->sensors_[index] = sensor; }

 protected:
  void receive_(const std::vector<uint8_t> &data);
  void publish_(const w2s_event &event);

  static constexpr uint32_t WAITING = 4096;  ///< samples that may wait for the main loop, 256 ms; a power of two
  static constexpr uint32_t CHUNK = 512;     ///< samples in one call of loop, at most

  microphone::MicrophoneSource *source_{nullptr};
  std::array<sensor::Sensor *, N_SENSORS> sensors_{};
  int hop_length_{0};
  float min_change_{0};
  std::array<int16_t, WAITING> samples_{};
  std::atomic<uint32_t> written_{0}, taken_{0}, lost_{0};  ///< samples
  uint32_t reported_{0};                                   ///< lost samples that a warning was about
  w2s_monitor monitor_;
};

}  // namespace esphome::wav2small
