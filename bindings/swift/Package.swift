// swift-tools-version:5.5
import PackageDescription

let package = Package(
    name: "Wav2Small",
    products: [.library(name: "Wav2Small", targets: ["Wav2Small"])],
    targets: [
        .target(name: "CWav2Small", publicHeadersPath: "."),
        .target(name: "Wav2Small", dependencies: ["CWav2Small"]),
        .executableTarget(name: "PrintEmotion", dependencies: ["Wav2Small"]),
        .testTarget(name: "Wav2SmallTests", dependencies: ["Wav2Small"]),
    ]
)
