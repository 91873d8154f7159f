// Raw 16-bit mono audio at 16 kHz on standard input; a prediction every half second, and at the end.
//     sox talk.wav -r 16000 -c 1 -b 16 -e signed -t raw - | ./print_emotion
#include <array>
#include <cstdio>

#include "wav2small.hpp"

static void print(const wav2small::Stream &stream)
{
    if (const auto emotion = stream.read())
        std::printf("arousal %.3f, dominance %.3f, valence %.3f\n", double(emotion->arousal), double(emotion->dominance), double(emotion->valence));
}

int main()
{
    auto stream = wav2small::Stream::load();
    std::array<std::int16_t, 8000> samples;
    while (const auto n = std::fread(samples.data(), 2, samples.size(), stdin)) {
        stream.push(samples.data(), n);
        print(stream);
    }
    stream.finish();
    print(stream);
}
