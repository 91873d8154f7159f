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

#include "w2s_dot.h"

/* ---- front end ---- */

static int32_t hann_at(int i)
{
    return w2s_hann[i <= W2S_WIN_LENGTH / 2 ? i : W2S_WIN_LENGTH - i];
}

static int32_t sine(int step) /* of 2 pi step / n_fft, up to a quarter */
{
    return w2s_cosine[W2S_N_FFT / 4 - step];
}

/* Upper half of a product of 64 bits, halves rounded up. */
static int32_t upper(int64_t product)
{
    return (int32_t)(product >> 32) + (int32_t)((uint32_t)product >> 31);
}

/* a c + b s; c and s have 31 fractional bits, a and b are doubled. */
static int64_t turned(int32_t a, int32_t c, int32_t b, int32_t s)
{
    return (int64_t)a * c + (int64_t)b * s;
}

/* A windowed sample, minus the utterance mean for models that use it; 0 behind the window. */
static int32_t windowed(const int16_t *samples, int i, int32_t mean)
{
    if (i >= W2S_WIN_LENGTH) return 0;
#if W2S_LEVEL_FRAMES > 0
    (void)mean;
    return (samples[i] * hann_at(i) + (1 << (W2S_WINDOW_SHIFT - 1))) >> W2S_WINDOW_SHIFT;
#else
    const int64_t centred = samples[i] * (1 << W2S_MEAN_BITS) - mean;
    return (int32_t)shifted(centred * hann_at(i), W2S_WINDOW_SHIFT + W2S_MEAN_BITS);
#endif
}

/* Two samples from an even index on, as the real and the imaginary part of the FFT's input. */
static w2s_bin pair_at(const int16_t *samples, int i, int32_t mean)
{
    const w2s_bin pair = {windowed(samples, i, mean), windowed(samples, i + 1, mean)};
    return pair;
}

/* Replace top and low by top + turned and top - turned. */
static inline void combine(w2s_bin *top, w2s_bin *low, int32_t real, int32_t imag)
{
    const w2s_bin value = *top;
    top->real = value.real + real;
    top->imag = value.imag + imag;
    low->real = value.real - real;
    low->imag = value.imag - imag;
}

/* Load one window in the FFT's order, and compute the first two stages, whose twiddle factors are 1 and -i. */
static void load_window(const int16_t *samples, int32_t mean, w2s_bin *bins) /* -> (n_fft / 2) */
{
    unsigned reversed = 0;
    for (int i = 0; i < W2S_N_FFT / 4; i += 2) {
        w2s_bin *x = bins + reversed;
        x[0] = pair_at(samples, i, mean);
        x[2] = pair_at(samples, i + W2S_N_FFT / 4, mean);
        const w2s_bin half = pair_at(samples, i + W2S_N_FFT / 2, mean);
        const w2s_bin last = pair_at(samples, i + 3 * (W2S_N_FFT / 4), mean);
        combine(x, x + 1, half.real, half.imag);
        combine(x + 2, x + 3, last.real, last.imag);
        combine(x, x + 2, x[2].real, x[2].imag);
        combine(x + 1, x + 3, x[3].imag, -x[3].real);
        unsigned bit = W2S_N_FFT / 4;
        while (reversed & bit) {
            reversed ^= bit;
            bit >>= 1;
        }
        reversed |= bit;
    }
}

#ifdef W2S_HELIUM
/* Upper half of a c + b s for four values, halves rounded up. */
static int32x4_t upper_of_four(int32x4_t a, int32x4_t c, int32x4_t b, int32x4_t s)
{
    const uint32x4_t low = vhaddq_u32((uint32x4_t)vmulq_s32(a, c), (uint32x4_t)vmulq_s32(b, s));
    return vaddq_s32(vaddq_s32(vmulhq_s32(a, c), vmulhq_s32(b, s)), (int32x4_t)vrshrq_n_u32(low, 31));
}

