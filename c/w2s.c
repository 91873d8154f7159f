/* Streaming: samples to frames, frames through the layers of the model's table, tokens into the pooling.
 *
 * Each layer has an input buffer of columns, one per frame, and keeps the columns that later frames need. A column has
 * (channels x bands) values. The output of a layer is appended to the input buffer of the next layer. The arithmetic is in
 * w2s_float.h or w2s_integer.h, which this file includes.
 */
#include "w2s.h"

#include <string.h>

enum { W2S_CONVOLUTION, W2S_DEPTHWISE, W2S_MAX_POOL };

/* A row of the model's table: a layer and the size of its input buffer. */
typedef struct {
    uint8_t kind, residual;           /* residual: the input of the previous layer is added to the output */
    uint8_t inputs, outputs;          /* channels */
    uint8_t bands, band_pad;          /* of the input; rows of padding above and below the bands */
    uint8_t kernel_bands, stride_bands;
    uint8_t kernel, stride, dilation; /* in time */
    uint8_t before, after;            /* columns of padding before the first column and after the last */
    uint8_t frames;                   /* front-end frames per column of the input */
    uint8_t kept;                     /* largest number of columns that the next block needs */
#if W2S_INTEGERS
    uint8_t bias_bytes;               /* 2 or 4: width of `bias` */
    const int8_t *weight, *shift;
    const void *bias;
#else
    const float *weight, *bias;
#endif
} w2s_layer;

#define W2S_WITH_WEIGHTS
#include "w2s_model.h"

#if W2S_FORMAT != 3
#error "w2s_model.h was written for another version of w2s.c: run wav2small export --to c again"
#endif
#if W2S_LANES < 1 || (W2S_LANES & (W2S_LANES - 1)) != 0 || W2S_BLOCK < W2S_LANES || W2S_BLOCK % W2S_LANES != 0 || W2S_PARTS < 0
#error "W2S_LANES is a power of two, W2S_BLOCK a multiple of it, W2S_PARTS 0 or more"
#endif
#if W2S_INTEGERS && W2S_LANES != 1
#error "a model in integers has W2S_LANES 1"
#endif

static int columns_of(const w2s_layer *layer) /* capacity of its input buffer, in columns */
{
    return W2S_WIDTH(layer->kept, layer->frames);
}

static int rows_of(const w2s_layer *layer) /* of its input buffer, with padding above and below the bands */
{
    return layer->inputs * (layer->bands + 2 * layer->band_pad);
}

static int span_of(const w2s_layer *layer) /* input columns of one output */
{
    return (layer->kernel - 1) * layer->dilation + 1;
}

/* Distance between rows, and between columns, of a layer's input: integers have the values of a column side by side, floats
 * those of a row. */
static int row_step(const w2s_layer *layer)
{
    return W2S_INTEGERS ? 1 : columns_of(layer);
}

static int column_step(const w2s_layer *layer)
{
    return W2S_INTEGERS ? rows_of(layer) : 1;
}

