#if canImport(CoreML)
    import XCTest

    @testable import EdgeModel

    /// What only a Mac can show: Core ML compiles the tiny bundles, and gives the interpreter's numbers.
    ///
    ///     python ios_notes/make_test_vectors.py     # first: it makes the bundles
    final class CoreMLTests: XCTestCase {
        private static let variants = ["coreml-w8-round", "coreml-state-w8-round"]

        private func folder(_ name: String) throws -> URL {
            let folder = Vectors.folder.appendingPathComponent("bundle/\(name)")
            guard FileManager.default.fileExists(atPath: folder.path) else {
                throw EdgeModelError.bundle("no tiny bundle \(name); run python ios_notes/make_test_vectors.py first")
            }
            return folder
        }

        private func check(units: ComputeUnits) async throws {
            let vectors = try Vectors.load(ModelVectors.self, "model.json")
            for tiny in vectors.bundles {
                for variant in Self.variants {
                    let model = try await EdgeModel.load(folder(tiny.name), variant: variant, units: units)
                    print(model.receipt)
                    for example in tiny.cases {
                        let limit = vectors.tolerance * example.largest
                        try await example.check(model, limit: limit, "\(tiny.name) \(variant) \(units)")
                    }
                }
            }
        }

        func testOnTheCPU() async throws { try await check(units: .cpuOnly) }

        func testWhereCoreMLChooses() async throws { try await check(units: .all) }

        func testTwoConversationsDoNotMix() async throws {
            let model = try await EdgeModel.load(folder("qwen3"), variant: "coreml-w8-round", units: .cpuOnly)
            let options = GenerationOptions(maxTokens: 12)
            @Sendable func answer(_ text: String, in sequence: any TokenSequence) async throws -> [Int] {
                var tokens: [Int] = []
                let generation = try model.chat([ChatMessage(role: "user", content: text)], in: sequence, options: options)
                for try await chunk in generation.chunks { tokens = chunk.completion?.tokens ?? tokens }
                return tokens
            }
            let alone = [try await answer("one", in: model.newSequence()), try await answer("two", in: model.newSequence())]
            let (a, b) = (try await model.newSequence(), try await model.newSequence())
            async let first = answer("one", in: a)
            async let second = answer("two", in: b)
            let together = [try await first, try await second]
            XCTAssertEqual(together, alone)
        }

        func testBundlesAreWhole() throws {
            try EdgeBundle(folder: folder("qwen3")).verify()
        }
    }
#endif
