/** Arousal, dominance and valence of speech, frame by frame: w2s.h for Kotlin and Java. */
package wav2small

import java.nio.ByteBuffer

/** A prediction; nominally 0 to 1, not clipped. */
data class Emotion(val arousal: Float, val dominance: Float, val valence: Float)

/** The model that is compiled in. */
data class Description(
    val name: String,
    val version: String,
    val precision: String,
    val licence: String,
    val sha256: String
)

/** The prediction for a signal that arrives in chunks. One thread at a time. */
class Stream private constructor() {
    private val memory = ByteBuffer.allocateDirect(Native.streamBytes())

    init {
        checked(Native.init(memory))
    }

    /** Process the first n mono samples at 16 kHz. Returns the number of completed tokens. */
    @JvmOverloads
    fun push(samples: ShortArray, n: Int = samples.size): Int {
        require(n in 0..samples.size) { "n is $n, and there are ${samples.size} samples." }
        return checked(Native.pushInt16(memory, samples, n))
    }

    /** The same for samples in [-1, 1]. */
    @JvmOverloads
    fun push(samples: FloatArray, n: Int = samples.size): Int {
        require(n in 0..samples.size) { "n is $n, and there are ${samples.size} samples." }
        return checked(Native.pushFloat(memory, samples, n))
    }

    /** End the signal. Returns the number of completed tokens. */
    fun finish(): Int = checked(Native.finish(memory))

    /** Prediction for all samples so far; null before the first token. */
    fun read(): Emotion? {
        val values = FloatArray(3)
        return if (Native.read(memory, values) == 0) emotion(values) else null
    }

    /** Begin again. */
    fun reset() {
        checked(Native.reset(memory))
    }

    /** Mean and variance of the utterance, for models normalised over it; before the first sample. */
    fun level(mean: Float, variance: Float) {
        checked(Native.level(memory, mean, variance))
    }

    companion object {
        /** A stream of the model that is compiled in. */
        @JvmStatic
        fun load() = Stream()

        /** Name, version, precision, licence and sha256 of the weights. */
        @JvmStatic
        fun describe(): Description {
            val texts = List(5) { Native.describe(it) }
            return Description(texts[0], texts[1], texts[2], texts[3], texts[4])
        }
    }
}

/**
 * What the voice of one speaker is usually like.
 *
 * @param forgetDur seconds of speech after which older speech counts less; 0 never forgets
 */
class Baseline @JvmOverloads constructor(forgetDur: Float = 0f) {
    /** forgetDur, seconds of speech, mean and spread of each dimension: may be stored and restored. */
    val numbers = FloatArray(8)

    init {
        Native.baselineInit(numbers, forgetDur)
    }

    /** Whether it has 20 s of speech. */
    val isReady: Boolean get() = Native.baselineReady(numbers)

    /** Include a prediction with speechDur seconds of speech that no earlier one included. */
    fun add(emotion: Emotion, speechDur: Float) =
        Native.baselineAdd(numbers, emotion.arousal, emotion.dominance, emotion.valence, speechDur)

    /** Distance of a prediction from the mean, in units of the speaker's spread. */
    fun deviation(emotion: Emotion): Emotion {
        val values = FloatArray(3)
        Native.baselineDeviation(numbers, emotion.arousal, emotion.dominance, emotion.valence, values)
        return emotion(values)
    }
}

private fun emotion(values: FloatArray) = Emotion(values[0], values[1], values[2])

private fun checked(result: Int): Int {
    check(result != -2) { "The stream has ended: call reset before push." }
    check(result != -6) {
        "level is for models normalised over the utterance, before the first sample, finite, variance >= 0."
    }
    check(result >= 0) { "The stream refused the call: w2s.h, result $result." }
    return result
}

internal object Native {
    init {
        System.loadLibrary("wav2small")
    }

    @JvmStatic external fun describe(index: Int): String
    @JvmStatic external fun streamBytes(): Int
    @JvmStatic external fun init(memory: ByteBuffer): Int
    @JvmStatic external fun pushInt16(memory: ByteBuffer, samples: ShortArray, n: Int): Int
    @JvmStatic external fun pushFloat(memory: ByteBuffer, samples: FloatArray, n: Int): Int
    @JvmStatic external fun finish(memory: ByteBuffer): Int
    @JvmStatic external fun read(memory: ByteBuffer, emotion: FloatArray): Int
    @JvmStatic external fun reset(memory: ByteBuffer): Int
    @JvmStatic external fun level(memory: ByteBuffer, mean: Float, variance: Float): Int
    @JvmStatic external fun baselineInit(numbers: FloatArray, forgetDur: Float)
    @JvmStatic external fun baselineAdd(numbers: FloatArray, arousal: Float, dominance: Float, valence: Float, speechDur: Float)
    @JvmStatic external fun baselineDeviation(numbers: FloatArray, arousal: Float, dominance: Float, valence: Float, deviation: FloatArray)
    @JvmStatic external fun baselineReady(numbers: FloatArray): Boolean
}
