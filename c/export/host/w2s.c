/* w2s: reads speech from standard input and writes arousal, dominance and valence to standard output.
 *
 *     cc -O3 -march=native -ffp-contract=fast -DW2S_PARTS=64 -Isrc host/w2s.c src/w2s.c -o w2s
 *     w2s < talk.wav
 *     arecord -q -f S16_LE -r 16000 -t raw | w2s --raw --hop 0.5 --window 3
 *
 * For float models, -DW2S_BLOCK=64 -DW2S_LANES=16 makes it several times faster.
 * The input is WAV (16-bit integers or 32-bit floats, up to 8 channels, mixed to mono) or raw 16-bit mono samples.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "w2s.h"

enum { CHANNELS = 8, CHUNK = 1600 };

typedef struct {
    int channels, is_float;
    uint32_t bytes; /* of audio, or UINT32_MAX if unknown */
} format;

static int fail(const char *why)
{
    fprintf(stderr, "w2s: %s\n", why);
    return 1;
}

static uint32_t number(const unsigned char *bytes, int size) /* little-endian */
{
    uint32_t value = 0;
    for (int i = 0; i < size; i++) value |= (uint32_t)bytes[i] << (8 * i);
    return value;
}

static int skip(uint32_t bytes)
{
    while (bytes > 0 && getchar() != EOF) bytes--;
    return bytes == 0;
}

/* Read the WAV header. Returns NULL or an error message. */
static const char *read_header(format *found)
{
    unsigned char head[16];
    if (fread(head, 1, 12, stdin) != 12 || memcmp(head, "RIFF", 4) != 0 || memcmp(head + 8, "WAVE", 4) != 0)
        return "standard input is not a WAV file; give --raw for 16-bit samples at 16 kHz";
    found->channels = 0;
    while (fread(head, 1, 8, stdin) == 8) {
        const uint32_t size = number(head + 4, 4);
        if (memcmp(head, "data", 4) == 0) {
            found->bytes = size == 0 ? UINT32_MAX : size;
            return found->channels ? NULL : "the WAV file has no format chunk before its audio";
        }
        if (memcmp(head, "fmt ", 4) != 0 || size < 16) {
            if (!skip(size + (size & 1))) break;
            continue;
        }
        if (fread(head, 1, 16, stdin) != 16) break;
        const uint32_t kind = number(head, 2), channels = number(head + 2, 2), bits = number(head + 14, 2);
        if (number(head + 4, 4) != W2S_SAMPLING_RATE) return "the WAV file is not at 16000 Hz; resample it first";
        if (channels < 1 || channels > CHANNELS) return "the WAV file has no channels, or more than 8";
        if (bits != 16 && bits != 32) return "the WAV file has neither 16-bit integers nor 32-bit floats";
        if (kind != (bits == 16 ? 1 : 3) && kind != 0xfffe) return "the WAV file is compressed, or has 32-bit integers";
        found->channels = (int)channels;
        found->is_float = bits == 32;
        if (!skip(size - 16 + (size & 1))) break;
    }
    return "the WAV file is truncated in its header";
}

/* Read up to n samples, mixed to mono. */
static int read_samples(format *audio, float *samples, int n)
{
    static unsigned char bytes[CHUNK * CHANNELS * 4];
    const int width = audio->is_float ? 4 : 2, frame = width * audio->channels;
    size_t wanted = (size_t)(n * frame);
    if (wanted > audio->bytes) wanted = audio->bytes;
    const int got = (int)(fread(bytes, 1, wanted, stdin) / (size_t)frame);
    if (audio->bytes != UINT32_MAX) audio->bytes -= (uint32_t)(got * frame);
    for (int i = 0; i < got; i++) {
        float sum = 0;
        for (int channel = 0; channel < audio->channels; channel++) {
            const unsigned char *at = bytes + i * frame + channel * width;
            const uint32_t bits = number(at, width);
            float value;
            memcpy(&value, &bits, 4);
            sum += audio->is_float ? value : (float)(int16_t)bits * (1.0f / 32768);
        }
        samples[i] = sum / (float)audio->channels;
    }
    return got;
}

