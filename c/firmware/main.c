/* Run the model on a clip that is read over semihosting in chunks of 10 ms; print the prediction and its cost.
 *
 * The command line is the name of a file of raw 16-bit samples at 16 kHz. Time is measured with the counter of board.h,
 * which qemu -icount advances by instructions; a loop of known length calibrates the number of instructions per tick.
 */
#include "board.h"
#include "w2s.h"

enum { OPEN = 0x01, WRITE0 = 0x04, READ = 0x06, COMMAND_LINE = 0x15, EXIT = 0x18, STACK_BYTES = 16384, HOP = 160 };

static w2s_stream stream;

static void print_number(const char *name, int64_t number)
{
    char digits[24];
    char *next = digits + sizeof digits - 1;
    uint64_t rest = number < 0 ? (uint64_t)-number : (uint64_t)number;
    *next = '\0';
    do *--next = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (number < 0) *--next = '-';
    host(WRITE0, name);
    host(WRITE0, " ");
    host(WRITE0, next);
    host(WRITE0, "\n");
}

static uint32_t ticks_since(uint32_t start)
{
    return (now() - start) & COUNTER_MASK;
}

static uint32_t ticks_of_a_million_instructions(void)
{
    const uint32_t start = now();
    a_million_instructions();
    return ticks_since(start);
}

static int32_t open_clip(void)
{
    static char name[256];
    struct { char *text; int32_t length; } line = {name, sizeof name};
    host(COMMAND_LINE, &line);
    const struct { const char *text; int32_t mode, length; } file = {name, 1 /* rb */, line.length};
    return host(OPEN, &file);
}

static int read_clip(int32_t file, int16_t *samples)
{
    const struct { int32_t file; void *to; int32_t bytes; } request = {file, samples, 2 * HOP};
    return (2 * HOP - host(READ, &request)) / 2; /* the call returns the number of bytes not read */
}

/* Stack usage: fill the free memory below the stack pointer with a pattern, then count the unchanged bytes. */
extern uint32_t stack_top;

static uint32_t *stack_limit(void)
{
    return &stack_top - STACK_BYTES / 4;
}

__attribute__((noinline)) static void paint_stack(void) /* its frame is below that of main */
{
    for (volatile uint32_t *word = stack_limit(); word < (uint32_t *)__builtin_frame_address(0) - 16; word++)
        *word = 0xa5a5a5a5u;
}

static int32_t stack_used(void)
{
    const uint32_t *word = stack_limit();
    while (*word == 0xa5a5a5a5u) word++;
    return (int32_t)((const char *)&stack_top - (const char *)word);
}

static int32_t whole(float value) /* 15 fractional bits */
{
    return (int32_t)(value * 32768.0f + (value < 0 ? -0.5f : 0.5f));
}

int main(void)
{
    int16_t samples[HOP];
    uint64_t ticks = 0;
    int64_t received = 0;
    uint32_t most = 0;
    w2s_emotion emotion;
    start_counter();
    const uint32_t million = ticks_of_a_million_instructions();
    const int32_t file = open_clip();
    if (file < 0 || w2s_init(&stream) != W2S_OK) return 1;
    paint_stack();
    for (int n; (n = read_clip(file, samples)) > 0; received += n) {
        const uint32_t start = now();
        if (w2s_push_int16(&stream, samples, n) < 0) return 1;
        const uint32_t passed = ticks_since(start);
        ticks += passed;
        most = passed > most ? passed : most;
    }
    const uint32_t start = now();
    if (w2s_finish(&stream) < 0 || w2s_read(&stream, &emotion, NULL) != W2S_OK) return 1;
    print_number("read_instructions", (int64_t)ticks_since(start) * 1000000 / million);
    print_number("arousal", whole(emotion.arousal));
    print_number("dominance", whole(emotion.dominance));
    print_number("valence", whole(emotion.valence));
    print_number("samples", received);
    print_number("state_bytes", (int64_t)sizeof stream);
    print_number("stack_bytes", stack_used());
    print_number("instructions", (int64_t)(ticks * 1000000 / million));
    print_number("most_in_10_ms", (int64_t)most * 1000000 / million);
    host(EXIT, (const void *)0x20026); /* success */
    return 0;
}
