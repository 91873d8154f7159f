/* Dot product of int8 vectors, the most expensive operation of integer models: in portable C, and with Arm's Helium and
 * DSP instructions. All variants are bit-exact; -DW2S_PORTABLE selects portable C. Part of w2s.c.
 */
#if !defined(W2S_PORTABLE) && defined(__GNUC__) && defined(__ARM_FEATURE_MVE) /* Helium: Cortex-M52, M55, M85 */
#include <arm_mve.h>

static int32_t dot(const int8_t *restrict weight, const int8_t *restrict x, int n)
{
    int32_t sum = 0;
    int i = 0;
    for (; i + 16 <= n; i += 16) sum = vmladavaq_s8(sum, vldrbq_s8(weight + i), vldrbq_s8(x + i));
    if (i == n) return sum;
    const mve_pred16_t rest = vctp8q((uint32_t)(n - i));
    return vmladavaq_p_s8(sum, vldrbq_z_s8(weight + i, rest), vldrbq_z_s8(x + i, rest), rest);
}
#elif !defined(W2S_PORTABLE) && defined(__GNUC__) && defined(__ARM_FEATURE_SIMD32) && __ARM_ARCH_PROFILE == 'M'
#include <arm_acle.h> /* DSP: Cortex-M4, M7, M33 */

/* The second and fourth of four int8 values, as int16. */
static int16x2_t odd(uint32_t four)
{
    int16x2_t two;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(two) : "r"(four));
    return two;
}

/* Four products per step: the even and then the odd bytes of each word. */
static int32_t dot(const int8_t *restrict weight, const int8_t *restrict x, int n)
{
    int32_t sum = 0;
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        uint32_t a, b;
        memcpy(&a, weight + i, 4);
        memcpy(&b, x + i, 4);
        sum = __smlad(__sxtb16((int8x4_t)a), __sxtb16((int8x4_t)b), sum);
        sum = __smlad(odd(a), odd(b), sum);
    }
    for (; i < n; i++) sum += weight[i] * x[i];
    return sum;
}
#else
static int32_t dot(const int8_t *restrict weight, const int8_t *restrict x, int n)
{
    int32_t sum = 0;
    for (int i = 0; i < n; i++) sum += weight[i] * x[i];
    return sum;
}
#endif
