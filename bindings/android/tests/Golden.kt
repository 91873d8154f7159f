/** Carries out the calls of golden.csv and compares what they return. */
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import wav2small.Baseline
import wav2small.Emotion
import wav2small.Stream

fun distance(one: Emotion, other: List<Float>): Float =
    listOf(one.arousal - other[0], one.dominance - other[1], one.valence - other[2]).fold(0f) { largest, value -> maxOf(largest, Math.abs(value)) }

fun refuses(call: () -> Unit): Boolean =
    try {
        call()
        false
    } catch (refusal: IllegalStateException) {
        true
    }

fun main(arguments: Array<String>) {
    val bytes = ByteBuffer.wrap(File(arguments[0], "clip.raw").readBytes()).order(ByteOrder.LITTLE_ENDIAN).asShortBuffer()
    val clip = ShortArray(bytes.remaining()) { bytes.get(it) }
    val stream = Stream.load()
    val baseline = Baseline()
    var emotion = Emotion(0f, 0f, 0f)
    var at = 0
    var tokens = 0
    var emotions = 0
    var tolerance = 0f
    var largest = 0f
    for (call in File(arguments[0], "golden.csv").readLines()) {
        val words = call.split(",")
        val numbers = words.drop(1).mapNotNull(String::toFloatOrNull)
        val n = (numbers.firstOrNull() ?: 0f).toInt()
        var isRight = true
        when (words[0]) {
            "sha256" -> isRight = words[1] == Stream.describe().sha256
            "tolerance" -> tolerance = numbers[0]
            "reset" -> {
                stream.reset()
                at = 0
                tokens = 0
            }
            "level" -> stream.level(numbers[0], numbers[1])
            "push_int16" -> {
                tokens += stream.push(clip.copyOfRange(at, at + n))
                at += n
            }
            "push_float" -> {
                tokens += stream.push(FloatArray(n + 1) { clip.getOrElse(at + it) { 0 } / 32768f }, n)
                at += n
            }
            "finish" -> tokens += stream.finish()
            "tokens" -> isRight = tokens == n
            "read" -> {
                val read = stream.read()
                isRight = (read == null) == numbers.isEmpty()
                if (read != null && isRight) {
                    emotion = read
                    largest = maxOf(largest, distance(read, numbers))
                    isRight = largest <= tolerance
                    emotions++
                }
            }
            "deviation" -> isRight = distance(baseline.deviation(emotion), numbers) <= 1e-4f
            "add" -> baseline.add(emotion, numbers[0])
            "ready" -> isRight = baseline.isReady == (n == 1)
            "refused_push" -> isRight = refuses { stream.push(clip) }
            "refused_level" -> isRight = refuses { stream.level(0f, 1f) }
            else -> isRight = false
        }
        check(isRight) { "$call: wrong" }
    }
    check(emotions > 0)
    println("%d emotions, largest difference %.1e".format(emotions, largest))
}
