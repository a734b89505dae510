import XCTest

@testable import EdgeModel

/// One letter a token; 26 ends an answer, 27 is special, 28 and 29 are the two halves of é.
struct Letters: TokenCoder {
    static let end = 26

    func encode(_ text: String) -> [Int] { text.unicodeScalars.map { Int($0.value) - 97 } }
    func bytes(of token: Int) -> [UInt8] {
        switch token {
        case 0..<26: return [UInt8(97 + token)]
        case 28: return [0xC3]
        case 29: return [0xA9]
        default: return Array("<\(token)>".utf8)
        }
    }
    func isSpecial(_ token: Int) -> Bool { token == 26 || token == 27 }
}

/// Says a chosen text, whatever it is told; remembers what it was told.
actor ScriptedSequence: TokenSequence {
    nonisolated let context: Int
    private let script: [Int]
    private let prompt: Int
    private let onStep: @Sendable (Int) -> Void
    private var held: [Int] = []
    private(set) var extended: [[Int]] = []

    init(_ script: [Int], prompt: Int, context: Int = 100, onStep: @escaping @Sendable (Int) -> Void = { _ in }) {
        self.script = script
        self.prompt = prompt
        self.context = context
        self.onStep = onStep
    }

    func tokens() -> [Int] { held }
    func truncate(to length: Int) { held = Array(held.prefix(length)) }
    func extend(_ tokens: [Int]) async throws -> [Float] {
        try Task.checkCancellation()
        onStep(extended.count)
        extended.append(tokens)
        held += tokens
        var logits = [Float](repeating: 0, count: 30)
        logits[script[held.count - prompt]] = 5
        return logits
    }
}

final class DecodingTests: XCTestCase {
    private func read(_ generation: Generation) async throws -> (pieces: [String], completion: Completion) {
        var pieces: [String] = []
        var completion: Completion?
        for try await chunk in generation.chunks {
            XCTAssertNil(completion, "the completion comes last")
            pieces.append(chunk.text)
            completion = chunk.completion
        }
        return (pieces, try XCTUnwrap(completion))
    }

    private func start(_ sequence: any TokenSequence, _ options: GenerationOptions = .init(), _ prompt: [Int] = [0, 1]) -> Generation {
        Generation.start(prompt: prompt, in: sequence, coder: Letters(), endTokens: [Letters.end], options: options)
    }

    func testFiltersKeepAndDrawWhatPythonDoes() throws {
        let vectors = try Vectors.load(SamplingVectors.self, "sampling.json")
        for example in vectors.cases {
            let options = SamplingOptions(
                temperature: example.temperature, topK: example.top_k, topP: example.top_p, minP: example.min_p)
            let kept = Sampler.filter(vectors.logits, options)
            XCTAssertEqual(kept.map(\.id), example.kept, "\(options)")
            XCTAssertEqual(example.units.map { Sampler.draw(kept, $0) }, example.drawn, "\(options)")
        }
        var random = SplitMix64(seed: vectors.splitmix64.seed)
        XCTAssertEqual(vectors.splitmix64.numbers.map { _ in String(random.next()) }, vectors.splitmix64.numbers)
    }

    func testGreedyTakesTheLowestOfEquals() throws {
        var sampler = try Sampler(SamplingOptions())
        XCTAssertEqual(try sampler.choose([0, 3, 3, -.infinity]), 1)
        XCTAssertRefused("not finite") { _ = try sampler.choose([0, .nan]) }
        XCTAssertRefused("not finite") { _ = try sampler.choose([0, .infinity]) }
        XCTAssertRefused("not finite") { _ = try sampler.choose([]) }
    }

    func testTheSameSeedDrawsTheSameTokens() throws {
        let logits = try Vectors.load(SamplingVectors.self, "sampling.json").logits
        func draws(_ seed: UInt64) throws -> [Int] {
            var sampler = try Sampler(SamplingOptions(temperature: 1.2, topP: 0.95, seed: seed))
            return try (0..<40).map { _ in try sampler.choose(logits) }
        }
        XCTAssertEqual(try draws(1), try draws(1))
        XCTAssertNotEqual(try draws(1), try draws(2))
    }

    func testRepetitionIsPenalised() throws {
        var sampler = try Sampler(SamplingOptions(repetitionPenalty: 2))
        sampler.observe([2])
        XCTAssertEqual(try sampler.choose([1, 1.5, 2.9, -1]), 1)  // 2.9 became 1.45
        XCTAssertEqual(try sampler.choose([1, 1.5, 2.9, -1]), 2)  // and 1.5 became 0.75
    }

    func testOptionsWithoutMeaningAreRefusedByName() {
        for (options, name) in [
            (SamplingOptions(temperature: -1), "temperature"), (SamplingOptions(topK: 0), "topK"),
            (SamplingOptions(topP: 0), "topP"), (SamplingOptions(minP: 2), "minP"),
            (SamplingOptions(repetitionPenalty: 0), "repetitionPenalty"), (SamplingOptions(temperature: .nan), "temperature"),
        ] { XCTAssertRefused(name) { _ = try Sampler(options) } }
    }

