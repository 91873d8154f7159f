// Prints arousal, dominance and valence once per second. Implement read_microphone for your board.
#include <w2s.h>

static w2s_stream stream;

static int read_microphone(int16_t *samples, int n) {  // mono, 16 kHz
  for (int i = 0; i < n; i++) samples[i] = 0;
  delay(n / 16);
  return n;
}

void setup() {
  Serial.begin(115200);
  w2s_init(&stream);
}

void loop() {
  static int16_t samples[160];
  static long received = 0;
  w2s_emotion emotion;
  int n = read_microphone(samples, 160);
  w2s_push_int16(&stream, samples, n);
  received += n;
  if (received < 16000) return;
  received = 0;
  if (w2s_read(&stream, &emotion, NULL) != W2S_OK) return;
  Serial.print(emotion.arousal);
  Serial.print(' ');
  Serial.print(emotion.dominance);
  Serial.print(' ');
  Serial.println(emotion.valence);
}