/* Padding value of a layer's input. */
static w2s_value around(int index)
{
    return index == 0 ? W2S_AROUND : 0;
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

#if W2S_INTEGERS
#include "w2s_integer.h"
#else
#include "w2s_float.h"
#endif
#include "w2s_baseline.h"
#include "w2s_speech.h"

/* Discard used columns of a layer's input buffer. Returns the index of the first free column. */
static int make_room(w2s_stream *stream, int index, w2s_value *x)
{
    const w2s_layer *layer = &w2s_layers[index];
    const int used = stream->used[index], left = stream->length[index] - used, step = column_step(layer);
    const int pieces = used > 0 && left > 0 ? (W2S_INTEGERS ? 1 : rows_of(layer)) : 0;
    for (int piece = 0; piece < pieces; piece++, x += columns_of(layer))
        memmove(x, x + used * step, (size_t)(left * step) * sizeof *x);
    stream->used[index] = 0;
    stream->length[index] = (int16_t)left;
    return left;
}

/* Run the layers from index `first` on, after columns were added to its input. Returns the number of new tokens. */
static int run_layers(w2s_stream *stream, w2s_block *block, int first)
{
    w2s_value *before = NULL, *x = stream->values;
    int n = 0;
    for (int index = 0; index < W2S_N_LAYERS; index++) {
        const w2s_layer *layer = &w2s_layers[index];
        w2s_value *y = x + rows_of(layer) * columns_of(layer);
        if (index >= first) {
            const int span = span_of(layer), length = stream->length[index];
            n = length < span ? 0 : (length - span) / layer->stride + 1;
            if (n == 0) return 0;
            const int start = make_room(stream, index + 1, y);
            run_layer(block, index, x, y + start * column_step(layer + 1), before, n);
            stream->length[index + 1] = (int16_t)(start + n);
            stream->used[index] = (int16_t)(n * layer->stride);
        }
        before = x;
        x = y;
    }
    pool_tokens(stream, block, x, n);
    stream->used[W2S_N_LAYERS] = (int16_t)n;
    stream->tokens += (uint32_t)n;
    return n;
}

/* Process all complete frames. Returns the number of new tokens. */
static int run_frames(w2s_stream *stream, w2s_block *block)
{
    const int frames = stream->buffered < W2S_WIN_LENGTH ? 0 : (stream->buffered - W2S_WIN_LENGTH) / W2S_HOP_LENGTH + 1;
    if (frames == 0) return 0;
    const int start = make_room(stream, 0, stream->values);
    frontend(stream, block, stream->values + start * column_step(w2s_layers), frames);
    stream->frames += (uint32_t)frames;
    stream->length[0] = (int16_t)(start + frames);
    stream->buffered -= frames * W2S_HOP_LENGTH;
    memmove(block->samples, block->samples + frames * W2S_HOP_LENGTH, (size_t)stream->buffered * sizeof *block->samples);
    return run_layers(stream, block, 0);
}

/* W2S_OPEN_BLOCK declares `block`: that of the stream, or one on the stack that gets the stream's samples. */
#if W2S_ON_STACK
#define W2S_OPEN_BLOCK(stream)                    \
    w2s_block on_stack, *block = &on_stack;       \
    memset(block, 0, sizeof *block);              \
    memcpy(block->samples, (stream)->samples, (size_t)(stream)->buffered * sizeof *block->samples)

static void close_block(w2s_stream *stream, const w2s_block *block)
{
    memcpy(stream->samples, block->samples, (size_t)stream->buffered * sizeof *block->samples);
}
#else
#define W2S_OPEN_BLOCK(stream) w2s_block *block = &(stream)->block

static void close_block(w2s_stream *stream, const w2s_block *block)
{
    (void)stream, (void)block;
}
#endif

static int check_push(const w2s_stream *stream, int n)
{
    if (stream->begun != W2S_ID) return W2S_NOT_BEGUN;
    if (stream->ended) return W2S_ENDED;
    return n < 0 ? W2S_BAD_LENGTH : W2S_OK;
}

static int room_for(const w2s_stream *stream, int n)
{
    return smaller(n, W2S_WIN_LENGTH + (W2S_BLOCK - 1) * W2S_HOP_LENGTH - stream->buffered);
}

const char *w2s_version(void)
{
    return W2S_VERSION;
}

const w2s_description *w2s_describe(void)
{
    static const w2s_description about = {
        W2S_NAME, W2S_MODEL_VERSION, W2S_PRECISION, W2S_LICENCE, W2S_TEACHER, W2S_TRAINING_DATA, W2S_SHA256,
        W2S_SAMPLING_RATE, W2S_WIN_LENGTH, W2S_HOP_LENGTH, W2S_FRAMES_A_TOKEN, W2S_POOLED, sizeof(w2s_stream)};
    return &about;
}

int w2s_init_checked(w2s_stream *stream, size_t bytes, uint32_t id)
{
    if (bytes != sizeof *stream || id != W2S_ID) return W2S_OTHER_MODEL;
    stream->begun = W2S_ID;
    return w2s_reset(stream);
}

int w2s_reset(w2s_stream *stream)
{
    if (stream->begun != W2S_ID) return W2S_NOT_BEGUN;
    memset(stream, 0, sizeof *stream);
    stream->begun = W2S_ID;
    for (int index = 0; index <= W2S_N_LAYERS; index++) stream->length[index] = w2s_layers[index].before;
    for (int i = 0; i < rows_of(w2s_layers) * columns_of(w2s_layers); i++) stream->values[i] = around(0);
    empty_pool(&stream->pool);
#if W2S_PARTS > 0
    for (int part = 0; part < W2S_PARTS; part++) empty_pool(&stream->parts[part]);
#endif
    return W2S_OK;
}

int w2s_push_int16(w2s_stream *stream, const int16_t *samples, int n)
{
    int tokens = check_push(stream, n);
    if (tokens < 0) return tokens;
    W2S_OPEN_BLOCK(stream);
    while (n > 0) {
        const int room = room_for(stream, n);
        for (int i = 0; i < room; i++) block->samples[stream->buffered + i] = from_int16(samples[i]);
        stream->buffered += room;
        samples += room;
        n -= room;
        tokens += run_frames(stream, block);
    }
    close_block(stream, block);
    return tokens;
}

int w2s_push_float(w2s_stream *stream, const float *samples, int n)
{
    int tokens = check_push(stream, n);
    if (tokens < 0) return tokens;
    W2S_OPEN_BLOCK(stream);
    while (n > 0) {
        const int room = room_for(stream, n);
        for (int i = 0; i < room; i++) block->samples[stream->buffered + i] = from_float(samples[i]);
        stream->buffered += room;
        samples += room;
        n -= room;
        tokens += run_frames(stream, block);
    }
    close_block(stream, block);
    return tokens;
}

int w2s_finish(w2s_stream *stream)
{
    int tokens = check_push(stream, 0);
    if (tokens < 0) return tokens;
    W2S_OPEN_BLOCK(stream);
    if (stream->frames == 0 && stream->buffered > 0) {
        memset(block->samples + stream->buffered, 0,
               (size_t)(W2S_WIN_LENGTH - stream->buffered) * sizeof *block->samples);
        stream->buffered = W2S_WIN_LENGTH;
        tokens += run_frames(stream, block);
    }
    stream->ended = 1;
    w2s_value *x = stream->values;
    for (int index = 0; index < W2S_N_LAYERS && stream->frames > 0; index++) {
        const w2s_layer *layer = &w2s_layers[index];
        for (int after = 0; after < layer->after; after++) {
            const int start = make_room(stream, index, x);
            w2s_value *column = x + start * column_step(layer);
            for (int row = 0; row < rows_of(layer); row++) column[row * row_step(layer)] = around(index);
            stream->length[index] = (int16_t)(start + 1);
            tokens += run_layers(stream, block, index);
        }
        x += rows_of(layer) * columns_of(layer);
    }
    return tokens;
}

int w2s_read(const w2s_stream *stream, w2s_emotion *emotion, float *embedding)
{
    if (stream->begun != W2S_ID) return W2S_NOT_BEGUN;
    if (stream->tokens == 0) return W2S_TOO_SHORT;
    read_pool(&stream->pool, emotion, embedding);
    return W2S_OK;
}

#if W2S_PARTS > 0
int w2s_mark(w2s_stream *stream)
{
    if (stream->begun != W2S_ID) return W2S_NOT_BEGUN;
    stream->part = (stream->part + 1) % W2S_PARTS;
    empty_pool(&stream->parts[stream->part]);
    return W2S_OK;
}

int w2s_read_window(const w2s_stream *stream, int parts, w2s_emotion *emotion, float *embedding)
{
    w2s_pool pool;
    if (stream->begun != W2S_ID) return W2S_NOT_BEGUN;
    if (parts < 1 || parts > W2S_PARTS) return W2S_BAD_LENGTH;
    empty_pool(&pool);
    for (int back = parts - 1; back >= 0; back--) /* oldest first */
        merge_pool(&pool, &stream->parts[(stream->part + W2S_PARTS - (uint32_t)back) % W2S_PARTS]);
    if (pool_is_empty(&pool)) return W2S_TOO_SHORT;
    read_pool(&pool, emotion, embedding);
    return W2S_OK;
}
#endif

int w2s_level(w2s_stream *stream, float mean, float variance)
{
    if (stream->begun != W2S_ID) return W2S_NOT_BEGUN;
#if W2S_LEVEL_FRAMES > 0
    (void)mean, (void)variance;
    return W2S_OTHER_LEVEL;
#else
    const int is_level = mean > -65536 && mean < 65536 && variance >= 0 && variance < 65536.0f * 65536;
    if (stream->frames > 0 || stream->buffered > 0 || !is_level) return W2S_OTHER_LEVEL;
    set_level(stream, mean, variance);
    stream->level_is_set = 1;
    return W2S_OK;
#endif
}

#include "w2s_monitor.h"
