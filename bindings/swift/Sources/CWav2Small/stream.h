/* Streams for Swift: plain memory, since Swift would import the arrays of w2s_stream as tuples of thousands of elements. */
#ifndef WAV2SMALL_STREAM_H
#define WAV2SMALL_STREAM_H

#include "w2s.h"

static inline int stream_init(void *memory)
{
    return w2s_init((w2s_stream *)memory);
}

static inline int stream_push_int16(void *memory, const int16_t *samples, int n)
{
    return w2s_push_int16((w2s_stream *)memory, samples, n);
}

static inline int stream_push_float(void *memory, const float *samples, int n)
{
    return w2s_push_float((w2s_stream *)memory, samples, n);
}

static inline int stream_finish(void *memory)
{
    return w2s_finish((w2s_stream *)memory);
}

static inline int stream_read(const void *memory, w2s_emotion *emotion)
{
    return w2s_read((const w2s_stream *)memory, emotion, NULL);
}

static inline int stream_reset(void *memory)
{
    return w2s_reset((w2s_stream *)memory);
}

static inline int stream_level(void *memory, float mean, float variance)
{
    return w2s_level((w2s_stream *)memory, mean, variance);
}

#endif
