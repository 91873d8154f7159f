// Prints arousal, dominance and valence of the last three seconds every second, from the PDM microphone of the board:
// Arduino Nano 33 BLE Sense, Nano RP2040 Connect, Portenta with the vision shield. Other boards: implement onSamples.
#include <PDM.h>
#include <w2s.h>

static const unsigned int SIZE = 2048;  // samples that may wait, 128 ms; a power of two
static int16_t waiting[SIZE];
static volatile unsigned int written = 0;
static unsigned int taken = 0;
static w2s_monitor monitor;

static void onSamples() {  // an interrupt
  static int16_t samples[256];
  int n = PDM.read(samples, sizeof samples) / 2;
  for (int i = 0; i < n; i++) waiting[(written + i) % SIZE] = samples[i];
  written += n;
}

static void show(const w2s_event &event) {
  Serial.print("speech ");
  Serial.print(event.speech_ratio, 2);
  if (event.has_emotion) {
    Serial.print(" arousal ");
    Serial.print(event.emotion.arousal, 3);
    Serial.print(" dominance ");
    Serial.print(event.emotion.dominance, 3);
    Serial.print(" valence ");
    Serial.print(event.emotion.valence, 3);
  }
  if (event.has_deviation) {  // from how this speaker usually sounds
    Serial.print(" deviation ");
    Serial.print(event.deviation.arousal, 2);
    Serial.print(" ");
    Serial.print(event.deviation.dominance, 2);
    Serial.print(" ");
    Serial.print(event.deviation.valence, 2);
  }
  Serial.println();
}

void setup() {
  Serial.begin(115200);
  bool ready = w2s_monitor_init(&monitor, W2S_SAMPLING_RATE) == W2S_OK;
  PDM.onReceive(onSamples);
  while (!ready || !PDM.begin(1, W2S_SAMPLING_RATE)) {
    Serial.println("The model or the microphone cannot be started.");
    delay(1000);
  }
}

void loop() {
  w2s_event event;
  unsigned int start = taken % SIZE, n = written - taken;
  if (n > SIZE) Serial.println("Samples were lost: the model is too slow for this board.");
  if (n > SIZE - start) n = SIZE - start;
  if (w2s_monitor_push(&monitor, waiting + start, n, &event) == 1) show(event);
  taken += n;
}
