// One answer as a stream: prompt, then a token per step, each chosen, checked and turned into text.

import Dispatch

/// How an answer is generated.
public struct GenerationOptions: Sendable {
    public var sampling: SamplingOptions
    /// Most tokens of the answer; nil for what the context has room for.
    public var maxTokens: Int?
    /// Any of these ends the answer, and is no part of it.
    public var stop: [String]
    /// Leave special tokens out of the text.
    public var skipSpecial: Bool

    public init(
        sampling: SamplingOptions = .init(), maxTokens: Int? = nil, stop: [String] = [], skipSpecial: Bool = true
    ) {
        self.sampling = sampling
        self.maxTokens = maxTokens
        self.stop = stop
        self.skipSpecial = skipSpecial
    }
}

/// Why an answer ended.
public enum FinishReason: String, Sendable {
    /// The model said an end token.
    case stop
    /// The text reached a stop string.
    case stopString = "stop_string"
    /// `maxTokens`, or the end of the context.
    case length
    case cancelled
}

/// A finished answer with its figures. Times count what the model and the host did, not the reader's time.
public struct Completion: Sendable {
    public let text: String
    /// Every chosen token, an end token included.
    public let tokens: [Int]
    public let finishReason: FinishReason
    public let promptTokens: Int
    /// Tokens of the prompt that earlier turns had left in the cells.
    public let reusedTokens: Int
    /// Until the first token was chosen.
    public let firstTokenMs: Double
    /// After the first token; nil where there is only one.
    public let decodeTokensPerS: Double?
}

/// A piece of an answer; the last one brings the completion.
public struct Chunk: Sendable {
    public let text: String
    public let completion: Completion?
}

/// An answer under way.
///
///     let generation = Generation.start(prompt: ids, in: sequence, coder: coder, endTokens: eos, options: options)
///     for try await chunk in generation.chunks { show(chunk.text) }
///
/// It ends early when the task that reads `chunks` is cancelled, when the stream is dropped, or by `cancel`.
public struct Generation: Sendable {
    /// Pieces of text that are certain.
    public let chunks: AsyncThrowingStream<Chunk, Error>
    private let task: Task<Void, Never>

    init(chunks: AsyncThrowingStream<Chunk, Error>, task: Task<Void, Never>) {
        self.chunks = chunks
        self.task = task
    }

    /// Ends it after the step that is running; when this returns the sequence may be used again. The stream
    /// ends with a completion that says `cancelled`.
    public func cancel() async {
        task.cancel()
        await task.value
    }

    /// Starts an answer.
    ///
    /// - Parameters:
    ///   - prompt: token ids, at least one; what the sequence already holds of it is not run again.
    ///   - sequence: used by nobody else until the answer has ended.
    ///   - endTokens: any of these ends the answer.
    ///   - governor: slows down or waits when the device is hot; nil never does.
    public static func start(
        prompt: [Int], in sequence: any TokenSequence, coder: any TokenCoder, endTokens: Set<Int>,
        options: GenerationOptions, governor: ThermalGovernor? = nil
    ) -> Generation {
        let (chunks, continuation) = AsyncThrowingStream.makeStream(of: Chunk.self, throwing: (any Error).self)
        let task = Task(priority: .userInitiated) {
            do {
                var answer = try Answer(prompt: prompt, coder: coder, options: options)
                let completion = try await answer.run(in: sequence, endTokens: endTokens, governor: governor) {
                    continuation.yield(Chunk(text: $0, completion: nil))
                }
                continuation.yield(completion)
                continuation.finish()
            } catch {
                continuation.finish(throwing: error)
            }
        }
        continuation.onTermination = { _ in task.cancel() }
        return Generation(chunks: chunks, task: task)
    }
}

/// The state of one answer.
private struct Answer {
    private let prompt: [Int]
    private let options: GenerationOptions
    private var sampler: Sampler
    private var detokenizer: Detokenizer
    private var stops: StopStrings
    private var text = ""
    private var tokens: [Int] = []
    private var reused = 0
    private var firstMs = 0.0
    private var laterMs = 0.0

    init(prompt: [Int], coder: any TokenCoder, options: GenerationOptions) throws {
        guard !prompt.isEmpty else { throw EdgeModelError.option("the prompt is empty, expected at least one token") }
        guard options.maxTokens ?? 1 >= 1 else {
            throw EdgeModelError.option("maxTokens is \(options.maxTokens ?? 0), expected 1 or more")
        }
        self.prompt = prompt
        self.options = options
        sampler = try Sampler(options.sampling)
        detokenizer = Detokenizer(coder, skipSpecial: options.skipSpecial)
        stops = try StopStrings(options.stop)
    }

    /// - Returns: the last chunk.
    mutating func run(
        in sequence: any TokenSequence, endTokens: Set<Int>, governor: ThermalGovernor?, show: (String) -> Void
    ) async throws -> Chunk {
        guard prompt.count <= sequence.context else {
            throw EdgeModelError.capacity(
                "the prompt has \(prompt.count) tokens, the context holds \(sequence.context); shorten it")
        }
        let limit = min(options.maxTokens ?? .max, sequence.context - prompt.count + 1)
        var piece = ""
        let finish: FinishReason
        do {
            finish = try await decode(in: sequence, limit, endTokens, governor, &piece, show)
        } catch is CancellationError {
            finish = .cancelled
        }
        // Nothing is added after a stop string: both are empty then.
        let last = piece + stops.push(detokenizer.finish()) + stops.finish()
        text += last
        return Chunk(text: last, completion: completion(stops.found == nil ? finish : .stopString))
    }

    private mutating func decode(
        in sequence: any TokenSequence, _ limit: Int, _ endTokens: Set<Int>, _ governor: ThermalGovernor?,
        _ piece: inout String, _ show: (String) -> Void
    ) async throws -> FinishReason {
        var began = DispatchTime.now().uptimeNanoseconds
        var next = await sequence.reuse(for: prompt)
        reused = prompt.count - next.count
        sampler.observe(prompt)
        while true {
            let token = try sampler.choose(try await sequence.extend(next))
            let took = Double(DispatchTime.now().uptimeNanoseconds - began) / 1e6
            if tokens.isEmpty { firstMs = took } else { laterMs += took }
            tokens.append(token)
            if endTokens.contains(token) { return .stop }
            piece = stops.push(detokenizer.push(token))
            if stops.found != nil { return .stopString }
            if tokens.count >= limit { return .length }
            if !piece.isEmpty {
                text += piece
                show(piece)
                piece = ""
            }
            try await governor?.rest()
            try Task.checkCancellation()
            began = DispatchTime.now().uptimeNanoseconds
            next = [token]
        }
    }

    private func completion(_ finish: FinishReason) -> Completion {
        Completion(
            text: text, tokens: tokens, finishReason: finish, promptTokens: prompt.count, reusedTokens: reused,
            firstTokenMs: firstMs,
            decodeTokensPerS: laterMs > 0 ? Double(tokens.count - 1) / (laterMs / 1e3) : nil)
    }
}
