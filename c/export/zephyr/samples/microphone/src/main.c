/* Print arousal, dominance and valence of the last three seconds every second, from a digital microphone. */
#include <zephyr/audio/dmic.h>
#include <zephyr/kernel.h>
#include <zephyr/sys/printk.h>

#include "w2s.h"

#define BLOCK_MS 100
#define BLOCK_BYTES (W2S_SAMPLING_RATE / 1000 * BLOCK_MS * sizeof(int16_t))
#define BLOCKS 4

K_MEM_SLAB_DEFINE_STATIC(slab, BLOCK_BYTES, BLOCKS, 4);

static const struct device *const microphone = DEVICE_DT_GET(DT_NODELABEL(dmic_dev));
static w2s_monitor monitor;

static int start_microphone(void)
{
	struct pcm_stream_cfg stream = {
		.pcm_rate = W2S_SAMPLING_RATE,
		.pcm_width = 16,
		.block_size = BLOCK_BYTES,
		.mem_slab = &slab,
	};
	struct dmic_cfg config = {
		.io = {
			.min_pdm_clk_freq = 1000000,
			.max_pdm_clk_freq = 3500000,
			.min_pdm_clk_dc = 40,
			.max_pdm_clk_dc = 60,
		},
		.streams = &stream,
		.channel = {
			.req_num_streams = 1,
			.req_num_chan = 1,
			.req_chan_map_lo = dmic_build_channel_map(0, 0, PDM_CHAN_LEFT),
		},
	};
	int status;

	if (!device_is_ready(microphone)) {
		return -ENODEV;
	}
	status = dmic_configure(microphone, &config);
	return status < 0 ? status : dmic_trigger(microphone, DMIC_TRIGGER_START);
}

static void print_event(const w2s_event *event)
{
	const w2s_emotion *emotion = &event->emotion, *deviation = &event->deviation;

	printk("speech %.2f", (double)event->speech_ratio);
	if (event->has_emotion) {
		printk(" arousal %.3f dominance %.3f valence %.3f", (double)emotion->arousal,
		       (double)emotion->dominance, (double)emotion->valence);
	}
	if (event->has_deviation) {
		printk(" deviation %.2f %.2f %.2f", (double)deviation->arousal,
		       (double)deviation->dominance, (double)deviation->valence);
	}
	printk("\n");
}

int main(void)
{
	w2s_event event;
	void *block;
	uint32_t bytes;
	int status = w2s_monitor_init(&monitor, W2S_SAMPLING_RATE);

	if (status == W2S_OK) {
		status = start_microphone();
	}
	while (status >= 0) {
		status = dmic_read(microphone, 0, &block, &bytes, 1000);
		if (status < 0) {
			break;
		}
		if (w2s_monitor_push(&monitor, block, bytes / sizeof(int16_t), &event) == 1) {
			print_event(&event);
		}
		k_mem_slab_free(&slab, block);
	}
	printk("The model or the microphone failed: %d\n", status);
	return status;
}
