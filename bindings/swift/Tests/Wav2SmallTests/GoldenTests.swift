import Foundation
import XCTest

import Wav2Small

final class GoldenTests: XCTestCase {
    /// Carries out the calls of golden.csv and compares what they return.
    func testGolden() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let folder = root.deletingLastPathComponent().appendingPathComponent("golden")
        let bytes = [UInt8](try Data(contentsOf: folder.appendingPathComponent("clip.raw")))
        let clip = (0..<bytes.count / 2).map { Int16(bitPattern: UInt16(bytes[2 * $0]) | UInt16(bytes[2 * $0 + 1]) << 8) }
        let text = try String(contentsOf: folder.appendingPathComponent("golden.csv"), encoding: .utf8)
        let stream = Wav2Small.Stream.load()
        var baseline = Baseline()
        var emotion = Emotion(arousal: 0, dominance: 0, valence: 0)
        var (at, tokens, emotions) = (0, 0, 0)
        var (tolerance, largest) = (Float(0), Float(0))
        for line in text.split(separator: "\n") {
            let call = String(line)
            let words = call.split(separator: ",").map(String.init)
            let numbers = words.dropFirst().compactMap { Float($0) }
            let n = Int(numbers.first ?? 0)
            switch words[0] {
            case "sha256":
                XCTAssertEqual(describe().sha256, words[1])
            case "tolerance":
                tolerance = numbers[0]
            case "reset":
                stream.reset()
                (at, tokens) = (0, 0)
            case "level":
                try stream.level(mean: numbers[0], variance: numbers[1])
            case "push_int16":
                tokens += try stream.push(Array(clip[at..<at + n]))
                at += n
            case "push_float":
                tokens += try stream.push(clip[at..<at + n].map { Float($0) / 32768 })
                at += n
            case "finish":
                tokens += try stream.finish()
            case "tokens":
                XCTAssertEqual(tokens, n, call)
            case "read":
                let read = stream.read()
                XCTAssertEqual(read == nil, numbers.isEmpty, call)
                guard let found = read, numbers.count == 3 else { continue }
                emotion = found
                largest = max(largest, distance(found, numbers))
                XCTAssertLessThanOrEqual(largest, tolerance, call)
                emotions += 1
            case "deviation":
                XCTAssertLessThanOrEqual(distance(baseline.deviation(emotion), numbers), 1e-4, call)
            case "add":
                baseline.add(emotion, speechDur: numbers[0])
            case "ready":
                XCTAssertEqual(baseline.isReady, n == 1, call)
            case "refused_push":
                XCTAssertThrowsError(try stream.push(clip)) { XCTAssertEqual($0 as? StreamError, .ended) }
            case "refused_level":
                XCTAssertThrowsError(try stream.level(mean: 0, variance: 1)) { XCTAssertEqual($0 as? StreamError, .level) }
            default:
                XCTFail(call)
            }
        }
        XCTAssertGreaterThan(emotions, 0)
        print("\(emotions) emotions, largest difference \(largest)")
    }

    private func distance(_ one: Emotion, _ other: [Float]) -> Float {
        return max(abs(one.arousal - other[0]), abs(one.dominance - other[1]), abs(one.valence - other[2]))
    }
}
