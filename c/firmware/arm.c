/* Startup code of a Cortex-M: vector table, FPU, initialised memory, then main. */
#include <stdint.h>
#include <string.h>

int main(void);
void reset(void);
void fault(void);

extern uint32_t stack_top, data_start, data_end, data_load, bss_start, bss_end;

void fault(void)
{
    __asm volatile("movs r0, #0x18\n ldr r1, =0x20024\n bkpt 0xab"); /* semihosting: exit with an error */
    for (;;) { }
}

void reset(void)
{
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20; /* CPACR: FPU and MVE */
    __asm volatile("dsb\n isb");
    memcpy(&data_start, &data_load, (size_t)((char *)&data_end - (char *)&data_start));
    memset(&bss_start, 0, (size_t)((char *)&bss_end - (char *)&bss_start));
    main();
    fault();
}

typedef void (*vector)(void);

/* Vector table: stack pointer, reset, NMI and faults. Interrupts are not used. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    vector handlers[15];
} vectors = {&stack_top, {reset, fault, fault, fault, fault, fault, fault, 0, 0, 0, fault, fault, 0, fault, fault}};
