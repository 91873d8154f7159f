#include "wav2small.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "esphome/core/log.h"

namespace esphome::wav2small {

static const char *const TAG = "wav2small";

void Wav2small::setup() {
  if (w2s_monitor_init(&this->monitor_, this->hop_length_) != W2S_OK) {
    ESP_LOGE(TAG, "The model cannot be started: normalised over the utterance, or another w2s_model.h");
    this->mark_failed();
    return;
  }
  this->source_->add_data_callback([this](const std::vector<uint8_t> &data) { this->receive_(data); });
  if (!this->source_->is_passive())
    this->source_->start();
}

void Wav2small::dump_config() {
  const w2s_description *model = w2s_describe();
  ESP_LOGCONFIG(TAG, "wav2small: %s %s, %s, %s", model->name, model->version, model->precision, model->licence);
  ESP_LOGCONFIG(TAG, "  sha256: %s", model->sha256);
  ESP_LOGCONFIG(TAG, "  Window: %d samples, every %d", W2S_PARTS * this->hop_length_, this->hop_length_);
  LOG_SENSOR("  ", "Arousal", this->sensors_[AROUSAL]);
  LOG_SENSOR("  ", "Dominance", this->sensors_[DOMINANCE]);
  LOG_SENSOR("  ", "Valence", this->sensors_[VALENCE]);
  LOG_SENSOR("  ", "Speech ratio", this->sensors_[SPEECH_RATIO]);
  LOG_SENSOR("  ", "Arousal deviation", this->sensors_[AROUSAL_DEVIATION]);
  LOG_SENSOR("  ", "Dominance deviation", this->sensors_[DOMINANCE_DEVIATION]);
  LOG_SENSOR("  ", "Valence deviation", this->sensors_[VALENCE_DEVIATION]);
}

/// Called in the thread of the microphone; does not wait.
void Wav2small::receive_(const std::vector<uint8_t> &data) {
  const uint32_t written = this->written_.load(std::memory_order_relaxed);
  const uint32_t room = WAITING - (written - this->taken_.load(std::memory_order_acquire));
  const uint32_t n = data.size() / sizeof(int16_t), kept = std::min(n, room);
  for (uint32_t i = 0; i < kept; i++)
    std::memcpy(&this->samples_[(written + i) % WAITING], &data[i * sizeof(int16_t)], sizeof(int16_t));
  this->written_.store(written + kept, std::memory_order_release);
  this->lost_.fetch_add(n - kept, std::memory_order_relaxed);
}

void Wav2small::loop() {
  const uint32_t taken = this->taken_.load(std::memory_order_relaxed), start = taken % WAITING;
  const uint32_t waiting = this->written_.load(std::memory_order_acquire) - taken;
  const uint32_t n = std::min({waiting, CHUNK, WAITING - start});
  w2s_event event;
  const bool has_event = w2s_monitor_push(&this->monitor_, &this->samples_[start], n, &event) == 1;
  this->taken_.store(taken + n, std::memory_order_release);
  if (!has_event)
    return;
  this->publish_(event);
  if (const uint32_t lost = this->lost_.load(std::memory_order_relaxed); lost != this->reported_) {
    ESP_LOGW(TAG, "%u samples were lost: the main loop is too slow", (unsigned) (lost - this->reported_));
    this->reported_ = lost;
  }
}

/// Publish the values that changed by min_change or more, or became unknown or known.
void Wav2small::publish_(const w2s_event &event) {
  const w2s_emotion &emotion = event.emotion, &deviation = event.deviation;
  std::array<float, N_SENSORS> values{emotion.arousal, emotion.dominance, emotion.valence, event.speech_ratio,
                                      deviation.arousal, deviation.dominance, deviation.valence};
  if (!event.has_emotion)
    std::fill_n(values.begin() + AROUSAL, 3, NAN);
  if (!event.has_deviation)
    std::fill_n(values.begin() + AROUSAL_DEVIATION, 3, NAN);
  for (size_t i = 0; i < N_SENSORS; i++) {
    sensor::Sensor *sensor = this->sensors_[i];
    if (sensor == nullptr)
      continue;
    const float before = sensor->get_raw_state();
    const bool is_new = std::isnan(before) != std::isnan(values[i]) || std::fabs(values[i] - before) >= this->min_change_;
    if (is_new || !sensor->has_state())
      sensor->publish_state(values[i]);
  }
}

}  // namespace esphome::wav2small
