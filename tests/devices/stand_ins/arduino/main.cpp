// The program that Arduino makes of a sketch, with an interrupt of the microphone every 16 ms.
#include <Arduino.h>
#include "pdm_microphone.ino"
int main() {
  setup();
  for (;;) {
    PDM.interrupt();
    loop();
    loop();  // what is behind the end of the ring
  }
}
