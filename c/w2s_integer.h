/* Arithmetic of integer models: bit-exact to network/fixed_point.py and network/fixed_frontend.py. Part of w2s.c.
 *
 * Right shifts of negative numbers must be arithmetic, which is true for all tested compilers.
 */

/* Right shift, halves rounded up. */
static int64_t shifted(int64_t value, int places)
{
    return (value + ((int64_t)1 << (places - 1))) >> places;
}

static int32_t cut(int64_t value, int32_t largest)
{
    if (value > largest) return largest;
    return value < -largest - 1 ? -largest - 1 : (int32_t)value;
}

/* Right shift, halves rounded up (left shift if places < 0), saturated to -largest - 1 .. largest. */
static int32_t narrow(int64_t sum, int places, int32_t largest)
{
    return cut(places > 0 ? shifted(sum, places) : sum * ((int64_t)1 << -places), largest);
}

static int16_t from_int16(int16_t sample)
{
    return sample;
}

static int16_t from_float(float sample)
{
    const float scaled = sample * 32768.0f + 0.5f;
    if (scaled >= 32767.0f) return 32767;
    if (scaled <= -32768.0f) return -32768;
    if (!(scaled < 0 || scaled >= 0)) return 0;
    const int32_t whole = (int32_t)scaled;
    return (int16_t)(whole - ((float)whole > scaled));
}

/* ---- front end ---- */

static int32_t hann_at(int i)
{
    return w2s_hann[i <= W2S_WIN_LENGTH / 2 ? i : W2S_WIN_LENGTH - i];
}

static int32_t sine(int step) /* of 2 pi step / n_fft */
{
    return w2s_cosine[step < W2S_N_FFT / 4 ? W2S_N_FFT / 4 - step : step - W2S_N_FFT / 4];
}

/* a c + b s; c and s have 30 fractional bits. */
static int32_t turned(int32_t a, int32_t c, int32_t b, int32_t s)
{
    return (int32_t)shifted((int64_t)a * c + (int64_t)b * s, 30);
}

/* A windowed sample, minus the utterance mean for models that use it. */
static int32_t windowed(const int16_t *samples, int i, int32_t mean)
{
#if W2S_LEVEL_FRAMES > 0
    (void)mean;
    return (int32_t)shifted(samples[i] * hann_at(i), W2S_WINDOW_SHIFT);
#else
    const int64_t centred = samples[i] * (1 << W2S_MEAN_BITS) - mean;
    return (int32_t)shifted(centred * hann_at(i), W2S_WINDOW_SHIFT + W2S_MEAN_BITS);
#endif
}

/* Load one window in the FFT's order: even samples as real parts, odd samples as imaginary parts, then zeros. */
static void load_window(const int16_t *samples, int32_t mean, int32_t *real, int32_t *imag) /* (n_fft / 2) each */
{
    unsigned reversed = 0;
    for (int i = 0; i < W2S_N_FFT; i += 2) {
        real[reversed] = i < W2S_WIN_LENGTH ? windowed(samples, i, mean) : 0;
        imag[reversed] = i + 1 < W2S_WIN_LENGTH ? windowed(samples, i + 1, mean) : 0;
        unsigned bit = W2S_N_FFT / 4;
        while (reversed & bit) {
            reversed ^= bit;
            bit >>= 1;
        }
        reversed |= bit;
    }
}

static void fft(int32_t *restrict real, int32_t *restrict imag) /* (n_fft / 2) complex, in place */
{
    for (int half = 1; half < W2S_N_FFT / 2; half *= 2)
        for (int j = 0; j < half; j++) {
            const int step = j * (W2S_N_FFT / 2 / half);
            const int32_t c = w2s_cosine[step], s = sine(step);
            for (int top = j; top < W2S_N_FFT / 2; top += 2 * half) {
                const int low = top + half;
                int32_t turned_real = real[low], turned_imag = imag[low];
                if (j > 0) {
                    turned_real = turned(real[low], c, imag[low], s);
                    turned_imag = turned(imag[low], c, real[low], -s);
                }
                real[low] = real[top] - turned_real;
                imag[low] = imag[top] - turned_imag;
                real[top] += turned_real;
                imag[top] += turned_imag;
            }
        }
}

