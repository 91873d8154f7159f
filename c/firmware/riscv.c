/* Startup code of a RISC-V in machine mode: stack, FPU if it has one, initialised memory, then main. */
#include <stdint.h>
#include <string.h>

int main(void);

extern uint32_t data_start, data_end, data_load, bss_start, bss_end;

__attribute__((used)) static void start(void)
{
    memcpy(&data_start, &data_load, (size_t)((char *)&data_end - (char *)&data_start));
    memset(&bss_start, 0, (size_t)((char *)&bss_end - (char *)&bss_start));
    main();
    for (;;) { }
}

/* Instructions before the stack exists. A trap ends here as well, and so does not return. */
__attribute__((naked, section(".reset"), used)) void reset(void)
{
    __asm volatile("la sp, stack_top\n la t0, stop\n csrw mtvec, t0\n li t0, 0x6000\n csrs mstatus, t0\n j start\n"
                   " .balign 4\n stop: j stop");
}
