// What the sketch takes of Arduino: https://docs.arduino.cc/language-reference
#ifndef ARDUINO_H
#define ARDUINO_H
#include <stdint.h>
#include <stdio.h>

static inline void delay(unsigned long) {}

struct Print {
  void begin(unsigned long) {}
  void print(const char *text) { printf("%s", text); }
  void print(double value, int digits = 2) { printf("%.*f", digits, value); }
  void println(const char *text = "") { printf("%s\n", text); }
};
static Print Serial;
#endif
