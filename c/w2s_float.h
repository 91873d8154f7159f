/* Arithmetic of float models: equal to the NumPy reference (network/reference.py) up to rounding. Part of w2s.c.
 *
 * The innermost index is time, with W2S_LANES contiguous frames or tokens, so that a compiler can vectorise it.
 */
#define LARGEST_SAMPLE 65536.0f
#define LOG2_10 3.3219280948873623f

static float from_int16(int16_t sample)
{
    return (float)sample * (1.0f / 32768);
}

static float from_float(float sample)
{
    return sample > -LARGEST_SAMPLE && sample < LARGEST_SAMPLE ? sample : 0;
}

static float larger(float a, float b)
{
    return a > b ? a : b;
}

/* log2 of x > 0, accurate to 1e-7: the exponent, plus a series for the mantissa in sqrt(1/2) .. sqrt(2). */
static float log2_of(float x)
{
    uint32_t bits;
    float m;
    memcpy(&bits, &x, 4);
    const int32_t exponent = (int32_t)(bits - 0x3f3504f3u) >> 23;
    bits -= (uint32_t)exponent << 23;
    memcpy(&m, &bits, 4);
    const float s = (m - 1) / (m + 1), q = s * s;
    return (float)exponent + s * (2.88539008f + q * (0.961796694f + q * (0.577078016f + q * (0.412198583f + q * 0.32f))));
}

#define LEAST_EXPONENT (-120.0f) /* smallest exponent of a weight; smaller weights are negligible */

