/* What the sample takes of Zephyr's kernel: https://docs.zephyrproject.org/latest/kernel/memory_management/slabs.html */
#ifndef KERNEL_H
#define KERNEL_H
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct device { int is_ready; };
struct k_mem_slab { char *memory; size_t block_size; uint32_t num_blocks, num_used; };
#define K_MEM_SLAB_DEFINE_STATIC(name, size, count, align) \
    static char __attribute__((aligned(align))) memory_of_##name[(size) * (count)]; \
    static struct k_mem_slab name = {memory_of_##name, (size), (count), 0}
#define DT_NODELABEL(label) label
#define DEVICE_DT_GET(node) DEVICE_OF(node)
#define DEVICE_OF(node) (&device_##node)

static const struct device device_dmic_dev = {1};

static inline bool device_is_ready(const struct device *device)
{
    return device->is_ready;
}

static inline int k_mem_slab_alloc(struct k_mem_slab *slab, void **block)
{
    if (slab->num_used == slab->num_blocks) return -ENOMEM;
    *block = slab->memory + slab->block_size * slab->num_used++;
    return 0;
}

static inline void k_mem_slab_free(struct k_mem_slab *slab, void *block)
{
    slab->num_used--;
    if (block != slab->memory + slab->block_size * slab->num_used) abort();
}
#endif
