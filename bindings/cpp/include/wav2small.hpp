// Arousal, dominance and valence of speech, frame by frame: w2s.h for C++17.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "w2s.h"

namespace wav2small {

// A call that the stream refuses; it changes nothing.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

inline int checked(int result)
{
    if (result == W2S_ENDED) throw Error("the stream has ended: call reset() before push()");
    if (result == W2S_OTHER_LEVEL)
        throw Error("level() is for models normalised over the utterance, before the first sample, finite, variance >= 0");
    if (result < 0) throw Error("the stream refused the call: w2s.h, result " + std::to_string(result));
    return result;
}

// arousal, dominance, valence: nominally 0 to 1, not clipped.
using Emotion = w2s_emotion;

// Name, version, precision, licence and sha256 of the weights.
inline const w2s_description &describe() { return *w2s_describe(); }

// The prediction for a signal that arrives in chunks. One thread at a time.
class Stream {
public:
    // A stream of the model that is compiled in.
    static Stream load() { return Stream(); }

    // Process n mono samples at 16 kHz, int16 or float in [-1, 1]. Returns the number of completed tokens.
    int push(const std::int16_t *samples, std::size_t n) { return checked(w2s_push_int16(memory.get(), samples, length(n))); }
    int push(const float *samples, std::size_t n) { return checked(w2s_push_float(memory.get(), samples, length(n))); }

    // The same for a vector, array or other contiguous container.
    template <class Samples>
    int push(const Samples &samples) { return push(std::data(samples), std::size(samples)); }

    // End the signal. Returns the number of completed tokens.
    int finish() { return checked(w2s_finish(memory.get())); }

    // Prediction for all samples so far; none before the first token.
    std::optional<Emotion> read() const
    {
        Emotion emotion;
        if (w2s_read(memory.get(), &emotion, nullptr) == W2S_TOO_SHORT) return std::nullopt;
        return emotion;
    }

    // Begin again.
    void reset() { checked(w2s_reset(memory.get())); }

    // Mean and variance of the utterance, for models that are normalised over it; before the first sample.
    void level(float mean, float variance) { checked(w2s_level(memory.get(), mean, variance)); }

private:
    Stream() { checked(w2s_init(memory.get())); }
    static int length(std::size_t n) { return n > INT_MAX ? W2S_BAD_LENGTH : static_cast<int>(n); }

    std::unique_ptr<w2s_stream> memory = std::make_unique<w2s_stream>();
};

// What the voice of one speaker is usually like. The members may be stored and restored.
struct Baseline : w2s_baseline {
    // forget_dur: seconds of speech after which older speech counts less; 0 never forgets.
    explicit Baseline(float forget_dur = 0) { w2s_baseline_init(this, forget_dur); }

    // Include a prediction with speech_dur seconds of speech that no earlier one included.
    void add(const Emotion &emotion, float speech_dur) { w2s_baseline_add(this, &emotion, speech_dur); }

    // Distance of a prediction from the mean, in units of the speaker's spread.
    Emotion deviation(const Emotion &emotion) const
    {
        Emotion distance;
        w2s_baseline_deviation(this, &emotion, &distance);
        return distance;
    }

    // Whether it has 20 s of speech.
    bool is_ready() const { return w2s_baseline_ready(this) != 0; }
};

} // namespace wav2small