/* Four butterflies with the twiddle factors c - i s, or 1 where is_one, or those times -i. */
static inline void four_butterflies(w2s_bin *top, int half, int32x4_t c, int32x4_t s, mve_pred16_t is_one, int is_rotated)
{
    int32_t *to_top = &top->real, *to_low = &top[half].real;
    __asm__("" : "+r"(to_top), "+r"(to_low)); /* gcc 12 advances pointers in vst2, which does not assemble */
    int32x4x2_t value = vld2q_s32(to_top), low = vld2q_s32(to_low);
    const int32x4_t real = is_rotated ? low.val[1] : low.val[0], imag = is_rotated ? vnegq_s32(low.val[0]) : low.val[1];
    const int32x4_t twice_real = vaddq_s32(real, real), twice_imag = vaddq_s32(imag, imag);
    const int32x4_t turned_real = vpselq_s32(real, upper_of_four(twice_real, c, twice_imag, s), is_one);
    const int32x4_t turned_imag = vpselq_s32(imag, upper_of_four(twice_imag, c, vnegq_s32(twice_real), s), is_one);
    low.val[0] = vsubq_s32(value.val[0], turned_real);
    low.val[1] = vsubq_s32(value.val[1], turned_imag);
    value.val[0] = vaddq_s32(value.val[0], turned_real);
    value.val[1] = vaddq_s32(value.val[1], turned_imag);
    vst2q_s32(to_top, value);
    vst2q_s32(to_low, low);
}

/* A stage with a distance of 8 or more. */
static void stage_by_four(w2s_bin *bins, int half)
{
    for (uint32_t j = 0; j < (uint32_t)half / 2; j += 4) {
        const uint32x4_t step = vmulq_n_u32(vidupq_n_u32(j, 1), (uint32_t)(W2S_N_FFT / 2 / half));
        const int32x4_t c = vldrwq_gather_shifted_offset_s32(w2s_cosine, step);
        const int32x4_t s = vldrwq_gather_shifted_offset_s32(w2s_cosine, vsubq_u32(vdupq_n_u32(W2S_N_FFT / 4), step));
        const mve_pred16_t is_one = vcmpeqq_n_u32(step, 0);
        for (w2s_bin *top = bins + j; top < bins + W2S_N_FFT / 2; top += 2 * half) {
            four_butterflies(top, half, c, s, is_one, 0);
            four_butterflies(top + half / 2, half, c, s, is_one, 1);
        }
    }
}
#endif

/* One twiddle factor, c - i s, of the stage that combines values at the distance `half`. */
static void butterflies(w2s_bin *top, const w2s_bin *end, int half, int32_t c, int32_t s)
{
    for (; top < end; top += 2 * half) {
        const int32_t real = 2 * top[half].real, imag = 2 * top[half].imag;
        combine(top, top + half, upper(turned(real, c, imag, s)), upper(turned(imag, c, real, -s)));
    }
}

/* The stages of the FFT from the third on. The second half of the twiddle factors is the first half times -i. */
static void fft(w2s_bin *bins) /* (n_fft / 2), in place */
{
    const w2s_bin *end = bins + W2S_N_FFT / 2;
    for (int half = 4; half < W2S_N_FFT / 2; half *= 2) {
#ifdef W2S_HELIUM
        if (half >= 8) {
            stage_by_four(bins, half);
            continue;
        }
#endif
        for (w2s_bin *top = bins; top < end; top += 2 * half) {
            w2s_bin *middle = top + half / 2;
            combine(top, top + half, top[half].real, top[half].imag);
            combine(middle, middle + half, middle[half].imag, -middle[half].real);
        }
        for (int j = 1; j < half / 2; j++) {
            const int step = j * (W2S_N_FFT / 2 / half);
            const int32_t c = w2s_cosine[step], s = sine(step);
            butterflies(bins + j, end, half, c, s);
            butterflies(bins + j + half / 2, end, half, -s, c);
        }
    }
}

static w2s_bin power_of(int32_t real, int32_t imag)
{
    const uint64_t power = (uint64_t)((int64_t)real * real + (int64_t)imag * imag) >> W2S_POWER_SHIFT;
    const w2s_bin halves = {(int32_t)(uint32_t)power, (int32_t)(power >> 32)};
    return halves;
}

