// Carries out the calls of golden.csv and compares what they return.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "wav2small.hpp"

static std::string call; // the line that is carried out

static void check(bool is_right)
{
    if (is_right) return;
    std::fprintf(stderr, "%s: wrong\n", call.c_str());
    std::exit(1);
}

static float distance(const wav2small::Emotion &one, const std::vector<float> &other)
{
    return std::fmax(std::fabs(one.arousal - other.at(0)),
                     std::fmax(std::fabs(one.dominance - other.at(1)), std::fabs(one.valence - other.at(2))));
}

template <class Call> static bool refuses(Call attempt)
{
    try {
        attempt();
    } catch (const wav2small::Error &) {
        return true;
    }
    return false;
}

int main(int, char **arguments)
{
    const std::string folder = arguments[1];
    std::ifstream lines(folder + "/golden.csv"), raw(folder + "/clip.raw", std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(raw), {}};
    std::vector<std::int16_t> clip(bytes.size() / 2);
    for (std::size_t i = 0; i < clip.size(); i++)
        clip[i] = static_cast<std::int16_t>(static_cast<unsigned char>(bytes[2 * i]) | static_cast<unsigned char>(bytes[2 * i + 1]) << 8);
    auto stream = wav2small::Stream::load();
    wav2small::Baseline baseline;
    wav2small::Emotion emotion{};
    std::size_t at = 0;
    int tokens = 0, emotions = 0;
    float tolerance = 0, largest = 0;
    while (std::getline(lines, call)) {
        std::stringstream words(call);
        std::string name, word;
        std::getline(words, name, ',');
        if (name == "sha256") {
            check(call == "sha256," + std::string(wav2small::describe().sha256));
            continue;
        }
        std::vector<float> numbers;
        while (std::getline(words, word, ',')) numbers.push_back(std::stof(word));
        const std::size_t n = numbers.empty() ? 0 : static_cast<std::size_t>(numbers[0]);
        if (name == "tolerance") {
            tolerance = numbers.at(0);
        } else if (name == "reset") {
            stream.reset();
            tokens = 0;
            at = 0;
        } else if (name == "level") {
            stream.level(numbers.at(0), numbers.at(1));
        } else if (name == "push_int16") {
            tokens += stream.push(clip.data() + at, n);
            at += n;
        } else if (name == "push_float") {
            std::vector<float> samples;
            for (std::size_t i = at; i < at + n; i++) samples.push_back(clip.at(i) / 32768.0f);
            tokens += stream.push(samples);
            at += n;
        } else if (name == "finish") {
            tokens += stream.finish();
        } else if (name == "tokens") {
            check(tokens == static_cast<int>(n));
        } else if (name == "read") {
            const auto read = stream.read();
            check(read.has_value() != numbers.empty());
            if (!read) continue;
            emotion = *read;
            largest = std::fmax(largest, distance(emotion, numbers));
            check(largest <= tolerance);
            emotions++;
        } else if (name == "deviation") {
            check(distance(baseline.deviation(emotion), numbers) <= 1e-4f);
        } else if (name == "add") {
            baseline.add(emotion, numbers.at(0));
        } else if (name == "ready") {
            check(baseline.is_ready() == (n == 1));
        } else if (name == "refused_push") {
            check(refuses([&] { stream.push(clip); }));
        } else if (name == "refused_level") {
            check(refuses([&] { stream.level(0, 1); }));
        } else {
            check(false);
        }
    }
    check(emotions > 0);
    std::printf("%d emotions, largest difference %.1e\n", emotions, static_cast<double>(largest));
}
