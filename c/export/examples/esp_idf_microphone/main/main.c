/* Print arousal, dominance and valence of the last three seconds every second, from an I2S microphone (INMP441).
 *
 *     idf.py set-target esp32s3 && idf.py build flash monitor
 *
 * Connect L/R of the microphone to ground, and change the pins to those of your board.
 */
#include <stdio.h>
#include <stdlib.h>

#include "driver/i2s_std.h"
#include "esp_err.h"
#include "w2s.h"

enum { CLOCK_PIN = 4, WORD_PIN = 5, DATA_PIN = 6, CHUNK = 256 };

static i2s_chan_handle_t microphone;
static w2s_monitor monitor;

static void begin_microphone(void)
{
    i2s_chan_config_t channel = I2S_CHANNEL_DEFAULT_CONFIG(I2S_NUM_AUTO, I2S_ROLE_MASTER);
    i2s_std_config_t config = {
        .clk_cfg = I2S_STD_CLK_DEFAULT_CONFIG(W2S_SAMPLING_RATE),
        .slot_cfg = I2S_STD_PHILIPS_SLOT_DEFAULT_CONFIG(I2S_DATA_BIT_WIDTH_32BIT, I2S_SLOT_MODE_MONO),
        .gpio_cfg = {.mclk = I2S_GPIO_UNUSED, .bclk = CLOCK_PIN, .ws = WORD_PIN, .dout = I2S_GPIO_UNUSED, .din = DATA_PIN},
    };
    ESP_ERROR_CHECK(i2s_new_channel(&channel, NULL, &microphone));
    ESP_ERROR_CHECK(i2s_channel_init_std_mode(microphone, &config));
    ESP_ERROR_CHECK(i2s_channel_enable(microphone));
}

static int read_microphone(int16_t *samples) /* (CHUNK); returns the number of samples */
{
    static int32_t words[CHUNK]; /* 24 bits in the upper part of 32 */
    size_t bytes = 0;
    ESP_ERROR_CHECK(i2s_channel_read(microphone, words, sizeof words, &bytes, UINT32_MAX));
    const int n = (int)(bytes / sizeof words[0]);
    for (int i = 0; i < n; i++) samples[i] = (int16_t)(words[i] >> 16);
    return n;
}

static void print_event(const w2s_event *event)
{
    const w2s_emotion *emotion = &event->emotion, *deviation = &event->deviation;
    printf("speech %.2f", event->speech_ratio);
    if (event->has_emotion)
        printf(" arousal %.3f dominance %.3f valence %.3f", emotion->arousal, emotion->dominance, emotion->valence);
    if (event->has_deviation)
        printf(" deviation %.2f %.2f %.2f", deviation->arousal, deviation->dominance, deviation->valence);
    printf("\n");
}

void app_main(void)
{
    static int16_t samples[CHUNK];
    w2s_event event;
    if (w2s_monitor_init(&monitor, W2S_SAMPLING_RATE) != W2S_OK) abort();
    begin_microphone();
    for (;;)
        if (w2s_monitor_push(&monitor, samples, read_microphone(samples), &event) == 1) print_event(&event);
}
