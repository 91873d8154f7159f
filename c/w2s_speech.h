/* Speech detection by signal level: the share of frames of 32 ms that are loud, as in wav2small/audio/vad.py.
 *
 * A power is 512 x 512 x the variance of the samples of a frame, a whole number, so nothing is rounded. Included by w2s.c.
 */
#define W2S_SPEECH_FRAME 512
#define W2S_SPEECH_TENTHS 10       /* the level is that of the loudest tenth of the frames */
#define W2S_SPEECH_PAUSE 1000      /* a pause is 30 dB below it */
#define W2S_SPEECH_LEAST 281474977 /* power of -60 dB re full scale: below it there is no speech */

void w2s_speech_init(w2s_speech *speech)
{
    memset(speech, 0, sizeof *speech);
}

void w2s_speech_push_int16(w2s_speech *speech, const int16_t *samples, int n)
{
    for (int i = 0; i < n; i++) {
        const int32_t sample = samples[i];
        speech->sum += sample;
        speech->squares += sample * sample;
        if (++speech->filled < W2S_SPEECH_FRAME) continue;
        speech->powers[speech->next] = (uint64_t)(W2S_SPEECH_FRAME * speech->squares - speech->sum * speech->sum);
        speech->next = (speech->next + 1) % W2S_SPEECH_FRAMES;
        speech->frames = smaller(speech->frames + 1, W2S_SPEECH_FRAMES);
        speech->filled = 0;
        speech->sum = speech->squares = 0;
    }
}

/* Sum of the largest `count` of n powers, and `powers` in another order. */
static uint64_t sum_of_largest(uint64_t *powers, int n, int count)
{
    uint64_t sum = 0;
    for (int i = 0; i < count; i++) {
        for (int k = i + 1; k < n; k++) {
            if (powers[k] <= powers[i]) continue;
            const uint64_t larger = powers[k];
            powers[k] = powers[i];
            powers[i] = larger;
        }
        sum += powers[i];
    }
    return sum;
}

float w2s_speech_ratio(const w2s_speech *speech, int n)
{
    uint64_t powers[W2S_SPEECH_FRAMES];
    const int count = smaller((n - speech->filled) / W2S_SPEECH_FRAME, speech->frames);
    int loud = 0;
    if (n < speech->filled || count < 1) return 0;
    for (int i = 0; i < count; i++)
        powers[i] = speech->powers[(speech->next + W2S_SPEECH_FRAMES - 1 - i) % W2S_SPEECH_FRAMES];
    const int tenth = count < W2S_SPEECH_TENTHS ? 1 : count / W2S_SPEECH_TENTHS;
    const uint64_t level = sum_of_largest(powers, count, tenth); /* of `tenth` frames together */
    if (level < (uint64_t)tenth * W2S_SPEECH_LEAST) return 0;
    for (int i = 0; i < count; i++) loud += powers[i] * (uint64_t)(tenth * W2S_SPEECH_PAUSE) >= level;
    return (float)loud / (float)count;
}
