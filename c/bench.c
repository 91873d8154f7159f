/* Computation time of noise in milliseconds, minimum over runs: bench [seconds] [runs]. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "w2s.h"

int main(int count, char **words)
{
    static w2s_stream stream;
    static int16_t samples[60 * W2S_SAMPLING_RATE];
    const int seconds = count > 1 ? atoi(words[1]) : 5, runs = count > 2 ? atoi(words[2]) : 1;
    const int n = (seconds < 60 ? seconds : 60) * W2S_SAMPLING_RATE;
    double best = 1e9;
    uint32_t seed = 1;
    w2s_emotion emotion = {0, 0, 0};
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        samples[i] = (int16_t)((seed >> 20) - 2048);
    }
    for (int run = 0; run < runs; run++) {
        const clock_t start = clock();
        w2s_init(&stream);
        w2s_push_int16(&stream, samples, n);
        w2s_finish(&stream);
        w2s_read(&stream, &emotion, NULL);
        const double took = (double)(clock() - start) * 1000 / CLOCKS_PER_SEC;
        if (took < best) best = took;
    }
    printf("%.3f ms, arousal %.4f\n", best, (double)emotion.arousal);
    return 0;
}