    func testAnAnswerEndsWithTheModelsEndToken() async throws {
        let sequence = ScriptedSequence([2, 28, 29, 27, 3, 26], prompt: 2)
        let (pieces, completion) = try await read(start(sequence))
        XCTAssertEqual(pieces, ["c", "é", "d", ""])  // never half a character, no special token
        XCTAssertEqual(completion.text, "céd")
        XCTAssertEqual(completion.tokens, [2, 28, 29, 27, 3, 26])
        XCTAssertEqual(completion.finishReason, .stop)
        XCTAssertEqual(completion.promptTokens, 2)
        let extended = await sequence.extended
        XCTAssertEqual(extended, [[0, 1], [2], [28], [29], [27], [3]])
    }

    func testStopStringsLimitsAndTheContextEndIt() async throws {
        let script = Array(2..<26)
        var (_, completion) = try await read(start(ScriptedSequence(script, prompt: 2), .init(stop: ["fgh", "zz"])))
        XCTAssertEqual(completion.text, "cde")
        XCTAssertEqual(completion.finishReason, .stopString)
        (_, completion) = try await read(start(ScriptedSequence(script, prompt: 2), .init(maxTokens: 4, stop: ["fg"])))
        XCTAssertEqual(completion.text, "cdef")  // held back for a stop string that never came
        XCTAssertEqual(completion.finishReason, .length)
        (_, completion) = try await read(start(ScriptedSequence(script, prompt: 2, context: 5)))
        XCTAssertEqual(completion.tokens.count, 4)
        XCTAssertEqual(completion.finishReason, .length)
    }

    func testWhatCannotRunEndsTheStreamWithAnError() async throws {
        for (options, prompt, needle) in [
            (GenerationOptions(), [], "empty"), (GenerationOptions(maxTokens: 0), [1], "maxTokens"),
            (GenerationOptions(stop: [""]), [1], "stop string"), (GenerationOptions(), Array(repeating: 1, count: 101), "101 tokens"),
        ] as [(GenerationOptions, [Int], String)] {
            do {
                _ = try await read(start(ScriptedSequence([2], prompt: 2), options, prompt))
                XCTFail("\(needle) expected")
            } catch { XCTAssertTrue("\(error)".contains(needle), "\(error)") }
        }
    }

    func testCancellingEndsItAfterTheStepThatRuns() async throws {
        let reached = expectation(description: "ten steps")
        let sequence = ScriptedSequence(Array(repeating: 4, count: 1_000_000), prompt: 2, context: 1_000_000) {
            if $0 == 10 { reached.fulfill() }
        }
        let generation = start(sequence)
        await fulfillment(of: [reached], timeout: 10)
        await generation.cancel()
        let steps = await sequence.extended.count
        try await Task.sleep(for: .milliseconds(20))
        let later = await sequence.extended.count
        XCTAssertEqual(steps, later)  // when `cancel` returns nothing runs any more
        let (_, completion) = try await read(generation)
        XCTAssertEqual(completion.finishReason, .cancelled)
        XCTAssertLessThan(completion.tokens.count, 999_000)
    }

    func testCancellingTheReaderEndsItToo() async throws {
        let sequence = ScriptedSequence(Array(repeating: 4, count: 1_000_000), prompt: 2, context: 1_000_000)
        let generation = start(sequence)
        let reader = Task { for try await chunk in generation.chunks where chunk.completion == nil { break } }
        try await reader.value
        await generation.cancel()
        let steps = await sequence.extended.count
        XCTAssertLessThan(steps, 999_000)
    }

    func testTheNextTurnRunsOnlyWhatIsNew() async throws {
        let model = RecordingModel(
            [1, 8].map { StepShape(tokens: $0, cells: 64, rows: 1, signature: "s\($0)") }, window: nil, vocabSize: 26)
        let runner = try StepRunner(model, context: 64)
        let sequence = await runner.newSequence()
        let options = GenerationOptions(maxTokens: 5)
        let first = try await read(start(sequence, options, [1, 2, 3])).completion
        let next = [1, 2, 3] + first.tokens + [7, 8]
        model.steps = []
        let second = try await read(start(sequence, options, next)).completion
        XCTAssertEqual(second.reusedTokens, 3 + 4)  // the last token of an answer is not run
        XCTAssertEqual(model.steps.first?.tokens, [first.tokens[4], 7, 8])
        let other = await runner.newSequence()
        let whole = try await read(start(other, options, next)).completion
        XCTAssertEqual(whole.tokens, second.tokens)
        XCTAssertEqual(whole.reusedTokens, 0)
        let again = try await read(start(sequence, options, next)).completion
        XCTAssertEqual(again.tokens, second.tokens)
        XCTAssertEqual(again.reusedTokens, next.count - 1)  // its last token is run again, for its logits
    }

    func testTheGovernorWaitsWhileTheDeviceIsCritical() async throws {
        final class Device: @unchecked Sendable {
            var looks = 0
            func heat() -> Heat {
                looks += 1
                return looks < 4 ? .critical : .nominal
            }
        }
        let device = Device()
        var governor = ThermalGovernor(heat: { device.heat() }, lowPower: { false })
        governor.criticalPause = .milliseconds(1)
        try await governor.rest()
        XCTAssertGreaterThanOrEqual(device.looks, 4)
        XCTAssertEqual(ThermalGovernor(heat: { .serious }, lowPower: { true }).pause, .milliseconds(60))
        XCTAssertEqual(ThermalGovernor(heat: { .fair }, lowPower: { true }).pause, .milliseconds(30))
        XCTAssertEqual(ThermalGovernor(heat: { .fair }, lowPower: { false }).pause, .zero)
    }
}
