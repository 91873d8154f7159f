/**
 * The microphone, a prediction every half second. The app holds the permission RECORD_AUDIO; call this on a thread of its own.
 */
import android.media.AudioFormat
import android.media.AudioRecord
import android.media.MediaRecorder
import wav2small.Emotion
import wav2small.Stream

fun listen(isOn: () -> Boolean, show: (Emotion) -> Unit) {
    val samples = ShortArray(8000)
    val stream = Stream.load()
    val microphone = AudioRecord(
        MediaRecorder.AudioSource.MIC, 16000, AudioFormat.CHANNEL_IN_MONO, AudioFormat.ENCODING_PCM_16BIT, 4 * samples.size
    )
    microphone.startRecording()
    while (isOn()) {
        val n = microphone.read(samples, 0, samples.size)
        if (n <= 0) break
        stream.push(samples, n)
        stream.read()?.let(show)
    }
    microphone.release()
}
