/* A microphone that plays the file clip.raw, 16-bit samples, and ends the program after it; on this machine and, by
 * semihosting, on an emulated board. */
#ifndef CLIP_H
#define CLIP_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef SEMIHOSTING
#ifdef __cplusplus
extern "C" {
#endif
void initialise_monitor_handles(void); /* of newlib, which calls the other one at the end */
void _fini(void);
void _fini(void) { }
#ifdef __cplusplus
}
#endif
#endif

static inline int clip_read(int16_t *samples, int n)
{
    static FILE *file;
#ifdef SEMIHOSTING
    if (!file) initialise_monitor_handles();
#endif
    if (!file) file = fopen("clip.raw", "rb");
    if (!file) exit(1);
    const int got = (int)fread(samples, sizeof *samples, (size_t)n, file);
    if (got == 0) {
        fflush(stdout);
        exit(0);
    }
    return got;
}
#endif