static void print_line(double start, double end, const w2s_emotion *emotion)
{
    const float values[3] = {emotion->arousal, emotion->dominance, emotion->valence};
    printf("%.3f\t%.3f", start, end);
    for (int i = 0; i < 3; i++) printf("\t%.4f", (double)(values[i] < 0 ? 0 : values[i] > 1 ? 1 : values[i]));
    putchar('\n');
    fflush(stdout);
}

/* Print a line every hop samples for the last parts, or one line for the whole input at the end. */
static int run(format *audio, long hop, int parts)
{
    static w2s_stream stream;
    static float samples[CHUNK];
    w2s_emotion emotion;
    long received = 0, in_part = 0;
    if (w2s_init(&stream) != W2S_OK) return fail("was compiled with a different model than the library");
    puts("start\tend\tarousal\tdominance\tvalence");
    for (int got = 1; got > 0;) {
        const long left = hop > 0 && hop - in_part < CHUNK ? hop - in_part : CHUNK;
        got = read_samples(audio, samples, (int)left);
        w2s_push_float(&stream, samples, got);
        received += got;
        in_part += got;
        if (hop == 0 || in_part < hop) continue;
        if (w2s_read_window(&stream, parts, &emotion, NULL) == W2S_OK) {
            const long start = received - parts * hop;
            print_line((double)(start > 0 ? start : 0) / W2S_SAMPLING_RATE, (double)received / W2S_SAMPLING_RATE,
                       &emotion);
        }
        w2s_mark(&stream);
        in_part = 0;
    }
    w2s_finish(&stream);
    if (w2s_read(&stream, &emotion, NULL) != W2S_OK) return fail("no audio on standard input");
    if (hop == 0) print_line(0, (double)received / W2S_SAMPLING_RATE, &emotion);
    return 0;
}

static int help(void)
{
    const w2s_description *about = w2s_describe();
    printf("w2s %s: arousal, dominance and valence of the speech on standard input\n", w2s_version());
    printf("model %s %s, %s, %s\n\n", about->name, about->version, about->precision, about->licence);
    puts("  w2s < talk.wav                     one line for the whole file");
    puts("  w2s --hop 0.5 --window 3 < a.wav a line every half second, for the last three");
    puts("  w2s --raw < samples                16-bit samples, mono, 16 kHz, instead of a WAV");
    puts("\nEach line has start and end in seconds, arousal, dominance and valence from 0 to 1, separated by tabs.");
    return 0;
}

int main(int count, char **words)
{
    format audio = {1, 0, UINT32_MAX};
    double hop = 0, window = 0;
    int raw = 0;
    for (int i = 1; i < count; i++) {
        char *end = NULL;
        if (strcmp(words[i], "--help") == 0 || strcmp(words[i], "-h") == 0) return help();
        if (strcmp(words[i], "--raw") == 0) {
            raw = 1;
        } else if (strcmp(words[i], "--hop") == 0 && i + 1 < count) {
            hop = strtod(words[++i], &end);
        } else if (strcmp(words[i], "--window") == 0 && i + 1 < count) {
            window = strtod(words[++i], &end);
        } else {
            return fail("the options are --raw, --hop SECONDS, --window SECONDS and --help");
        }
        if (end && (end == words[i] || *end != '\0')) return fail("--hop and --window need a number of seconds");
    }
    if (window > 0 && !(hop > 0)) return fail("--window needs --hop, the time between lines");
    if (hop != 0 && !(hop >= 0.02 && hop <= 3600)) return fail("--hop must be from 0.02 to 3600 seconds");
    const double parts = hop > 0 ? (window > 0 ? window : hop) / hop : 1;
    if (!(parts > 0.999 && parts <= W2S_PARTS)) return fail("--window must be from 1 to 64 times --hop");
    const char *wrong = raw ? NULL : read_header(&audio);
    if (wrong) return fail(wrong);
    return run(&audio, (long)(hop * W2S_SAMPLING_RATE + 0.5), (int)(parts + 0.5));
}
