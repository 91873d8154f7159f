#pragma once

#include <cstdio>
#include <cstdlib>

#include "esphome/components/microphone/microphone.h"
#include "esphome/core/component.h"
#include "esphome/core/helpers.h"

namespace esphome::file_microphone {

class FileMicrophone : public microphone::Microphone, public Component {
 public:
  void setup() override {
    this->file_ = fopen("clip.raw", "rb");
    this->no_delay_.start();
  }
  void start() override { this->state_ = microphone::STATE_RUNNING; }
  void stop() override { this->state_ = microphone::STATE_STOPPED; }
  void loop() override {
    if (!this->is_running())
      return;
    std::vector<uint8_t> data(512);
    data.resize(fread(data.data(), 1, data.size(), this->file_));
    if (data.empty()) {
      fflush(stdout);
      _Exit(0);
    }
    this->data_callbacks_.call(data);
  }

 protected:
  FILE *file_{nullptr};
  HighFrequencyLoopRequester no_delay_;
};

}  // namespace esphome::file_microphone
