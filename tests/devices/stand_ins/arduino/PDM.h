// The PDM library of Arduino's mbed and nRF52 cores: https://docs.arduino.cc/learn/built-in-libraries/pdm
#ifndef PDM_H
#define PDM_H
#include <stddef.h>

#include "clip.h"

class PDMClass {
 public:
  int begin(int channels, int sampleRate) { return channels == 1 && sampleRate == 16000; }
  void onReceive(void (*function)(void)) { function_ = function; }
  int available() { return sizeof(int16_t) * 256; }
  int read(void *buffer, size_t size) { return 2 * clip_read((int16_t *) buffer, (int) size / 2); }
  void interrupt() { function_(); }

 private:
  void (*function_)(void) = nullptr;
};
static PDMClass PDM;
#endif
