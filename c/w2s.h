/* wav2small in C99: arousal, dominance and valence of speech, frame by frame, in memory that the caller provides.
 *
 *     static w2s_stream stream;
 *     w2s_emotion emotion;
 *     w2s_init(&stream);
 *     while (more) w2s_push_int16(&stream, samples, n);
 *     if (w2s_read(&stream, &emotion, NULL) == W2S_OK) ... emotion.arousal ...
 *
 * The library does not call malloc, has no mutable globals, and needs only <stdint.h>, <stddef.h> and <string.h>. The
 * model is in w2s_model.h, which `wav2small export --to c` writes. Different streams may be used in different threads,
 * each by one thread at a time. docs/c.md describes the steps from weights to a device.
 */
#ifndef W2S_H
#define W2S_H

#include <stddef.h>
#include <stdint.h>

#include "w2s_model.h"

#ifdef __cplusplus
extern "C" {
#endif

#define W2S_VERSION "0.1.0"

/* W2S_BLOCK: largest number of frames that are computed together. W2S_LANES: number of columns of a vector. 1 and 1 need
 * the least memory; larger values allow the compiler to vectorise. They do not change the results beyond rounding. The
 * caller and w2s.c must be compiled with the same values. */
#ifndef W2S_BLOCK
#define W2S_BLOCK 1
#endif
#ifndef W2S_LANES
#define W2S_LANES 1
#endif
/* 1: what is needed only during a call is on its stack, 30 KB for blocks of 16 frames in 8 lanes, and not in each stream:
 * for many streams in one process. */
#ifndef W2S_ON_STACK
#define W2S_ON_STACK 0
#endif
/* Largest number of parts of w2s_read_window, and hops in a window of w2s_monitor; 0 removes them. */
#ifndef W2S_PARTS
#define W2S_PARTS 3
#endif

/* Return values: W2S_OK, a number of tokens, or one of these errors, which are negative. */
enum {
    W2S_OK = 0,
    W2S_NOT_BEGUN = -1,     /* the stream was not initialised by w2s_init */
    W2S_ENDED = -2,         /* push after w2s_finish; call w2s_reset first */
    W2S_BAD_LENGTH = -3,    /* a negative length, or a number of parts outside 1 to W2S_PARTS */
    W2S_TOO_SHORT = -4,     /* no token was completed yet */
    W2S_OTHER_MODEL = -5,   /* caller and library were compiled with different models, versions or block sizes */
    W2S_OTHER_LEVEL = -6    /* w2s_level for a model that does not use it, after the first sample, or with bad values */
};

/* Prediction; nominally 0 to 1, not clipped. */
typedef struct {
    float arousal, dominance, valence;
} w2s_emotion;

/* Description of the model; constant. */
typedef struct {
    const char *name, *version, *precision, *licence, *teacher, *training_data, *sha256; /* of the weights */
    int32_t sampling_rate;   /* Hz, of the input */
    int32_t win_length;      /* samples of a window, needed for the first frame */
    int32_t hop_length;      /* samples from one frame to the next */
    int32_t frames_a_token;  /* frames from one token to the next; the pooling averages tokens */
    int32_t embedding_size;  /* values of the embedding */
    size_t stream_bytes;     /* sizeof(w2s_stream) */
} w2s_description;

#if W2S_INTEGERS
typedef int8_t w2s_value;
typedef int16_t w2s_sample;
typedef struct {
    int32_t real, imag; /* of the spectrum; then the low and the high half of the power */
} w2s_bin;
typedef struct {
    int64_t values[W2S_POOLED], weights[W2S_POOLED];
    int16_t exponent[W2S_POOLED];
} w2s_pool;
#else
typedef float w2s_value;
typedef float w2s_sample;
typedef struct {
    float values[W2S_POOLED], weights[W2S_POOLED], exponent[W2S_POOLED];
} w2s_pool;
#endif

#define W2S_ROUND(n) (((n) + W2S_LANES - 1) / W2S_LANES * W2S_LANES)
/* Columns of a layer's input: those kept from before, plus those of a block, with `frames` frames per column. */
#define W2S_WIDTH(kept, frames) ((kept) + W2S_ROUND(((W2S_BLOCK) + (frames) - 1) / (frames)))

/* What is needed only while samples are processed, except for the samples of an incomplete window. */
typedef struct {
    w2s_sample samples[W2S_WIN_LENGTH + (W2S_BLOCK - 1) * W2S_HOP_LENGTH];
    union {
#if W2S_INTEGERS
        struct {
            w2s_bin bins[W2S_N_FFT / 2];
            int64_t mel[W2S_N_MELS];
        } frontend;
#else
        struct {
            float real[W2S_N_FFT / 2][W2S_LANES], imag[W2S_N_FFT / 2][W2S_LANES];
            float mel[W2S_N_MELS][W2S_LANES];
        } frontend;
#endif
        struct {
#if W2S_INTEGERS
            int16_t wide[W2S_PATCH];
#else
            int32_t offsets[W2S_PATCH];
#endif
            w2s_value patch[W2S_PATCH * W2S_LANES];
        } layer;
    } scratch;
} w2s_block;

/* Complete state of a stream: sizeof(w2s_stream) bytes. The members are private. */
typedef struct {
    uint32_t begun, frames, tokens;
    int32_t buffered; /* samples of an incomplete window */
    uint8_t ended, level_is_set;
    int16_t used[W2S_N_LAYERS + 1], length[W2S_N_LAYERS + 1]; /* columns of each layer's input */
#if W2S_INTEGERS && W2S_LEVEL_FRAMES > 0
    uint32_t level[W2S_LEVEL_FRAMES]; /* power of the last frames */
    int64_t level_sum;
#elif W2S_INTEGERS
    int64_t sum, squares, count; /* of the samples so far */
    int64_t mean, variance;      /* of the samples so far, or as given by w2s_level */
#elif W2S_LEVEL_FRAMES > 0
    float level[W2S_LEVEL_FRAMES], level_sum;
#else
    float mean, variance; /* of the samples so far, or as given by w2s_level */
#endif
    w2s_value values[W2S_VALUES];
    w2s_pool pool; /* of all tokens */
#if W2S_PARTS > 0
    w2s_pool parts[W2S_PARTS];
    uint32_t part; /* index of the latest part */
#endif
#if W2S_ON_STACK
    w2s_sample samples[W2S_WIN_LENGTH]; /* those of `block` between calls */
#else
    w2s_block block;
#endif
} w2s_stream;

/* Version of this library, such as "0.1.0". */
const char *w2s_version(void);

/* Description of the compiled model; never NULL. */
const w2s_description *w2s_describe(void);

/* Initialise a stream; its previous content is ignored. Returns W2S_OK or W2S_OTHER_MODEL. Writes stream_bytes bytes. */
#define w2s_init(stream) w2s_init_checked((stream), sizeof(w2s_stream), W2S_ID)
int w2s_init_checked(w2s_stream *stream, size_t bytes, uint32_t id);

/* Process n mono samples at 16 kHz, in chunks of any size; n may be 0. Returns the number of tokens that they completed,
 * or an error. Computation happens only when a frame is complete, and every frame costs the same. */
int w2s_push_int16(w2s_stream *stream, const int16_t *samples, int n);

/* Process n float samples, nominally in [-1, 1]. NaN counts as 0. Integer models round to 16 bits and saturate; float
 * models also replace values of very large magnitude by 0. */
int w2s_push_float(w2s_stream *stream, const float *samples, int n);

/* End the stream: flush all layers; a signal shorter than one window is zero-padded. Returns the completed tokens. */
int w2s_finish(w2s_stream *stream);

/* Prediction for all samples since w2s_init or w2s_reset; may be called at any time. embedding is NULL or an array of
 * embedding_size values. Returns W2S_OK, or an error, in which case nothing is written. */
int w2s_read(const w2s_stream *stream, w2s_emotion *emotion, float *embedding);

#if W2S_PARTS > 0
/* Start a new part; following tokens belong to it. Returns W2S_OK or an error. */
int w2s_mark(w2s_stream *stream);

/* Prediction for the tokens of the last `parts` parts, including the current one; 1 <= parts <= W2S_PARTS. */
int w2s_read_window(const w2s_stream *stream, int parts, w2s_emotion *emotion, float *embedding);
#endif

/* Set the mean and variance of the utterance before the first sample, for models that are normalised over the utterance.
 * Without it, the mean and variance of the samples so far are used. Returns W2S_OK or an error. */
int w2s_level(w2s_stream *stream, float mean, float variance);

/* Return to the state after w2s_init. */
int w2s_reset(w2s_stream *stream);

/* What the voice of one speaker is usually like: Baseline of Python, with its numbers, for any model. It starts as an
 * average speaker and moves towards this one. The caller may copy, store and restore it. */
typedef struct {
    float forget_dur;         /* seconds of speech after which older speech begins to count less; 0 never forgets */
    float speech_dur;         /* seconds of speech so far */
    w2s_emotion mean, spread; /* the spread as a standard deviation */
} w2s_baseline;

/* Seconds of speech before a baseline is used. */
#define W2S_BASELINE_READY_DUR 20.0f

/* Start again from an average speaker. */
void w2s_baseline_init(w2s_baseline *baseline, float forget_dur);

/* Include a prediction. speech_dur is the number of seconds of speech in it that no earlier prediction included. */
void w2s_baseline_add(w2s_baseline *baseline, const w2s_emotion *emotion, float speech_dur);

/* How far a prediction is from the mean of each dimension, in units of the speaker's spread. */
void w2s_baseline_deviation(const w2s_baseline *baseline, const w2s_emotion *emotion, w2s_emotion *deviation);

/* 1 from W2S_BASELINE_READY_DUR seconds of speech on, else 0. */
int w2s_baseline_ready(const w2s_baseline *baseline);

/* Frames of 32 ms that w2s_speech remembers; a part of w2s_monitor is at most 1 s. */
#ifndef W2S_SPEECH_FRAMES
#define W2S_SPEECH_FRAMES (W2S_PARTS > 3 ? 32 * W2S_PARTS : 96)
#endif

/* Share of speech by signal level, with the rule and the numbers of Python's `--vad energy`. It separates sound from
 * silence, not speech from noise. The members are private. */
typedef struct {
    int64_t sum, squares;                 /* of the samples of the frame that is not complete */
    int32_t filled, frames, next;         /* samples of that frame; complete frames; where the next power is stored */
    uint64_t powers[W2S_SPEECH_FRAMES];
} w2s_speech;

/* Start a new signal. */
void w2s_speech_init(w2s_speech *speech);

/* Process n mono samples at 16 kHz. */
void w2s_speech_push_int16(w2s_speech *speech, const int16_t *samples, int n);

/* Share of speech in the complete frames of the last n samples, 0 to 1; 0 if there is none. */
float w2s_speech_ratio(const w2s_speech *speech, int n);

#if W2S_PARTS > 0
/* The prediction for a window. */
typedef struct {
    float speech_ratio;             /* 0 to 1 */
    uint8_t has_emotion;            /* 0: too little speech, and the members below are 0 */
    uint8_t has_deviation;          /* 0: the baseline has less than W2S_BASELINE_READY_DUR seconds of speech */
    w2s_emotion emotion, deviation; /* 0 to 1; in units of the speaker's spread */
} w2s_event;

/* Network, speech detection and baseline of a microphone: `Stream(model, vad="energy", baseline=Baseline())` of Python.
 * The members are private, except `baseline`, which the caller may store and restore. */
typedef struct {
    w2s_baseline baseline;
    int32_t hop_length;
    uint32_t answered, begun; /* windows */
    int64_t received;         /* samples */
    w2s_speech speech;
    w2s_stream stream;
} w2s_monitor;

/* Initialise a monitor with a prediction every hop_length samples, 1600 to 16000, for a window of W2S_PARTS hops. Returns
 * W2S_OK, W2S_BAD_LENGTH, W2S_OTHER_MODEL, or W2S_OTHER_LEVEL for a model that is normalised over the utterance. */
#define w2s_monitor_init(monitor, hop_length) \
    w2s_monitor_init_checked((monitor), (hop_length), sizeof(w2s_monitor), W2S_ID)
int w2s_monitor_init_checked(w2s_monitor *monitor, int hop_length, size_t bytes, uint32_t id);

/* Process n mono samples at 16 kHz, in chunks of any size. Returns 1 if they completed a window and `event` was written
 * (the last one, if there are several), 0 if not, or an error. */
int w2s_monitor_push(w2s_monitor *monitor, const int16_t *samples, int n, w2s_event *event);
#endif

#ifdef __cplusplus
}
#endif
#endif
