// swift-tools-version: 6.0
// A package without dependencies. What needs Core ML stands behind `canImport(CoreML)`, so the rest builds
// and is tested on Linux, too.
import PackageDescription

let package = Package(
    name: "EdgeModel",
    platforms: [.iOS("18.0"), .macOS("15.0")],
    products: [.library(name: "EdgeModel", targets: ["EdgeModel"])],
    targets: [
        .target(name: "EdgeModel"),
        .testTarget(name: "EdgeModelTests", dependencies: ["EdgeModel"], resources: [.copy("Vectors")]),
    ],
    swiftLanguageModes: [.v5]
)
