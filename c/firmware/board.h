/* What differs between the emulated boards: calls of the host, and a counter that qemu -icount advances by instructions. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

#if defined(__riscv)
#define COUNTER_MASK 0xffffffffu

/* Semihosting. qemu recognises the three instructions if they are on one page. */
static inline int32_t host(int32_t operation, const void *argument)
{
    register int32_t a0 __asm("a0") = operation;
    register const void *a1 __asm("a1") = argument;
    __asm volatile(".balign 16\n .option push\n .option norvc\n slli zero, zero, 0x1f\n ebreak\n srai zero, zero, 7\n"
                   " .option pop" : "+r"(a0) : "r"(a1) : "memory");
    return a0;
}

static inline void start_counter(void)
{
}

static inline uint32_t now(void)
{
    uint32_t instructions;
    __asm volatile("csrr %0, minstret" : "=r"(instructions) : : "memory");
    return instructions;
}

static inline void a_million_instructions(void)
{
    uint32_t count = 500000;
    __asm volatile("1: addi %0, %0, -1\n bnez %0, 1b" : "+r"(count));
}
#else
#define COUNTER_MASK 0xffffffu

static volatile uint32_t *const systick = (volatile uint32_t *)0xe000e010; /* control, reload, value */

static inline int32_t host(int32_t operation, const void *argument)
{
    register int32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static inline void start_counter(void)
{
    systick[1] = 0xffffff;
    systick[2] = 0;
    systick[0] = 5; /* enabled, core clock */
}

static inline uint32_t now(void) /* SysTick counts down */
{
    return -systick[2];
}

static inline void a_million_instructions(void)
{
    uint32_t count = 500000;
    __asm volatile("1: subs %0, #1\n bne 1b" : "+r"(count));
}
#endif
#endif
