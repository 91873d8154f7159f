// Arousal, dominance and valence of a WAV file (16 kHz, mono, 16 bit) by ONNX Runtime's C++ API.
//     wav2small export micro -o models
//     g++ -std=c++17 -O2 -I/usr/include/onnxruntime emotion.cpp -lonnxruntime -o emotion
//     ./emotion models/micro.onnx talk.wav
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <onnxruntime_cxx_api.h>

static std::vector<float> read_wav(const char *path) {  // samples in [-1, 1]
  std::ifstream file(path, std::ios::binary);
  char riff[12], name[4], format[16] = {};
  uint32_t size = 0;
  file.read(riff, 12);
  while (file.read(name, 4) && file.read(reinterpret_cast<char *>(&size), 4) && std::memcmp(name, "data", 4)) {
    if (!std::memcmp(name, "fmt ", 4)) file.read(format, 16), size -= 16;
    file.seekg(size + size % 2, std::ios::cur);
  }
  const char expected[16] = {1, 0, 1, 0, (char)0x80, 0x3e, 0, 0, 0, 0x7d, 0, 0, 2, 0, 16, 0};
  if (!file || std::memcmp(format, expected, 16)) throw std::runtime_error("not a WAV file of 16 kHz, mono, 16 bit");
  std::vector<int16_t> samples(size / 2);
  if (!file.read(reinterpret_cast<char *>(samples.data()), size / 2 * 2)) throw std::runtime_error("truncated");
  std::vector<float> signal(samples.size());
  std::transform(samples.begin(), samples.end(), signal.begin(), [](int16_t sample) { return sample / 32768.f; });
  return signal;
}

int main(int argc, char **argv) try {
  if (argc != 3) throw std::runtime_error("usage: emotion MODEL.onnx TALK.wav");
  Ort::Env env;
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);  // more do not pay for a network of this size
  Ort::Session session(env, argv[1], options);
  std::vector<float> signal = read_wav(argv[2]);
  const std::array<int64_t, 2> shape = {1, (int64_t)signal.size()};
  const char *inputs[] = {"signal"}, *outputs[] = {"emotion"}, *labels[] = {"arousal", "dominance", "valence"};
  auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto input = Ort::Value::CreateTensor<float>(memory, signal.data(), signal.size(), shape.data(), shape.size());
  auto output = session.Run(Ort::RunOptions{}, inputs, &input, 1, outputs, 1);
  const float *emotion = output[0].GetTensorData<float>();  // shape (1, 3), nominally 0 to 1
  for (int i = 0; i < 3; i++) std::printf("%s %.6f\n", labels[i], std::clamp(emotion[i], 0.f, 1.f));
} catch (const std::exception &error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
