/* Functions for wav2small.js: one stream, an input buffer and an output buffer. */
#include "w2s.h"

#define EXPORT(name) __attribute__((export_name(#name)))
enum { BUFFER = 4096 };

static w2s_stream stream;
static union { float floats[BUFFER]; int16_t integers[BUFFER]; } buffer;
static w2s_emotion emotion;

EXPORT(reset) int reset(void) { return w2s_init(&stream); }
EXPORT(buffer) void *buffer_start(void) { return &buffer; }
EXPORT(buffer_length) int buffer_length(void) { return BUFFER; }
EXPORT(push_float) int push_float(int n) { return w2s_push_float(&stream, buffer.floats, n); }
EXPORT(push_int16) int push_int16(int n) { return w2s_push_int16(&stream, buffer.integers, n); }
EXPORT(finish) int finish(void) { return w2s_finish(&stream); }
EXPORT(read) int read_emotion(void) { return w2s_read(&stream, &emotion, NULL); }
EXPORT(mark) int mark(void) { return w2s_mark(&stream); }
EXPORT(parts) int parts(void) { return W2S_PARTS; }
EXPORT(read_window) int read_window(int latest) { return w2s_read_window(&stream, latest, &emotion, NULL); }
EXPORT(emotion) w2s_emotion *emotion_start(void) { return &emotion; }
EXPORT(sampling_rate) int sampling_rate(void) { return w2s_describe()->sampling_rate; }
EXPORT(hop_length) int hop_length(void) { return w2s_describe()->hop_length; }
EXPORT(win_length) int win_length(void) { return w2s_describe()->win_length; }

/* For the resampler: dot product of old samples in the buffer with the weights of one new sample, in four independent sums
 * for vectorisation. The weights are in memory that the page has added; taps must be a multiple of four. */
EXPORT(dot) float dot(const float *weights, int start, int taps)
{
    const float *samples = buffer.floats + start;
    float sums[4] = {0};
    for (int tap = 0; tap < taps; tap += 4)
        for (int i = 0; i < 4; i++) sums[i] += weights[tap + i] * samples[tap + i];
    return sums[0] + sums[1] + (sums[2] + sums[3]);
}

/* name, version, precision, licence, teacher, training data, sha256 of the weights */
EXPORT(text) const char *text(int which)
{
    const w2s_description *about = w2s_describe();
    const char *texts[] = {about->name, about->version, about->precision, about->licence, about->teacher,
                           about->training_data, about->sha256};
    return which >= 0 && which < 7 ? texts[which] : "";
}

/* Constants of Python's speech detection by level (audio/vad.py), set by the build. */
EXPORT(speech_frame) int speech_frame(void) { return FRAME_LENGTH; }
EXPORT(speech_level) double speech_level(void) { return SPEECH_LEVEL; }
EXPORT(pause_level) double pause_level(void) { return PAUSE_LEVEL; }
EXPORT(min_speech_dur) double min_speech_dur(void) { return MIN_SPEECH_DUR; }
EXPORT(file_dur) double file_dur(void) { return FILE_DUR; }
