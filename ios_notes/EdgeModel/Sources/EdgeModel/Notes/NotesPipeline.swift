// Notes in; minutes, tags and a reply out, as examples/phone_notes.py has it, text for text in float32.

import Foundation

/// A pipeline over one text.
///
///     let found = try await NotesPipeline(model: model, plan: plan, notes: text).run()
///     print(found["reply"] ?? "")
///
/// Fields are written behind the JSON so far and end with its quote: that keeps the form without a grammar. All
/// prompts begin with the notes, whose cells one sequence keeps. Cancelling the task ends it within a step.
public struct NotesPipeline: Sendable {
    private let model: EdgeModel
    private let plan: NotesPlan
    private let notes: String

    /// - Parameters:
    ///   - model: with a chat format.
    ///   - notes: what the user wrote, without white space at its ends.
    public init(model: EdgeModel, plan: NotesPlan, notes: String) {
        self.model = model
        self.plan = plan
        self.notes = notes
    }

    /// All stages.
    ///
    /// - Returns: what was found, by name, and the `reply`.
    /// - Throws: `EdgeModelError`: the bundle has no chat format, the notes do not fit, or the model fails;
    ///   `CancellationError` when the task was cancelled.
    public func run() async throws -> [String: String] {
        let sequence = try await model.newSequence()
        var found: [String: String] = [:]
        var written = "{"
        for field in plan.extract.fields {
            written += (written.count == 1 ? "" : ", ") + "\"\(field.name)\": \""
            let said = try await answer(
                plan.extract.instruction, field.maxTokens, in: sequence, begun: written, stop: ["\"", "\n"])
            let value = Self.trimmed(String(said.unicodeScalars.filter(Self.standsInJSON).map(Character.init)))
            written += value + "\""
            found[field.name] = value
        }
        for question in plan.ask.questions {
            found[question.name] = Self.trimmed(
                try await answer(question.question, question.maxTokens, in: sequence))
        }
        var instruction = plan.rewrite.instruction
        for name in plan.extract.fields.map(\.name) + plan.ask.questions.map(\.name) {
            instruction = instruction.replacingOccurrences(of: "{\(name)}", with: found[name] ?? "")
        }
        found["reply"] = Self.trimmed(try await answer(instruction, plan.rewrite.maxTokens, in: sequence))
        return found
    }

    /// What is said behind the notes and an instruction; `begun` is how it begins.
    private func answer(
        _ instruction: String, _ maxTokens: Int, in sequence: any TokenSequence, begun: String = "",
        stop: [String] = []
    ) async throws -> String {
        guard let format = model.chatFormat else {
            throw EdgeModelError.option("the bundle has no chat_format.json; run ios_notes/prepare_bundle.py on it")
        }
        let messages = [
            ChatMessage(role: "system", content: plan.system),
            ChatMessage(role: "user", content: "\(notes)\n\n\(instruction)"),
        ]
        let options = GenerationOptions(maxTokens: maxTokens, stop: stop)  // the likeliest token each time
        let generation = model.generate(
            try model.coder.encode(format.prompt(messages) + begun), in: sequence, options: options)
        var completion: Completion?
        for try await chunk in generation.chunks { completion = chunk.completion }
        guard let completion, completion.finishReason != .cancelled else { throw CancellationError() }
        return completion.text
    }

    /// Whether JSON holds it as it is.
    private static func standsInJSON(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value >= 0x20 && scalar != "\"" && scalar != "\\"
    }

    /// Without white space at its ends, as Python counts it.
    private static func trimmed(_ text: String) -> String {
        let isSpace = { (scalar: Unicode.Scalar) in
            scalar.properties.isWhitespace || (0x1C...0x1F).contains(scalar.value)
        }
        var scalars = Substring(text).unicodeScalars
        while let first = scalars.first, isSpace(first) { scalars.removeFirst() }
        while let last = scalars.last, isSpace(last) { scalars.removeLast() }
        return String(scalars)
    }
}
