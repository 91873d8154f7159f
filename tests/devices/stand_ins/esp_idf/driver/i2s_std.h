/* What the example takes of ESP-IDF 5's driver, with the names and nesting of its structs:
 * https://docs.espressif.com/projects/esp-idf/en/stable/esp32/api-reference/peripherals/i2s.html */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "clip.h"
#include "esp_err.h"

typedef struct i2s_channel *i2s_chan_handle_t;
typedef enum { I2S_NUM_0, I2S_NUM_1, I2S_NUM_AUTO } i2s_port_t;
typedef enum { I2S_ROLE_MASTER, I2S_ROLE_SLAVE } i2s_role_t;
typedef enum { I2S_DATA_BIT_WIDTH_16BIT = 16, I2S_DATA_BIT_WIDTH_32BIT = 32 } i2s_data_bit_width_t;
typedef enum { I2S_SLOT_MODE_MONO = 1, I2S_SLOT_MODE_STEREO } i2s_slot_mode_t;
typedef int gpio_num_t;
#define I2S_GPIO_UNUSED (-1)

typedef struct { i2s_port_t id; i2s_role_t role; } i2s_chan_config_t;
typedef struct { uint32_t sample_rate_hz; } i2s_std_clk_config_t;
typedef struct { i2s_data_bit_width_t data_bit_width; i2s_slot_mode_t slot_mode; } i2s_std_slot_config_t;
typedef struct { gpio_num_t mclk, bclk, ws, dout, din; } i2s_std_gpio_config_t;
typedef struct {
    i2s_std_clk_config_t clk_cfg;
    i2s_std_slot_config_t slot_cfg;
    i2s_std_gpio_config_t gpio_cfg;
} i2s_std_config_t;
#define I2S_CHANNEL_DEFAULT_CONFIG(number, role_of) {.id = (number), .role = (role_of)}
#define I2S_STD_CLK_DEFAULT_CONFIG(rate) {.sample_rate_hz = (rate)}
#define I2S_STD_PHILIPS_SLOT_DEFAULT_CONFIG(width, mode) {.data_bit_width = (width), .slot_mode = (mode)}

static i2s_std_config_t i2s_config;

static inline esp_err_t i2s_new_channel(const i2s_chan_config_t *config, i2s_chan_handle_t *tx, i2s_chan_handle_t *rx)
{
    (void)tx;
    *rx = NULL;
    return config->role == I2S_ROLE_MASTER ? ESP_OK : -1;
}

static inline esp_err_t i2s_channel_init_std_mode(i2s_chan_handle_t handle, const i2s_std_config_t *config)
{
    (void)handle;
    i2s_config = *config;
    return ESP_OK;
}

static inline esp_err_t i2s_channel_enable(i2s_chan_handle_t handle)
{
    (void)handle;
    return i2s_config.clk_cfg.sample_rate_hz == 16000 ? ESP_OK : -1;
}

/* The microphone has 24 bits in the upper part of 32. */
static inline esp_err_t i2s_channel_read(i2s_chan_handle_t handle, void *to, size_t size, size_t *read, uint32_t timeout)
{
    static int16_t samples[4096];
    int32_t *words = (int32_t *)to;
    (void)handle, (void)timeout;
    if (i2s_config.slot_cfg.data_bit_width != I2S_DATA_BIT_WIDTH_32BIT || size > sizeof samples * 2) return -1;
    const int n = clip_read(samples, (int)(size / 4));
    for (int i = 0; i < n; i++) words[i] = (int32_t)((uint32_t)samples[i] << 16 | 0x1200);
    *read = (size_t)n * 4;
    return ESP_OK;
}