/* Power of each bin from the half-length FFT of a real signal: bins at equal distance from both ends share products. */
static void powers(w2s_bin *bins) /* (n_fft / 2), in place; bin 0 is not used */
{
    w2s_bin *low = bins + 1, *high = bins + W2S_N_FFT / 2 - 1;
    for (int step = 1; low < high; step++, low++, high--) {
        const int32_t even_real = low->real + high->real, even_imag = low->imag - high->imag;
        const int32_t odd_real = 2 * (low->imag + high->imag), odd_imag = 2 * (high->real - low->real);
        const int32_t c = w2s_cosine[step], s = sine(step);
        const int64_t turned_real = turned(odd_real, c, odd_imag, s);
        const int32_t turned_imag = upper(turned(odd_imag, c, odd_real, -s));
        *low = power_of(even_real + upper(turned_real), even_imag + turned_imag);
        *high = power_of(even_real + upper(-turned_real), turned_imag - even_imag);
    }
    *low = power_of(2 * low->real, 2 * low->imag);
}

static void mel_power(const w2s_bin *bins, int64_t *mel) /* powers -> (n_mels) */
{
    const uint16_t *weight = w2s_mel_filters;
    for (int band = 0; band < W2S_N_MELS; band++) {
        const w2s_bin *bin = bins + w2s_mel_first[band], *end = bin + w2s_mel_bins[band];
        uint64_t low = 0;
        uint32_t high = 0;
        for (; bin < end; bin++, weight++) {
            low += (uint64_t)(uint32_t)bin->real * *weight;
            high += (uint32_t)bin->imag * *weight;
        }
        mel[band] = (int64_t)(low + ((uint64_t)high << 32));
    }
}

static int highest_bit(uint64_t value) /* value >= 1 */
{
#if defined(__GNUC__)
    return 63 - __builtin_clzll(value);
#else
    int bit = 0;
    for (int places = 32; places > 0; places /= 2)
        if (value >> bit >> places > 0) bit += places;
    return bit;
#endif
}

