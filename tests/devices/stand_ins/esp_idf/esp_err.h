/* https://docs.espressif.com/projects/esp-idf/en/stable/esp32/api-reference/system/esp_err.html */
#pragma once
#include <stdlib.h>
typedef int esp_err_t;
#define ESP_OK 0
#define ESP_ERROR_CHECK(x) do { if ((x) != ESP_OK) abort(); } while (0)
