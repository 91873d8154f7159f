/* Fuzzer: any bytes in any chunks and any order of calls must not cause out-of-bounds access or non-finite output.
 *
 * With clang's -fsanitize=fuzzer it is a libFuzzer target; with -DW2S_OWN_MAIN it runs on random inputs. Two streams
 * process the same samples in different chunks; integer models must give bit-identical results.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "w2s.h"

#ifdef __clang__
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
#endif

static void check(int holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

static void check_answer(int result, const w2s_emotion *emotion)
{
    const float values[3] = {emotion->arousal, emotion->dominance, emotion->valence};
    check(result == W2S_OK || result == W2S_TOO_SHORT, "read gave another error");
    for (int i = 0; i < 3 && result == W2S_OK; i++) check(values[i] > -1e6f && values[i] < 1e6f, "an answer is not finite");
}

static void compare(const w2s_stream *a, const w2s_stream *b)
{
    w2s_emotion first = {0, 0, 0}, second = {0, 0, 0};
    const int result = w2s_read(a, &first, NULL);
    check(result == w2s_read(b, &second, NULL), "two cuttings, two results");
    check_answer(result, &first);
    if (W2S_INTEGERS && result == W2S_OK) check(memcmp(&first, &second, sizeof first) == 0, "two cuttings, two answers");
}

/* Push the same samples to both streams, to the second one in two chunks. */
static void push(w2s_stream *a, w2s_stream *b, const uint8_t *bytes, int n, int cut, int as_float)
{
    static int16_t integers[65536];
    static float floats[65536];
    int first, second;
    memcpy(as_float ? (void *)floats : (void *)integers, bytes, (size_t)n * (as_float ? sizeof(float) : sizeof(int16_t)));
    if (as_float) {
        first = w2s_push_float(a, floats, n);
        second = w2s_push_float(b, floats, cut);
        if (second >= 0) second += w2s_push_float(b, floats + cut, n - cut);
    } else {
        first = w2s_push_int16(a, integers, n);
        second = w2s_push_int16(b, integers, cut);
        if (second >= 0) second += w2s_push_int16(b, integers + cut, n - cut);
    }
    check(first == second, "two cuttings, two numbers of tokens");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static w2s_stream a, b;
    w2s_emotion emotion = {0, 0, 0};
    float embedding[W2S_POOLED], level[2];
    memset(&a, size > 0 ? data[0] : 0, sizeof a);
    check(w2s_push_int16(&a, NULL, 0) == W2S_NOT_BEGUN && w2s_read(&a, &emotion, NULL) == W2S_NOT_BEGUN, "not begun");
    check(w2s_init(&a) == W2S_OK && w2s_init(&b) == W2S_OK, "init");
    for (size_t at = 0; at + 3 < size;) {
        const int call = data[at] % 8;
        const size_t left = size - at - 3, width = call == 1 ? sizeof(float) : sizeof(int16_t);
        size_t n = (size_t)(data[at + 1] | data[at + 2] << 8);
        const int cut = (int)(n == 0 ? 0 : data[at] * n / 256);
        at += 3;
        if (call > 2) n = 0; /* skip the bytes of a push */
        if (n > left / width) n = left / width;
        if (call <= 2) push(&a, &b, data + at, (int)n, cut < (int)n ? cut : (int)n, call == 1);
        if (call == 3) check(w2s_finish(&a) == w2s_finish(&b), "finish");
        if (call == 4) check(w2s_reset(&a) == W2S_OK && w2s_reset(&b) == W2S_OK, "reset");
        if (call == 5) check_answer(w2s_read(&a, &emotion, embedding), &emotion);
        if (call == 6 && left >= sizeof level) {
            memcpy(level, data + at, sizeof level);
            if (level[0] > -1 && level[0] < 1 && level[1] < 1) check(w2s_level(&a, level[0], level[1]) == w2s_level(&b, level[0], level[1]), "level");
        }
        if (call == 7) {
            check(w2s_push_int16(&a, NULL, -(int)data[at - 1] - 1) < 0, "a length below zero");
#if W2S_PARTS > 0
            check(w2s_mark(&a) == W2S_OK, "mark");
            check_answer(w2s_read_window(&a, data[at - 2] % W2S_PARTS + 1, &emotion, NULL), &emotion);
            check(w2s_read_window(&a, W2S_PARTS + 1, &emotion, NULL) == W2S_BAD_LENGTH, "too many parts");
#endif
        }
        at += n * width;
    }
    compare(&a, &b);
    return 0;
}

#ifdef W2S_OWN_MAIN
int main(int count, char **words)
{
    static uint8_t bytes[60000];
    const int rounds = count > 1 ? atoi(words[1]) : 100;
    uint32_t seed = 1;
    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; i < sizeof bytes; i++) {
            seed = seed * 1664525u + 1013904223u;
            bytes[i] = (uint8_t)(seed >> 24);
        }
        LLVMFuzzerTestOneInput(bytes, sizeof bytes - seed % 50000);
    }
    printf("%d random inputs, nothing found\n", rounds);
    return 0;
}
#endif
