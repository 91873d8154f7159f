/* What the sample takes of Zephyr's digital microphones: https://docs.zephyrproject.org/latest/hardware/peripherals/audio/dmic.html */
#include <zephyr/kernel.h>

#include "clip.h"

enum dmic_trigger { DMIC_TRIGGER_STOP, DMIC_TRIGGER_START };
enum pdm_lr { PDM_CHAN_LEFT, PDM_CHAN_RIGHT };
struct pcm_stream_cfg { uint32_t pcm_rate; uint8_t pcm_width; uint16_t block_size; struct k_mem_slab *mem_slab; };
struct pdm_io_cfg { uint32_t min_pdm_clk_freq, max_pdm_clk_freq; uint8_t min_pdm_clk_dc, max_pdm_clk_dc; };
struct pdm_chan_cfg { uint32_t req_chan_map_lo; uint8_t req_num_chan, req_num_streams; };
struct dmic_cfg { struct pdm_io_cfg io; struct pcm_stream_cfg *streams; struct pdm_chan_cfg channel; };

static struct pcm_stream_cfg dmic_stream; /* a copy, as drivers make: the caller's is on its stack */

static inline uint32_t dmic_build_channel_map(uint8_t channel, uint8_t pdm, enum pdm_lr side)
{
    return (uint32_t)((pdm << 1 | side) << (channel * 4));
}

static inline int dmic_configure(const struct device *device, struct dmic_cfg *config)
{
    (void)device;
    dmic_stream = *config->streams;
    return config->channel.req_num_chan == 1 && dmic_stream.pcm_rate == 16000 && dmic_stream.pcm_width == 16 ? 0 : -EINVAL;
}

static inline int dmic_trigger(const struct device *device, enum dmic_trigger command)
{
    (void)device;
    return command == DMIC_TRIGGER_START ? 0 : -EINVAL;
}

static inline int dmic_read(const struct device *device, uint8_t stream, void **buffer, uint32_t *size, int32_t timeout)
{
    (void)device, (void)stream, (void)timeout;
    const int status = k_mem_slab_alloc(dmic_stream.mem_slab, buffer);
    if (status < 0) return status;
    *size = 2u * (uint32_t)clip_read((int16_t *)*buffer, dmic_stream.block_size / 2);
    return 0;
}
