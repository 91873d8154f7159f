/* Products of int8 weights and activations, the most expensive operation of integer models: in portable C, and with Arm's
 * Helium and DSP instructions. All variants are bit-exact; -DW2S_PORTABLE selects portable C. Part of w2s.c.
 *
 * prepare() converts activations once to the form in which products() reads them for every row of weights. Rows have a
 * multiple of four values, so that Arm's instructions need no remainder.
 */
enum { ROWS = 4 }; /* rows of weights at once, which share the loads of the activations */

#if !defined(W2S_PORTABLE) && defined(__GNUC__) && defined(__ARM_FEATURE_MVE) /* Helium: Cortex-M52, M55, M85 */
#include <arm_mve.h>
#define W2S_HELIUM 1

typedef int8_t w2s_operand;

static const w2s_operand *prepare(const int8_t *x, int n, int16_t *wide)
{
    (void)n, (void)wide;
    return x;
}

static int32_t product(const int8_t *restrict weight, const w2s_operand *restrict x, int n)
{
    int32_t sum = 0;
    for (; n > 0; n -= 16, weight += 16, x += 16) {
        const mve_pred16_t used = vctp8q((uint32_t)n);
        sum = vmladavaq_p_s8(sum, vldrbq_z_s8(weight, used), vldrbq_z_s8(x, used), used);
    }
    return sum;
}

static void products(const int8_t *restrict weight, const w2s_operand *restrict x, int n, int32_t *restrict sums)
{
    const int8_t *weights[ROWS] = {weight, weight + n, weight + 2 * n, weight + 3 * n};
    int32_t a = 0, b = 0, c = 0, d = 0;
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        const int8x16_t values = vldrbq_s8(x + i);
        a = vmladavaq_s8(a, vldrbq_s8(weights[0] + i), values);
        b = vmladavaq_s8(b, vldrbq_s8(weights[1] + i), values);
        c = vmladavaq_s8(c, vldrbq_s8(weights[2] + i), values);
        d = vmladavaq_s8(d, vldrbq_s8(weights[3] + i), values);
    }
    if (i < n) {
        const mve_pred16_t used = vctp8q((uint32_t)(n - i));
        const int8x16_t values = vldrbq_z_s8(x + i, used);
        a = vmladavaq_s8(a, vldrbq_z_s8(weights[0] + i, used), values);
        b = vmladavaq_s8(b, vldrbq_z_s8(weights[1] + i, used), values);
        c = vmladavaq_s8(c, vldrbq_z_s8(weights[2] + i, used), values);
        d = vmladavaq_s8(d, vldrbq_z_s8(weights[3] + i, used), values);
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
}
#elif !defined(W2S_PORTABLE) && defined(__GNUC__) && defined(__ARM_FEATURE_SIMD32) && __ARM_ARCH_PROFILE == 'M'
#include <arm_acle.h> /* DSP: Cortex-M4, M7, M33 */

typedef int16x2_t w2s_operand;

static int8x4_t four(const int8_t *values)
{
    int8x4_t word;
    memcpy(&word, values, 4);
    return word;
}

static int16x2_t even(int8x4_t word) /* the first and third value as int16 */
{
    return __sxtb16(word);
}

static int16x2_t odd(int8x4_t word) /* the second and fourth value as int16 */
{
    int16x2_t two;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(two) : "r"(word));
    return two;
}

static const w2s_operand *prepare(const int8_t *x, int n, int16_t *wide)
{
    w2s_operand *next = (w2s_operand *)(void *)wide;
    for (const int8_t *end = x + n; x != end; x += 4) {
        const int8x4_t word = four(x);
        *next++ = even(word);
        *next++ = odd(word);
    }
    return (const w2s_operand *)(const void *)wide;
}

/* sum + weight . x over four values. */
static int32_t add(int32_t sum, const int8_t *weight, w2s_operand x_even, w2s_operand x_odd)
{
    const int8x4_t word = four(weight);
    return __smlad(odd(word), x_odd, __smlad(even(word), x_even, sum));
}

static int32_t product(const int8_t *restrict weight, const w2s_operand *restrict x, int n)
{
    int32_t sum = 0;
    for (const int8_t *end = weight + n; weight != end; weight += 4, x += 2) sum = add(sum, weight, x[0], x[1]);
    return sum;
}

static void products(const int8_t *restrict weight, const w2s_operand *restrict x, int n, int32_t *restrict sums)
{
    const int8_t *third = weight + 2 * n;
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (int left = n; left > 0; left -= 4, weight += 4, third += 4, x += 2) {
        const w2s_operand x_even = x[0], x_odd = x[1];
        b = add(b, weight + n, x_even, x_odd);
        a = add(a, weight, x_even, x_odd);
        d = add(d, third + n, x_even, x_odd);
        c = add(c, third, x_even, x_odd);
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
}
#else
typedef int16_t w2s_operand;

static const w2s_operand *prepare(const int8_t *x, int n, int16_t *wide)
{
    for (int i = 0; i < n; i++) wide[i] = x[i];
    return wide;
}

static int32_t product(const int8_t *restrict weight, const w2s_operand *restrict x, int n)
{
    int32_t sum = 0;
    for (int i = 0; i < n; i++) sum += weight[i] * x[i];
    return sum;
}

#ifdef __GNUC__
__attribute__((noinline)) /* else its pointers do not stay in the registers of small machines */
#endif
static void products(const int8_t *restrict weight, const w2s_operand *restrict x, int n, int32_t *restrict sums)
{
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (int i = 0; i < n; i++) {
        a += weight[i] * x[i];
        b += weight[n + i] * x[i];
        c += weight[2 * n + i] * x[i];
        d += weight[3 * n + i] * x[i];
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
}
#endif

/* sums[row] = weight[row] . x, for 1 to ROWS rows of n values. */
static void some_products(const int8_t *weight, const w2s_operand *x, int n, int rows, int32_t *sums)
{
    if (rows == ROWS) {
        products(weight, x, n, sums);
        return;
    }
    for (int row = 0; row < rows; row++) sums[row] = product(weight + row * n, x, n);
}