static int32_t log2_of(int64_t value) /* value >= 1; 16 fractional bits */
{
    const int exponent = highest_bit((uint64_t)value);
    const uint32_t mantissa = (uint32_t)(exponent > 31 ? value >> (exponent - 31) : value << (31 - exponent));
    const int index = (int)(mantissa >> 25) & 63, between = (int)(mantissa >> 9) & 0xffff;
    const uint16_t start = w2s_log2[index], slope = (uint16_t)(w2s_log2[index + 1] - start); /* log2(2) is stored as 0 */
    return (int32_t)((uint32_t)exponent << 16) + start + ((slope * between + (1 << 15)) >> 16);
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
static void frontend(w2s_stream *stream, w2s_block *block, int8_t *x, int frames) /* -> (frames, n_mels) */
{
    const int above = W2S_KERNEL_BANDS > 1 ? w2s_layers->band_pad : 0;
    w2s_bin *bins = block->scratch.frontend.bins;
    int64_t *mel = block->scratch.frontend.mel;
    for (int t = 0; t < frames; t++, x += rows_of(w2s_layers)) {
        const int16_t *samples = block->samples + t * W2S_HOP_LENGTH;
        load_window(samples, signal_level(stream, samples, stream->frames + (uint32_t)t), bins);
        fft(bins);
        powers(bins);
        mel_power(bins, mel);
        const int32_t level = log2_level(stream, mel, stream->frames + (uint32_t)t);
        for (int band = 0; band < W2S_N_MELS; band++) {
            int32_t decibel = W2S_LOWEST;
            if (mel[band] > 0) decibel = (int32_t)shifted((int64_t)(log2_of(mel[band]) - level) * W2S_DECIBEL, 24);
            if (decibel < W2S_LOWEST) decibel = W2S_LOWEST;
            const int64_t scaled = (int64_t)decibel * w2s_input_scale[band] + w2s_input_shift[band];
            x[band + above] = (int8_t)narrow(scaled, W2S_INPUT_SHIFT, 127);
        }
    }
}

/* ---- layers ---- */

/* A sum of products in the units of the output. Rounding needs no addition: the bias contains one half. */
static int32_t scaled(int32_t sum, int places)
{
    if (W2S_LEFT_SHIFTS && places < 0) return cut((int64_t)sum * ((int64_t)1 << -places), INT32_MAX);
    return sum >> places;
}

/* The sum of a row without bias, which contains no half yet. */
static int32_t with_half(int32_t sum, int places)
{
    return places > 0 ? sum + (1 << (places - 1)) : sum;
}

static int32_t limited(int32_t value, int32_t largest) /* to -largest - 1 .. largest */
{
    return value > largest ? largest : value < -largest - 1 ? -largest - 1 : value;
}

static int8_t rectified(int32_t value) /* ReLU, and saturation to int8 */
{
    return (int8_t)(value < 0 ? 0 : value > 127 ? 127 : value);
}

static int32_t bias_of(const w2s_layer *layer, int channel)
{
    return layer->bias_bytes == 2 ? ((const int16_t *)layer->bias)[channel] : ((const int32_t *)layer->bias)[channel];
}

/* Depthwise convolution in time: (columns, channels) -> (n, channels). */
#ifdef W2S_HELIUM
static void depthwise(const w2s_layer *layer, const int8_t *x, int8_t *y, int n)
{
    const int channels = layer->outputs;
    for (int t = 0; t < n; t++, x += channels, y += channels)
        for (int channel = 0; channel < channels; channel += 4) {
            const mve_pred16_t used = vctp32q((uint32_t)(channels - channel));
            const int8_t *weight = layer->weight + channel, *value = x + channel;
            int32x4_t sum = layer->bias_bytes == 2 ? vldrhq_z_s32((const int16_t *)layer->bias + channel, used)
                                                   : vldrwq_z_s32((const int32_t *)layer->bias + channel, used);
            for (int tap = 0; tap < layer->kernel; tap++, weight += channels, value += layer->dilation * channels)
                sum = vaddq_s32(sum, vmulq_s32(vldrbq_z_s32(weight, used), vldrbq_z_s32(value, used)));
            sum = vqshlq_s32(sum, vnegq_s32(vldrbq_z_s32(layer->shift + channel, used)));
            vstrbq_p_s32(y + channel, vminq_s32(vmaxq_s32(sum, vdupq_n_s32(0)), vdupq_n_s32(127)), used);
        }
}
#else
static void depthwise(const w2s_layer *layer, const int8_t *x, int8_t *y, int n)
{
    const int channels = layer->outputs, kernel = W2S_DEPTHWISE_KERNEL > 0 ? W2S_DEPTHWISE_KERNEL : layer->kernel;
    for (int t = 0; t < n; t++, x += channels, y += channels)
        for (int channel = 0; channel < channels; channel++) {
            const int8_t *weight = layer->weight + channel, *value = x + channel;
            int32_t sum = bias_of(layer, channel);
            for (int tap = 0; tap < kernel; tap++, weight += channels, value += layer->dilation * channels)
                sum += *weight * *value;
            y[channel] = rectified(scaled(sum, layer->shift[channel]));
        }
}
#endif

/* The values under a kernel side by side, with zeros up to a multiple of four: in place if they are, else a copy. */
static const int8_t *gather(const w2s_layer *layer, const int8_t *x, int8_t *patch)
{
    const int rows = rows_of(layer), run = layer->kernel_bands * layer->inputs, size = layer->kernel * run;
    if (size % 4 == 0 && (layer->kernel == 1 || (layer->dilation == 1 && run == rows))) return x;
    for (int tap = 0; tap < layer->kernel; tap++, x += layer->dilation * rows) memcpy(patch + tap * run, x, (size_t)run);
    for (int i = size; i % 4 != 0; i++) patch[i] = 0;
    return patch;
}

static int patch_size(const w2s_layer *layer) /* values under a kernel, rounded up to a multiple of four */
{
    return (layer->kernel * layer->kernel_bands * layer->inputs + 3) / 4 * 4;
}

/* Convolution over all channels, in time and bands: a patch of the input, then its product with each row of weights. */
static void convolution(w2s_block *block, const w2s_layer *layer, const int8_t *x, int8_t *y, const int8_t *residual, int n)
{
    const int bands = W2S_KERNEL_BANDS > 1 ? layer[1].bands : 1, outputs = layer->outputs, size = patch_size(layer);
    const int y_rows = rows_of(layer + 1), band_step = layer->stride_bands * layer->inputs;
    for (int t = 0; t < n; t++, x += layer->stride * rows_of(layer), y += y_rows)
        for (int band = 0; band < bands; band++) {
            const int8_t *patch = gather(layer, x + band * band_step, block->scratch.layer.patch);
            const w2s_operand *operand = prepare(patch, size, block->scratch.layer.wide);
            int8_t *out = y + (band + layer[1].band_pad) * outputs;
            for (int first = 0; first < outputs; first += ROWS) {
                const int rows = smaller(outputs - first, ROWS);
                int32_t sums[ROWS];
                some_products(layer->weight + first * size, operand, size, rows, sums);
                for (int i = 0; i < rows; i++) {
                    const int channel = first + i;
                    int32_t value = rectified(scaled(sums[i] + bias_of(layer, channel), layer->shift[channel]));
                    if (residual) value = rectified(value + residual[t * outputs + channel]);
                    out[channel] = (int8_t)value;
                }
            }
        }
}

/* Max-pool. The zero padding has no effect, because all values are 0 or more. */
static void max_pool(const w2s_layer *layer, const int8_t *x, int8_t *y, int n)
{
    const int rows = rows_of(layer), channels = layer->inputs;
    for (int t = 0; t < n; t++, x += layer->stride * rows, y += rows_of(layer + 1))
        for (int band = 0; band < layer[1].bands; band++)
            for (int channel = 0; channel < channels; channel++) {
                const int8_t *from = x + band * layer->stride_bands * channels + channel;
                int8_t largest = 0;
                for (int tap = 0; tap < layer->kernel; tap++)
                    for (int row = 0; row < layer->kernel_bands; row++)
                        if (from[tap * rows + row * channels] > largest) largest = from[tap * rows + row * channels];
                y[(band + layer[1].band_pad) * channels + channel] = largest;
            }
}

/* Run one layer: n output columns from its input x to the next input y; `before` is the input of the previous layer. */
static void run_layer(w2s_block *block, int index, const int8_t *x, int8_t *y, const int8_t *before, int n)
{
    const w2s_layer *layer = &w2s_layers[index];
    if (layer->kind == W2S_DEPTHWISE)
        depthwise(layer, x, y, n);
    else if (W2S_KERNEL_BANDS > 1 && layer->kind == W2S_MAX_POOL)
        max_pool(layer, x, y, n);
    else
        convolution(block, layer, x, y, layer->residual ? before + layer[-1].before * rows_of(layer - 1) : NULL, n);
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
    const int whole = score >> 8;
    if (whole > pool->exponent[i]) raise(pool, i, whole);
    const int32_t weight = w2s_powers[score & 255] >> smaller(pool->exponent[i] - whole, 31);
    pool->weights[i] += weight;
    pool->values[i] += (int64_t)weight * value;
}

static void pool_tokens(w2s_stream *stream, w2s_block *block, const int8_t *x, int n) /* (columns, token) */
{
    const w2s_layer *layer = &w2s_layers[W2S_N_LAYERS];
    const int size = patch_size(layer);
    for (int t = 0; t < n; t++, x += W2S_TOKEN) {
        const int8_t *token = gather(layer, x, block->scratch.layer.patch);
        const w2s_operand *operand = prepare(token, size, block->scratch.layer.wide);
        for (int first = 0; first < W2S_POOLED; first += ROWS) {
            const int rows = smaller(W2S_POOLED - first, ROWS);
            int32_t values[ROWS], scores[ROWS];
            some_products(w2s_lin_weight + first * size, operand, size, rows, values);
            some_products(w2s_sof_weight + first * size, operand, size, rows, scores);
            for (int i = 0; i < rows; i++) {
                const int row = first + i;
                const int32_t value = limited(scaled(values[i] + w2s_lin_bias[row], w2s_lin_shift[row]), 127);
                const int places = w2s_sof_shift[row];
                const int32_t score = limited(scaled(with_half(scores[i], places), places), 32767);
                add_to_pool(&stream->pool, row, score, value);
#if W2S_PARTS > 0
                add_to_pool(&stream->parts[stream->part], row, score, value);
#endif
            }
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
