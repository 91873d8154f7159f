/* wav2small in C99: arousal, dominance and valence of a voice, frame by frame, in memory that the caller owns.
 *
 *     static w2s_stream stream;
 *     w2s_emotion emotion;
 *     w2s_init(&stream);
 *     while (more) w2s_push_int16(&stream, samples, n);
 *     if (w2s_read(&stream, &emotion, NULL) == W2S_OK) ... emotion.arousal ...
 *
 * No malloc, no globals that change, nothing of libc but <stdint.h>, <stddef.h> and <string.h>. The model is
 * w2s_model.h, written by `wav2small export --to c`. Two streams may run in two threads; one stream may not.
 * docs/c.md walks from one's own weights to a device.
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

/* Frames computed at once where a push brings so many, and columns in a vector. 1 and 1 need the least memory; more
 * lets a compiler vectorise. The answers are the same. The caller and w2s.c must be compiled with the same. */
#ifndef W2S_BLOCK
#define W2S_BLOCK 1
#endif
#ifndef W2S_LANES
#define W2S_LANES 1
#endif
/* How many parts the window of w2s_read_window has at most; 0 leaves it out. */
#ifndef W2S_PARTS
#define W2S_PARTS 0
#endif

/* What functions return: one of these, all below zero, or W2S_OK, or a number of tokens. */
enum {
    W2S_OK = 0,
    W2S_NOT_BEGUN = -1,     /* the stream was not given to w2s_init */
    W2S_ENDED = -2,         /* push after w2s_finish; w2s_reset begins again */
    W2S_BAD_LENGTH = -3,    /* a length below zero, or more parts than there can be */
    W2S_TOO_SHORT = -4,     /* nothing heard yet that could be answered */
    W2S_OTHER_MODEL = -5,   /* caller and library were compiled with another model, version or block */
    W2S_OTHER_LEVEL = -6    /* w2s_level where the model needs none, after the first sample, or of no numbers */
};

/* Nominally 0 to 1, not clipped. */
typedef struct {
    float arousal, dominance, valence;
} w2s_emotion;

/* What is said about the model; all of it constant. */
typedef struct {
    const char *name, *version, *precision, *licence, *teacher, *training_data, *sha256; /* of the weights */
    int32_t sampling_rate;   /* Hz, of what is pushed */
    int32_t win_length;      /* samples until the first frame */
    int32_t hop_length;      /* samples from frame to frame */
    int32_t frames_a_token;  /* what is pooled is a token */
    int32_t embedding_size;
    size_t stream_bytes;
} w2s_description;

#if W2S_INTEGERS
typedef int8_t w2s_value;
typedef int16_t w2s_sample;
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
/* Columns of a layer's input: those kept for later, and those of a block after so many frames became one. */
#define W2S_WIDTH(kept, frames) ((kept) + W2S_ROUND(((W2S_BLOCK) + (frames) - 1) / (frames)))

/* Memory of a stream: sizeof(w2s_stream) bytes, nothing else. What is in it is not for the caller. */
typedef struct {
    uint32_t begun, frames, tokens;
    int32_t buffered; /* samples */
    uint8_t ended, level_is_set;
    int16_t used[W2S_N_LAYERS + 1], length[W2S_N_LAYERS + 1]; /* columns of each layer's input */
#if W2S_INTEGERS && W2S_LEVEL_FRAMES > 0
    uint32_t level[W2S_LEVEL_FRAMES]; /* power of the last frames */
    int64_t level_sum;
#elif W2S_INTEGERS
    int64_t sum, squares, count; /* of the samples until now */
    int64_t mean, variance;      /* of them, or of the whole */
#elif W2S_LEVEL_FRAMES > 0
    float level[W2S_LEVEL_FRAMES], level_sum;
#else
    float mean, variance; /* of the signal until now, or of the whole */
#endif
    w2s_sample samples[W2S_WIN_LENGTH + (W2S_BLOCK - 1) * W2S_HOP_LENGTH];
    w2s_value values[W2S_VALUES];
    w2s_pool pool; /* of all tokens */
#if W2S_PARTS > 0
    w2s_pool parts[W2S_PARTS];
    uint32_t part; /* which is the latest */
#endif
    union { /* what is needed only while a block is computed */
#if W2S_INTEGERS
        struct {
            int32_t real[W2S_N_FFT / 2], imag[W2S_N_FFT / 2];
            int64_t mel[W2S_N_MELS];
        } frontend;
#else
        struct {
            float real[W2S_N_FFT / 2][W2S_LANES], imag[W2S_N_FFT / 2][W2S_LANES];
            float mel[W2S_N_MELS][W2S_LANES];
        } frontend;
#endif
        struct {
#if !W2S_INTEGERS
            int32_t offsets[W2S_PATCH];
#endif
            w2s_value patch[W2S_PATCH * W2S_LANES];
        } layer;
    } scratch;
} w2s_stream;

/* Version of this library: "0.1.0". */
const char *w2s_version(void);

/* About the model that was compiled in; never NULL. */
const w2s_description *w2s_describe(void);

/* Begin a stream, in memory of any content. W2S_OK, or W2S_OTHER_MODEL. Sets about stream_bytes bytes to zero. */
#define w2s_init(stream) w2s_init_checked((stream), sizeof(w2s_stream), W2S_ID)
int w2s_init_checked(w2s_stream *stream, size_t bytes, uint32_t id);

/* n more samples, mono, at 16 kHz, in any cutting; n may be 0. Returns how many tokens they completed, or an error.
 * Each frame costs the same; nothing is computed between frames. */
int w2s_push_int16(w2s_stream *stream, const int16_t *samples, int n);

/* The same, in -1 to 1. What is no number, or absurdly large, counts as 0. A model in integers rounds to 16 bits. */
int w2s_push_float(w2s_stream *stream, const float *samples, int n);

/* The end: what waits for more is answered without it; less than one window is padded with zeros. Returns tokens. */
int w2s_finish(w2s_stream *stream);

/* The answer for all since w2s_init or w2s_reset, at any time. embedding: NULL, or embedding_size numbers.
 * W2S_OK, or an error, and then nothing is written. */
int w2s_read(const w2s_stream *stream, w2s_emotion *emotion, float *embedding);

#if W2S_PARTS > 0
/* Tokens from now on are of a new part. */
int w2s_mark(w2s_stream *stream);

/* The answer for the tokens of the last so many parts, the one that is growing among them; at most W2S_PARTS. */
int w2s_read_window(const w2s_stream *stream, int parts, w2s_emotion *emotion, float *embedding);
#endif

/* For models that are normalised over the utterance: its mean and variance, if they are known before the first
 * sample. Without it they are those of what was heard until then. */
int w2s_level(w2s_stream *stream, float mean, float variance);

/* Forget all that was heard: as after w2s_init. */
int w2s_reset(w2s_stream *stream);

#ifdef __cplusplus
}
#endif
#endif
