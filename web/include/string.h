/* What w2s.c takes of <string.h>, as instructions of wasm: there is no libc here. */
#include <stddef.h>
#define memset __builtin_memset
#define memcpy __builtin_memcpy
#define memmove __builtin_memmove
