// Raw 16-bit mono audio at 16 kHz on standard input; a prediction every half second, and at the end.
//     sox talk.wav -r 16000 -c 1 -b 16 -e signed -t raw - | swift run PrintEmotion
import Foundation
import Wav2Small

func show(_ stream: Wav2Small.Stream) {
    if let emotion = stream.read() {
        print("arousal \(emotion.arousal), dominance \(emotion.dominance), valence \(emotion.valence)")
    }
}

let bytes = [UInt8](FileHandle.standardInput.readDataToEndOfFile())
let samples = (0..<bytes.count / 2).map { Int16(bitPattern: UInt16(bytes[2 * $0]) | UInt16(bytes[2 * $0 + 1]) << 8) }
let stream = Wav2Small.Stream.load()
for start in stride(from: 0, to: samples.count, by: 8000) {
    try stream.push(Array(samples[start..<min(start + 8000, samples.count)]))
    show(stream)
}
try stream.finish()
show(stream)
