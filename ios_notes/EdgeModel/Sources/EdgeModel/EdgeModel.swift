import Foundation

/// A bundle that is loaded and can answer.
///
///     let model = try await EdgeModel.load(folder)                  // Core ML, see CoreML/
///     let chat = try await model.newSequence()
///     let answer = try model.chat([ChatMessage(role: "user", content: "Hello")], in: chat)
///     for try await chunk in answer.chunks { print(chunk.text, terminator: "") }
public struct EdgeModel: Sendable {
    public let bundle: EdgeBundle
    public let coder: any TokenCoder
    /// nil when the bundle has no chat_format.json.
    public let chatFormat: ChatFormat?
    public let receipt: Receipt
    /// Slows answers down on a hot device; nil never does.
    public var governor: ThermalGovernor?

    private let source: any SequenceSource

    /// Brings the parts together.
    ///
    /// - Parameters:
    ///   - source: makes sequences of what `variant` describes.
    ///   - coder: nil for the bundle's own tokenizer.
    ///   - units: for the receipt, as `loadMs`.
    /// - Throws: `EdgeModelError`: the tokenizer or the chat format cannot be read.
    public init(
        bundle: EdgeBundle, variant: Variant, source: any SequenceSource, coder: (any TokenCoder)? = nil,
        units: String, loadMs: Double
    ) throws {
        self.bundle = bundle
        self.source = source
        self.coder = try coder ?? bundle.tokenCoder()
        chatFormat = try bundle.chatFormat()
        receipt = Receipt(
            model: bundle.manifest.name, variant: variant.name, recipe: variant.recipe, units: units,
            context: variant.context, functions: variant.mainSteps.map(\.signature).sorted(), loadMs: loadMs)
    }

    /// An empty conversation. Each that is kept costs the memory of what it holds.
    public func newSequence() async throws -> any TokenSequence { try await source.newSequence() }

    /// The prompt's token ids, with a BOS token where the manifest says so.
    public func encode(_ text: String) throws -> [Int] {
        let record = bundle.manifest.tokenizer
        return try (record.addBOS ? [record.bosID].compactMap { $0 } : []) + coder.encode(text)
    }

    /// Continues a text.
    public func complete(
        _ text: String, in sequence: any TokenSequence, options: GenerationOptions? = nil
    ) throws -> Generation {
        start(try encode(text), sequence, options)
    }

    /// Answers a conversation. Hand over all of it each time: what `sequence` still knows is not run again.
    ///
    /// - Throws: `EdgeModelError.option`: the bundle has no chat format, or none for these roles.
    public func chat(
        _ messages: [ChatMessage], in sequence: any TokenSequence, options: GenerationOptions? = nil
    ) throws -> Generation {
        guard let chatFormat else {
            throw EdgeModelError.option("the bundle has no chat_format.json; run ios_notes/prepare_bundle.py on it")
        }
        return start(try coder.encode(chatFormat.prompt(messages)), sequence, options)
    }

    /// Continues token ids.
    public func generate(
        _ prompt: [Int], in sequence: any TokenSequence, options: GenerationOptions? = nil
    ) -> Generation {
        start(prompt, sequence, options)
    }

    /// Gives memory back: call it under memory pressure.
    public func shrink() async { await source.shrink() }

    private func start(_ prompt: [Int], _ sequence: any TokenSequence, _ options: GenerationOptions?) -> Generation {
        Generation.start(
            prompt: prompt, in: sequence, coder: coder, endTokens: Set(bundle.manifest.tokenizer.eosIDs),
            options: options ?? GenerationOptions(sampling: SamplingOptions(bundle.manifest.generation)),
            governor: governor)
    }
}

/// What was loaded, for logs and for reports of problems.
public struct Receipt: Sendable, CustomStringConvertible {
    public let model: String
    public let variant: String
    public let recipe: String
    /// As asked for: Core ML does not tell where it ran; Xcode's performance report and `MLComputePlan` do.
    public let units: String
    public let context: Int
    public let functions: [String]
    /// Compiling, specialising and loading, in milliseconds.
    public let loadMs: Double

    public var description: String {
        "\(model), \(variant) on \(units), context \(context), \(functions.count) functions, "
            + "loaded in \(Int(loadMs)) ms"
    }
}