/* Mel power from the half-length FFT of a real signal. */
static void mel_power(const int32_t *real, const int32_t *imag, int64_t *mel) /* (n_fft / 2) -> (n_mels) */
{
    memset(mel, 0, W2S_N_MELS * sizeof *mel);
    for (int bin = 1; bin < W2S_N_FFT / 2; bin++) {
        const int mirror = W2S_N_FFT / 2 - bin;
        const int32_t odd_real = imag[bin] + imag[mirror], odd_imag = real[mirror] - real[bin];
        const int32_t c = w2s_cosine[bin], s = sine(bin);
        const int32_t re = real[bin] + real[mirror] + turned(odd_real, c, odd_imag, s);
        const int32_t im = imag[bin] - imag[mirror] + turned(odd_imag, c, odd_real, -s);
        const int64_t power = ((int64_t)re * re + (int64_t)im * im) >> W2S_POWER_SHIFT;
        mel[w2s_mel_band[bin]] += power * w2s_mel_weight[bin][0];
        mel[w2s_mel_band[bin] + 1] += power * w2s_mel_weight[bin][1];
    }
}

static int32_t log2_of(int64_t value) /* value >= 1; 16 fractional bits */
{
    int exponent = 0;
    for (int places = 32; places > 0; places /= 2)
        if (value >> exponent >> places > 0) exponent += places;
    const int64_t mantissa = value << (62 - exponent);
    const int index = (int)(mantissa >> 56) & 63, between = (int)(mantissa >> 40) & 0xffff;
    const int32_t start = w2s_log2[index], slope = (int32_t)w2s_log2[index + 1] - start;
    return (int32_t)((uint32_t)exponent << 16) + start + (int32_t)shifted((int64_t)slope * between, 16);
}

#if W2S_LEVEL_FRAMES > 0
static int32_t signal_level(w2s_stream *stream, const int16_t *samples, uint32_t frame)
{
    (void)stream, (void)samples, (void)frame;
    return 0;
}

/* log2 of the level of the last frames, including this one, in units of mel power. */
static int32_t log2_level(w2s_stream *stream, const int64_t *mel, uint32_t frame)
{
    int64_t power = 0;
    for (int band = 0; band < W2S_N_MELS; band++) power += mel[band];
    uint32_t *oldest = &stream->level[frame % W2S_LEVEL_FRAMES];
    const uint32_t latest = (uint32_t)shifted(power, W2S_LEVEL_SHIFT);
    const int64_t count = frame < W2S_LEVEL_FRAMES ? (int64_t)frame + 1 : W2S_LEVEL_FRAMES;
    stream->level_sum += (int64_t)latest - *oldest;
    *oldest = latest;
    return log2_of(stream->level_sum * 256 + count * W2S_LEVEL_FLOOR) - log2_of(count) + W2S_LOG2_UNIT * 65536;
}
#else
/* Mean of the signal up to the end of a frame; stores its variance. Or the mean and variance set by the caller. */
static int32_t signal_level(w2s_stream *stream, const int16_t *samples, uint32_t frame)
{
    if (!stream->level_is_set) {
        for (int i = frame == 0 ? 0 : W2S_WIN_LENGTH - W2S_HOP_LENGTH; i < W2S_WIN_LENGTH; i++) {
            stream->sum += samples[i];
            stream->squares += samples[i] * samples[i];
        }
        stream->count += frame == 0 ? W2S_WIN_LENGTH : W2S_HOP_LENGTH;
        const int64_t count = stream->count, sum = stream->sum * (1 << W2S_MEAN_BITS);
        const int64_t mean = sum / count - (sum % count < 0);
        const int64_t rest = stream->squares % count * (1 << W2S_VARIANCE_BITS) / count;
        const int64_t square = stream->squares / count * (1 << W2S_VARIANCE_BITS) + rest;
        const int64_t variance = square - (mean * mean >> (2 * W2S_MEAN_BITS - W2S_VARIANCE_BITS));
        stream->mean = mean;
        stream->variance = variance > 0 ? variance : 0;
    }
    return (int32_t)stream->mean;
}

static void set_level(w2s_stream *stream, float mean, float variance)
{
    const float nearest = mean < -1 ? -1 : mean > 1 ? 1 : mean, unit = (float)((int64_t)1 << W2S_MEAN_BITS);
    stream->mean = (int64_t)(nearest * 32768 * unit);
    stream->variance = (int64_t)((variance > 1 ? 1 : variance) * 1073741824 * (float)((int64_t)1 << W2S_VARIANCE_BITS));
}

/* log2 of the utterance variance, in units of mel power. */
static int32_t log2_level(const w2s_stream *stream, const int64_t *mel, uint32_t frame)
{
    (void)mel, (void)frame;
    return log2_of(stream->variance + W2S_LEVEL_FLOOR) + W2S_LOG2_UNIT * 65536;
}
#endif