/* 2^x for LEAST_EXPONENT <= x <= 0, accurate to 1e-7. */
static float exp2_of(float x)
{
    const int32_t whole = (int32_t)(x - 0.5f);
    const float f = x - (float)whole;
    const uint32_t bits = (uint32_t)(whole + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    const float p = 1.54035304e-4f + f * 1.52527338e-5f;
    return scale * (1 + f * (0.693147181f + f * (0.240226507f + f * (0.0555041087f + f * (9.61812911e-3f + f * (1.33335581e-3f + f * p))))));
}

/* ---- front end ---- */

typedef float w2s_lanes[W2S_LANES];

/* The lanes as a vector type, for compilers that would not keep them in registers. */
#if W2S_LANES > 1
typedef float w2s_vector __attribute__((vector_size(W2S_LANES * 4), aligned(4), may_alias));
#else
typedef float w2s_vector;
#endif

static float sine(int step) /* of 2 pi step / n_fft */
{
    return w2s_cosine[step < W2S_N_FFT / 4 ? W2S_N_FFT / 4 - step : step - W2S_N_FFT / 4];
}

static float hann_at(int i)
{
    return w2s_hann[i <= W2S_WIN_LENGTH / 2 ? i : W2S_WIN_LENGTH - i];
}

static void load_sample(const float *samples, const float *mean, int i, float *x) /* sample i of each window */
{
    const float weight = i < W2S_WIN_LENGTH ? hann_at(i) : 0;
    for (int t = 0; t < W2S_LANES; t++)
        x[t] = i < W2S_WIN_LENGTH ? (samples[t * W2S_HOP_LENGTH + i] - mean[t]) * weight : 0;
}

/* Load windows in the FFT's order: even samples as real parts, odd samples as imaginary parts, then zeros. */
static void load_windows(const float *samples, const float *mean, w2s_lanes *real, w2s_lanes *imag)
{
    unsigned reversed = 0;
    for (int i = 0; i < W2S_N_FFT; i += 2) {
        load_sample(samples, mean, i, real[reversed]);
        load_sample(samples, mean, i + 1, imag[reversed]);
        unsigned bit = W2S_N_FFT / 4;
        while (reversed & bit) {
            reversed ^= bit;
            bit >>= 1;
        }
        reversed |= bit;
    }
}

typedef struct {
    w2s_vector real, imag;
} w2s_complex;

/* top and low become top + low w and top - low w, w = c - i s. */
static void butterfly(w2s_complex *top, w2s_complex *low, float c, float s)
{
    const w2s_vector turned_real = low->real * c + low->imag * s, turned_imag = low->imag * c - low->real * s;
    low->real = top->real - turned_real;
    low->imag = top->imag - turned_imag;
    top->real += turned_real;
    top->imag += turned_imag;
}

static w2s_complex get(const float *real, const float *imag) /* (W2S_LANES) each */
{
    const w2s_complex found = {*(const w2s_vector *)real, *(const w2s_vector *)imag};
    return found;
}

static void put(w2s_complex value, float *real, float *imag)
{
    *(w2s_vector *)real = value.real;
    *(w2s_vector *)imag = value.imag;
}

/* Two radix-2 stages on the four values that they combine: distance `half`, then twice that. */
static void two_stages(w2s_lanes *real, w2s_lanes *imag, int half, int j)
{
    const int step = j * (W2S_N_FFT / 2 / half), next = step / 2, last = next + W2S_N_FFT / 4;
    w2s_complex a = get(real[0], imag[0]), b = get(real[half], imag[half]);
    w2s_complex c = get(real[2 * half], imag[2 * half]), d = get(real[3 * half], imag[3 * half]);
    butterfly(&a, &b, w2s_cosine[step], sine(step));
    butterfly(&c, &d, w2s_cosine[step], sine(step));
    butterfly(&a, &c, w2s_cosine[next], sine(next));
    butterfly(&b, &d, w2s_cosine[last], sine(last));
    put(a, real[0], imag[0]);
    put(b, real[half], imag[half]);
    put(c, real[2 * half], imag[2 * half]);
    put(d, real[3 * half], imag[3 * half]);
}

static void one_stage(w2s_lanes *real, w2s_lanes *imag, int half, int j)
{
    const int step = j * (W2S_N_FFT / 2 / half);
    w2s_complex top = get(real[0], imag[0]), low = get(real[half], imag[half]);
    butterfly(&top, &low, w2s_cosine[step], sine(step));
    put(top, real[0], imag[0]);
    put(low, real[half], imag[half]);
}

static void fft(w2s_lanes *real, w2s_lanes *imag) /* (n_fft / 2) complex, in place */
{
    int half = 1;
    for (; half < W2S_N_FFT / 4; half *= 4)
        for (int j = 0; j < half; j++)
            for (int top = j; top < W2S_N_FFT / 2; top += 4 * half) two_stages(real + top, imag + top, half, j);
    for (int j = 0; half < W2S_N_FFT / 2 && j < half; j++) one_stage(real + j, imag + j, half, j);
}

static void add_bin(const float *re, const float *im, const float *mirror_re, const float *mirror_im, int bin,
                    float *restrict low, float *restrict high) /* add power to its two bands */
{
    const float c = w2s_cosine[bin], s = sine(bin), to_low = w2s_mel_weight[bin][0], to_high = w2s_mel_weight[bin][1];
    for (int t = 0; t < W2S_LANES; t++) {
        const float odd_real = im[t] + mirror_im[t], odd_imag = mirror_re[t] - re[t];
        const float whole_real = re[t] + mirror_re[t] + (odd_real * c + odd_imag * s);
        const float whole_imag = im[t] - mirror_im[t] + (odd_imag * c - odd_real * s);
        const float power = whole_real * whole_real + whole_imag * whole_imag;
        low[t] += power * to_low;
        high[t] += power * to_high;
    }
}

/* Mel power from the half-length FFT of real signals. */
static void mel_power(w2s_lanes *real, w2s_lanes *imag, w2s_lanes *mel) /* (n_fft / 2) -> (n_mels) */
{
    memset(mel, 0, W2S_N_MELS * sizeof *mel);
    for (int bin = 1; bin < W2S_N_FFT / 2; bin++) {
        const int mirror = W2S_N_FFT / 2 - bin, band = w2s_mel_band[bin];
        add_bin(real[bin], imag[bin], real[mirror], imag[mirror], bin, mel[band], mel[band + 1]);
    }
}

#if W2S_LEVEL_FRAMES > 0
static void signal_level(w2s_stream *stream, const w2s_block *block, int first, int frames, float *mean, float *variance)
{
    (void)stream, (void)block, (void)first, (void)frames, (void)variance;
    for (int t = 0; t < W2S_LANES; t++) mean[t] = 0;
}

/* Mean power of the last frames, including this one. The sum is recomputed once per cycle, so errors do not accumulate. */
static void running_level(w2s_stream *stream, w2s_lanes *mel, int first, int frames, float *level)
{
    for (int t = 0; t < frames; t++) {
        const uint32_t frame = stream->frames + (uint32_t)(first + t);
        const uint32_t slot = frame % W2S_LEVEL_FRAMES;
        const float count = frame < W2S_LEVEL_FRAMES ? (float)(frame + 1) : (float)W2S_LEVEL_FRAMES;
        float power = 0;
        for (int band = 0; band < W2S_N_MELS; band++) power += mel[band][t];
        stream->level_sum += power - stream->level[slot];
        stream->level[slot] = power;
        if (slot == 0) {
            stream->level_sum = 0;
            for (int i = 0; i < W2S_LEVEL_FRAMES; i++) stream->level_sum += stream->level[i];
        }
        level[t] = larger(stream->level_sum, 0) / count;
    }
}
#else
/* Mean and variance of the signal up to the end of each frame, or those set by the caller. */
static void signal_level(w2s_stream *stream, const w2s_block *block, int first, int frames, float *mean, float *variance)
{
    for (int t = 0; t < frames; t++) {
        const uint32_t frame = stream->frames + (uint32_t)(first + t);
        const int n = frame == 0 ? W2S_WIN_LENGTH : W2S_HOP_LENGTH;
        const float *samples = block->samples + (first + t) * W2S_HOP_LENGTH + W2S_WIN_LENGTH - n;
        if (!stream->level_is_set) {
            const float before = frame == 0 ? 0 : (float)W2S_WIN_LENGTH + (float)(frame - 1) * W2S_HOP_LENGTH;
            const float share = (float)n / (before + (float)n);
            float sum = 0, squares = 0;
            for (int i = 0; i < n; i++) sum += samples[i];
            const float here = sum / (float)n, apart = here - stream->mean;
            for (int i = 0; i < n; i++) squares += (samples[i] - here) * (samples[i] - here);
            stream->mean += apart * share;
            stream->variance += (squares / (float)n - stream->variance + apart * apart * (1 - share)) * share;
        }
        mean[t] = stream->mean;
        variance[t] = stream->variance;
    }
}

static void set_level(w2s_stream *stream, float mean, float variance)
{
    stream->mean = mean;
    stream->variance = variance;
}

static void running_level(w2s_stream *stream, w2s_lanes *mel, int first, int frames, float *level)
{
    (void)stream, (void)mel, (void)first, (void)frames, (void)level;
}
#endif

/* Log-mel of frames, scaled to the input of the first layer. */
static void frontend(w2s_stream *stream, w2s_block *block, float *x, int frames) /* -> (n_mels, frames) */
{
    const int columns = columns_of(w2s_layers), above = w2s_layers->band_pad;
    w2s_lanes *real = block->scratch.frontend.real, *imag = block->scratch.frontend.imag;
    w2s_lanes *mel = block->scratch.frontend.mel;
    for (int first = 0; first < frames; first += W2S_LANES) {
        const int n = smaller(frames - first, W2S_LANES);
        w2s_lanes mean = {0}, level = {0};
        signal_level(stream, block, first, n, mean, level);
        load_windows(block->samples + first * W2S_HOP_LENGTH, mean, real, imag);
        fft(real, imag);
        mel_power(real, imag, mel);
        running_level(stream, mel, first, n, level);
        for (int t = 0; t < W2S_LANES; t++) level[t] = log2_of(level[t] + W2S_VARIANCE_FLOOR);
        for (int band = 0; band < W2S_N_MELS; band++) {
            float *row = x + (band + above) * columns + first;
            for (int t = 0; t < W2S_LANES; t++) {
                const float ratio = log2_of(larger(mel[band][t], 1e-37f)) - level[t];
                row[t] = larger(ratio * (10 / LOG2_10), W2S_LOWEST) * w2s_input_scale[band] + w2s_input_shift[band];
            }
        }
    }
}

/* ---- layers ---- */

/* Sums of a tile of outputs: sums[o][t] = bias[o] + weight[i][o] * x[offsets[i] + t] over i. */
static void products(const float *restrict weight, const float *restrict bias, const float *restrict x,
                     const int32_t *restrict offsets, int n, float *restrict out) /* (W2S_TILE, W2S_LANES) */
{
    w2s_vector sums[W2S_TILE];
    for (int o = 0; o < W2S_TILE; o++) sums[o] = bias[o] + (w2s_vector){0};
    for (int i = 0; i < n; i++, weight += W2S_TILE) {
        const w2s_vector row = *(const w2s_vector *)(x + offsets[i]);
        for (int o = 0; o < W2S_TILE; o++) sums[o] += weight[o] * row;
    }
    for (int o = 0; o < W2S_TILE; o++) *(w2s_vector *)(out + o * W2S_LANES) = sums[o];
}

/* Offsets of the values under a kernel, relative to the first; contiguous if they are gathered. */
static int kernel_offsets(const w2s_layer *layer, int32_t *offsets)
{
    const int bands = layer->bands + 2 * layer->band_pad, columns = columns_of(layer);
    int n = 0;
    for (int channel = 0; channel < layer->inputs; channel++)
        for (int band = 0; band < layer->kernel_bands; band++)
            for (int tap = 0; tap < layer->kernel; tap++, n++)
                offsets[n] = layer->stride > 1 ? n * W2S_LANES
                                               : (channel * bands + band) * columns + tap * layer->dilation;
    return n;
}

/* For strides above 1: copy the values under the kernel of some outputs to contiguous memory. */
static void gather(const w2s_layer *layer, const float *x, int outputs, float *patch) /* -> (size, W2S_LANES) */
{
    const int bands = layer->bands + 2 * layer->band_pad, columns = columns_of(layer);
    for (int channel = 0; channel < layer->inputs; channel++)
        for (int band = 0; band < layer->kernel_bands; band++)
            for (int tap = 0; tap < layer->kernel; tap++, patch += W2S_LANES) {
                const float *row = x + (channel * bands + band) * columns + tap * layer->dilation;
                for (int t = 0; t < outputs; t++) patch[t] = row[t * layer->stride];
            }
}

/* Write a tile of outputs: ReLU and the residual connection. */
static void store_tile(const float *sums, int outputs, float *y, int y_step, const float *residual, int residual_step)
{
    for (int o = 0; o < outputs; o++)
        for (int t = 0; t < W2S_LANES; t++) {
            const float value = larger(sums[o * W2S_LANES + t], 0);
            y[o * y_step + t] = residual ? value + residual[o * residual_step + t] : value;
        }
}

/* Convolution over all channels, in time and bands. */
static void convolution(w2s_block *block, const w2s_layer *layer, const float *x, float *y, const float *residual, int n)
{
    float sums[W2S_TILE * W2S_LANES], *patch = block->scratch.layer.patch;
    int32_t *offsets = block->scratch.layer.offsets;
    const int size = kernel_offsets(layer, offsets), columns = columns_of(layer + 1);
    const int bands = layer[1].bands + 2 * layer[1].band_pad, residual_step = residual ? columns_of(layer - 1) : 0;
    for (int band = 0; band < layer[1].bands; band++)
        for (int t = 0; t < n; t += W2S_LANES) {
            const float *from = x + band * layer->stride_bands * columns_of(layer) + t * layer->stride;
            if (layer->stride > 1) gather(layer, from, smaller(n - t, W2S_LANES), patch);
            for (int o = 0; o < layer->outputs; o += W2S_TILE) {
                products(layer->weight + o * size, layer->bias + o, layer->stride > 1 ? patch : from, offsets, size, sums);
                store_tile(sums, smaller(layer->outputs - o, W2S_TILE),
                           y + (o * bands + band + layer[1].band_pad) * columns + t, bands * columns,
                           residual ? residual + o * residual_step + t : NULL, residual_step);
            }
        }
}

/* Depthwise convolution in time. */
static void depthwise(const w2s_layer *layer, const float *x, float *y, int n)
{
    for (int channel = 0; channel < layer->outputs; channel++)
        for (int first = 0; first < n; first += W2S_LANES) {
            const float *from = x + channel * columns_of(layer) + first;
            float *to = y + channel * columns_of(layer + 1) + first;
            w2s_lanes sums;
            for (int t = 0; t < W2S_LANES; t++) sums[t] = layer->bias[channel];
            for (int tap = 0; tap < layer->kernel; tap++) {
                const float weight = layer->weight[channel * layer->kernel + tap];
                for (int t = 0; t < W2S_LANES; t++) sums[t] += weight * from[tap * layer->dilation + t];
            }
            for (int t = 0; t < W2S_LANES; t++) to[t] = larger(sums[t], 0);
        }
}

/* Max-pool. The zero padding has no effect, because all values are 0 or more. */
static void max_pool(const w2s_layer *layer, const float *x, float *y, int n)
{
    const int columns = columns_of(layer), bands = layer->bands + 2 * layer->band_pad;
    const int y_columns = columns_of(layer + 1), y_bands = layer[1].bands + 2 * layer[1].band_pad;
    for (int channel = 0; channel < layer->outputs; channel++)
        for (int band = 0; band < layer[1].bands; band++) {
            const float *from = x + (channel * bands + band * layer->stride_bands) * columns;
            float *to = y + (channel * y_bands + band + layer[1].band_pad) * y_columns;
            float column[W2S_WIDTH(W2S_KEPT, 1)] = {0};
            for (int row = 0; row < layer->kernel_bands; row++)
                for (int t = 0; t < columns; t++) column[t] = larger(column[t], from[row * columns + t]);
            for (int t = 0; t < n; t++) {
                float largest = 0;
                for (int tap = 0; tap < layer->kernel; tap++) largest = larger(largest, column[t * layer->stride + tap]);
                to[t] = largest;
            }
        }
}

/* Run one layer: n output columns from its input x to the next input y; `before` is the input of the previous layer. */
static void run_layer(w2s_block *block, int index, const float *x, float *y, const float *before, int n)
{
    const w2s_layer *layer = &w2s_layers[index];
    switch (layer->kind) {
    case W2S_DEPTHWISE:
        depthwise(layer, x, y, n);
        break;
    case W2S_MAX_POOL:
        max_pool(layer, x, y, n);
        break;
    default:
        convolution(block, layer, x, y, layer->residual ? before + layer[-1].before : NULL, n);
    }
}

/* ---- pooling ---- */

static void empty_pool(w2s_pool *pool)
{
    for (int i = 0; i < W2S_POOLED; i++) {
        pool->exponent[i] = -1e30f;
        pool->weights[i] = pool->values[i] = 0;
    }
}

/* Pairwise sum, which vectorises; overwrites x. */
static float sum_of(float *x) /* (W2S_LANES) */
{
    for (int half = W2S_LANES / 2; half > 0; half /= 2)
        for (int t = 0; t < half; t++) x[t] += x[t + half];
    return x[0];
}

/* Add n values per token with weights 2^score; score and value are (n, W2S_LANES). */
static void add_to_pool(w2s_pool *pool, int first, int n, const float *score, const float *value)
{
    float weight[W2S_TILE * W2S_LANES], exponent[W2S_TILE];
    for (int o = 0; o < n; o++) {
        float largest = pool->exponent[first + o];
        for (int t = 0; t < W2S_LANES; t++) largest = larger(largest, score[o * W2S_LANES + t]);
        for (int t = 0; t < W2S_LANES; t++)
            weight[o * W2S_LANES + t] = larger(score[o * W2S_LANES + t] - largest, LEAST_EXPONENT);
        exponent[o] = largest;
    }
    for (int i = 0; i < n * W2S_LANES; i++) weight[i] = exp2_of(weight[i]);
    for (int o = 0; o < n; o++) {
        w2s_lanes weighted;
        const float older = exp2_of(larger(pool->exponent[first + o] - exponent[o], LEAST_EXPONENT));
        for (int t = 0; t < W2S_LANES; t++) weighted[t] = weight[o * W2S_LANES + t] * value[o * W2S_LANES + t];
        pool->weights[first + o] = pool->weights[first + o] * older + sum_of(weight + o * W2S_LANES);
        pool->values[first + o] = pool->values[first + o] * older + sum_of(weighted);
        pool->exponent[first + o] = exponent[o];
    }
}

static void pool_tokens(w2s_stream *stream, w2s_block *block, const float *x, int n) /* (token, columns) */
{
    static const float nothing[W2S_TILE] = {0};
    float value[W2S_TILE * W2S_LANES], score[W2S_TILE * W2S_LANES];
    int32_t *offsets = block->scratch.layer.offsets;
    for (int i = 0; i < W2S_TOKEN; i++) offsets[i] = i * columns_of(&w2s_layers[W2S_N_LAYERS]);
    for (int o = 0; o < W2S_POOLED; o += W2S_TILE)
        for (int first = 0; first < n; first += W2S_LANES) {
            products(w2s_lin_weight + o * W2S_TOKEN, w2s_lin_bias + o, x + first, offsets, W2S_TOKEN, value);
            products(w2s_sof_weight + o * W2S_TOKEN, nothing, x + first, offsets, W2S_TOKEN, score);
            const int outputs = smaller(W2S_POOLED - o, W2S_TILE);
            for (int i = 0; i < outputs; i++)
                for (int t = n - first; t < W2S_LANES; t++) score[i * W2S_LANES + t] = -1e30f;
            add_to_pool(&stream->pool, o, outputs, score, value);
#if W2S_PARTS > 0
            add_to_pool(&stream->parts[stream->part], o, outputs, score, value);
#endif
        }
}

#if W2S_PARTS > 0
static int pool_is_empty(const w2s_pool *pool)
{
    return !(pool->weights[0] > 0);
}

static void merge_pool(w2s_pool *pool, const w2s_pool *part)
{
    for (int i = 0; i < W2S_POOLED; i++) {
        const float largest = larger(pool->exponent[i], part->exponent[i]);
        const float older = exp2_of(larger(pool->exponent[i] - largest, LEAST_EXPONENT));
        const float newer = exp2_of(larger(part->exponent[i] - largest, LEAST_EXPONENT));
        pool->weights[i] = pool->weights[i] * older + part->weights[i] * newer;
        pool->values[i] = pool->values[i] * older + part->values[i] * newer;
        pool->exponent[i] = largest;
    }
}
#endif

static void read_pool(const w2s_pool *pool, w2s_emotion *emotion, float *embedding)
{
    float sums[3] = {w2s_out_bias[0], w2s_out_bias[1], w2s_out_bias[2]};
    for (int i = 0; i < W2S_POOLED; i++) {
        const float mean = pool->values[i] / pool->weights[i];
        for (int k = 0; k < 3; k++) sums[k] += w2s_out_weight[k * W2S_POOLED + i] * mean;
        if (embedding) embedding[i] = mean;
    }
    emotion->arousal = sums[0];
    emotion->dominance = sums[1];
    emotion->valence = sums[2];
}
