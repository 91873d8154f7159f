// Arousal, dominance and valence of speech, frame by frame: w2s.h for Swift.
import CWav2Small

/// A prediction; nominally 0 to 1, not clipped.
public struct Emotion: Equatable {
    public var arousal: Float
    public var dominance: Float
    public var valence: Float

    public init(arousal: Float, dominance: Float, valence: Float) {
        self.arousal = arousal
        self.dominance = dominance
        self.valence = valence
    }

    init(_ c: w2s_emotion) {
        self.init(arousal: c.arousal, dominance: c.dominance, valence: c.valence)
    }

    var c: w2s_emotion {
        return w2s_emotion(arousal: arousal, dominance: dominance, valence: valence)
    }
}

/// The model that is compiled in.
public struct Description {
    public let name: String
    public let version: String
    public let precision: String
    public let licence: String
    public let sha256: String
}

/// Name, version, precision, licence and sha256 of the weights.
public func describe() -> Description {
    let about = w2s_describe()!.pointee
    return Description(
        name: String(cString: about.name), version: String(cString: about.version),
        precision: String(cString: about.precision), licence: String(cString: about.licence),
        sha256: String(cString: about.sha256))
}

/// A call that the stream refuses; it changes nothing.
public enum StreamError: Error, Equatable {
    /// `push` after `finish`: call `reset` first.
    case ended
    /// `level` for a model that does not use it, after the first sample, or with bad values.
    case level
    /// Another result of w2s.h.
    case refused(Int)
}

/// The prediction for a signal that arrives in chunks. One thread at a time.
public final class Stream {
    private let memory: UnsafeMutableRawPointer

    private init() {
        memory = UnsafeMutableRawPointer.allocate(byteCount: w2s_describe()!.pointee.stream_bytes, alignment: 16)
        let result = stream_init(memory)
        precondition(result == 0)
    }

    deinit {
        memory.deallocate()
    }

    /// A stream of the model that is compiled in.
    public static func load() -> Stream {
        return Stream()
    }

    /// Process mono samples at 16 kHz. Returns the number of completed tokens.
    @discardableResult
    public func push(_ samples: [Int16]) throws -> Int {
        return try checked(stream_push_int16(memory, samples, Int32(samples.count)))
    }

    /// The same for samples in [-1, 1].
    @discardableResult
    public func push(_ samples: [Float]) throws -> Int {
        return try checked(stream_push_float(memory, samples, Int32(samples.count)))
    }

    /// End the signal. Returns the number of completed tokens.
    @discardableResult
    public func finish() throws -> Int {
        return try checked(stream_finish(memory))
    }

    /// Prediction for all samples so far; nil before the first token.
    public func read() -> Emotion? {
        var emotion = w2s_emotion()
        return stream_read(memory, &emotion) == 0 ? Emotion(emotion) : nil
    }

    /// Begin again.
    public func reset() {
        _ = stream_reset(memory)
    }

    /// Mean and variance of the utterance, for models normalised over it; before the first sample.
    public func level(mean: Float, variance: Float) throws {
        _ = try checked(stream_level(memory, mean, variance))
    }

    private func checked(_ result: Int32) throws -> Int {
        switch result {
        case -2: throw StreamError.ended
        case -6: throw StreamError.level
        case ..<0: throw StreamError.refused(Int(result))
        default: return Int(result)
        }
    }
}

/// What the voice of one speaker is usually like.
public struct Baseline {
    /// Seconds of speech, mean and spread: may be stored and restored.
    public var numbers = w2s_baseline()

    /// - Parameter forgetDur: seconds of speech after which older speech counts less; 0 never forgets
    public init(forgetDur: Float = 0) {
        w2s_baseline_init(&numbers, forgetDur)
    }

    /// Whether it has 20 s of speech.
    public var isReady: Bool {
        var copy = numbers
        return w2s_baseline_ready(&copy) != 0
    }

    /// Include a prediction with seconds of speech that no earlier one included.
    public mutating func add(_ emotion: Emotion, speechDur: Float) {
        var included = emotion.c
        w2s_baseline_add(&numbers, &included, speechDur)
    }

    /// Distance of a prediction from the mean, in units of the speaker's spread.
    public func deviation(_ emotion: Emotion) -> Emotion {
        var (copy, compared, distance) = (numbers, emotion.c, w2s_emotion())
        w2s_baseline_deviation(&copy, &compared, &distance)
        return Emotion(distance)
    }
}