/* Log-mel of frames, scaled to the input of the first layer. */
static void frontend(w2s_stream *stream, int8_t *x, int frames) /* -> (n_mels, frames) */
{
    const int columns = columns_of(w2s_layers), above = W2S_KERNEL_BANDS > 1 ? w2s_layers->band_pad : 0;
    int32_t *real = stream->scratch.frontend.real, *imag = stream->scratch.frontend.imag;
    int64_t *mel = stream->scratch.frontend.mel;
    for (int t = 0; t < frames; t++) {
        const int16_t *samples = stream->samples + t * W2S_HOP_LENGTH;
        load_window(samples, signal_level(stream, samples, stream->frames + (uint32_t)t), real, imag);
        fft(real, imag);
        mel_power(real, imag, mel);
        const int32_t level = log2_level(stream, mel, stream->frames + (uint32_t)t);
        for (int band = 0; band < W2S_N_MELS; band++) {
            int32_t decibel = W2S_LOWEST;
            if (mel[band] > 0) decibel = (int32_t)shifted((int64_t)(log2_of(mel[band]) - level) * W2S_DECIBEL, 24);
            if (decibel < W2S_LOWEST) decibel = W2S_LOWEST;
            const int64_t scaled = (int64_t)decibel * w2s_input_scale[band] + w2s_input_shift[band];
            x[(band + above) * columns + t] = (int8_t)narrow(scaled, W2S_INPUT_SHIFT, 127);
        }
    }
}

/* ---- layers ---- */

#include "w2s_dot.h"

static int8_t rectified(int64_t sum, int places) /* ReLU, then saturation to int8 */
{
    return (int8_t)narrow(sum > 0 ? sum : 0, places, 127);
}

/* Depthwise convolution. */
static void depthwise(const w2s_layer *layer, const int8_t *x, int8_t *y, int y_columns, int n)
{
    const int columns = columns_of(layer);
    for (int channel = 0; channel < layer->outputs; channel++)
        for (int t = 0; t < n; t++) {
            const int8_t *first = x + channel * columns + t * layer->stride;
            int32_t sum = layer->bias[channel];
            for (int tap = 0; tap < layer->kernel; tap++)
                sum += layer->weight[channel * layer->kernel + tap] * first[tap * layer->dilation];
            y[channel * y_columns + t] = rectified(sum, layer->shift[channel]);
        }
}

/* Copy the values under a kernel to contiguous memory; returns their number. */
static int gather(const w2s_layer *layer, const int8_t *x, int8_t *patch)
{
    const int columns = columns_of(layer), kernel_bands = W2S_KERNEL_BANDS > 1 ? layer->kernel_bands : 1;
    const int bands = W2S_KERNEL_BANDS > 1 ? layer->bands + 2 * layer->band_pad : 1;
    int8_t *next = patch;
    for (int channel = 0; channel < layer->inputs; channel++)
        for (int band = 0; band < kernel_bands; band++)
            for (int tap = 0; tap < layer->kernel; tap++)
                *next++ = x[(channel * bands + band) * columns + tap * layer->dilation];
    return (int)(next - patch);
}

/* Convolution over all channels, in time and bands: a patch of the input, then a dot product with each row of weights. */
static void convolution(w2s_stream *stream, const w2s_layer *layer, const int8_t *x, int8_t *y, int y_columns,
                        const int8_t *residual, int residual_columns, int n)
{
    int8_t *patch = stream->scratch.layer.patch;
    const int bands = W2S_KERNEL_BANDS > 1 ? layer[1].bands : 1;
    const int y_step = W2S_KERNEL_BANDS > 1 ? (bands + 2 * layer[1].band_pad) * y_columns : y_columns;
    if (W2S_KERNEL_BANDS > 1) y += layer[1].band_pad * y_columns;
    for (int band = 0; band < bands; band++, y += y_columns)
        for (int t = 0; t < n; t++) {
            const int size = gather(layer, x + band * layer->stride_bands * columns_of(layer) + t * layer->stride, patch);
            for (int channel = 0; channel < layer->outputs; channel++) {
                const int32_t sum = layer->bias[channel] + dot(layer->weight + channel * size, patch, size);
                int32_t value = rectified(sum, layer->shift[channel]);
                if (residual) value = cut(value + residual[channel * residual_columns + t], 127);
                y[channel * y_step + t] = (int8_t)value;
            }
        }
}

/* Max-pool. The zero padding has no effect, because all values are 0 or more. */
static void max_pool(const w2s_layer *layer, const int8_t *x, int8_t *y, int y_columns, int n)
{
    const int columns = columns_of(layer), bands = layer->bands + 2 * layer->band_pad;
    const int y_bands = layer[1].bands + 2 * layer[1].band_pad;
    for (int channel = 0; channel < layer->outputs; channel++)
        for (int band = 0; band < layer[1].bands; band++)
            for (int t = 0; t < n; t++) {
                const int8_t *from = x + (channel * bands + band * layer->stride_bands) * columns + t * layer->stride;
                int8_t largest = 0;
                for (int row = 0; row < layer->kernel_bands; row++)
                    for (int tap = 0; tap < layer->kernel; tap++)
                        if (from[row * columns + tap] > largest) largest = from[row * columns + tap];
                y[(channel * y_bands + band + layer[1].band_pad) * y_columns + t] = largest;
            }
}

/* Run one layer: n output columns from its input x to the next input y; `before` is the input of the previous layer. */
static void run_layer(w2s_stream *stream, int index, const int8_t *x, int8_t *y, const int8_t *before, int n)
{
    const w2s_layer *layer = &w2s_layers[index];
    const int y_columns = columns_of(layer + 1);
    if (layer->kind == W2S_DEPTHWISE) {
        depthwise(layer, x, y, y_columns, n);
    } else if (W2S_KERNEL_BANDS > 1 && layer->kind == W2S_MAX_POOL) {
        max_pool(layer, x, y, y_columns, n);
    } else {
        const int8_t *residual = layer->residual ? before + layer[-1].before : NULL;
        convolution(stream, layer, x, y, y_columns, residual, layer->residual ? columns_of(layer - 1) : 0, n);
    }
}

/* ---- pooling ---- */

static void empty_pool(w2s_pool *pool)
{
    for (int i = 0; i < W2S_POOLED; i++) {
        pool->exponent[i] = INT16_MIN;
        pool->weights[i] = pool->values[i] = 0;
    }
}

/* Rescale sums from units of 2^exponent to units of 2^largest. */
static void raise(w2s_pool *pool, int i, int largest)
{
    const int places = smaller(largest - pool->exponent[i], 62);
    pool->weights[i] >>= places;
    pool->values[i] >>= places;
    pool->exponent[i] = (int16_t)largest;
}

/* Add one value of a token with the weight 2^(score / 256). */
static void add_to_pool(w2s_pool *pool, int i, int32_t score, int32_t value)
{
    const int whole = score >> 8, largest = whole > pool->exponent[i] ? whole : pool->exponent[i];
    const int64_t weight = (int64_t)w2s_powers[score & 255] >> smaller(largest - whole, 62);
    if (largest > pool->exponent[i]) raise(pool, i, largest);
    pool->weights[i] += weight;
    pool->values[i] += weight * value;
}

static void pool_tokens(w2s_stream *stream, const int8_t *x, int n) /* (token, columns) */
{
    int8_t *token = stream->scratch.layer.patch;
    const int columns = columns_of(&w2s_layers[W2S_N_LAYERS]);
    for (int t = 0; t < n; t++) {
        for (int row = 0; row < W2S_TOKEN; row++) token[row] = x[row * columns + t];
        for (int i = 0; i < W2S_POOLED; i++) {
            const int32_t sum = w2s_lin_bias[i] + dot(w2s_lin_weight + i * W2S_TOKEN, token, W2S_TOKEN);
            const int32_t value = narrow(sum, w2s_lin_shift[i], 127);
            const int32_t score = narrow(dot(w2s_sof_weight + i * W2S_TOKEN, token, W2S_TOKEN), w2s_sof_shift[i], 32767);
            add_to_pool(&stream->pool, i, score, value);
#if W2S_PARTS > 0
            add_to_pool(&stream->parts[stream->part], i, score, value);
#endif
        }
    }
}

#if W2S_PARTS > 0
static int pool_is_empty(const w2s_pool *pool)
{
    return pool->weights[0] == 0;
}

static void merge_pool(w2s_pool *pool, const w2s_pool *part)
{
    for (int i = 0; i < W2S_POOLED; i++) {
        const int exponent = part->exponent[i], places = smaller(pool->exponent[i] - exponent, 62);
        if (exponent > pool->exponent[i]) raise(pool, i, exponent);
        pool->weights[i] += part->weights[i] >> (places > 0 ? places : 0);
        pool->values[i] += part->values[i] >> (places > 0 ? places : 0);
    }
}
#endif

static void read_pool(const w2s_pool *pool, w2s_emotion *emotion, float *embedding)
{
    int64_t sums[3] = {w2s_out_bias[0], w2s_out_bias[1], w2s_out_bias[2]};
    float answer[3];
    for (int i = 0; i < W2S_POOLED; i++) {
        const int32_t mean = (int32_t)(pool->values[i] * 256 / pool->weights[i]);
        for (int k = 0; k < 3; k++) sums[k] += (int64_t)w2s_out_weight[k * W2S_POOLED + i] * mean;
        if (embedding) embedding[i] = (float)mean * W2S_EMBEDDING_UNIT;
    }
    for (int k = 0; k < 3; k++) answer[k] = (float)narrow(sums[k], w2s_out_shift[k], INT32_MAX) * (1.0f / 32768);
    emotion->arousal = answer[0];
    emotion->dominance = answer[1];
    emotion->valence = answer[2];
}
