// The stages of a pipeline over notes: examples/phone_notes.json, which Python and Java read as well.

import Foundation

/// What is asked of notes, in three stages.
public struct NotesPlan: Decodable, Sendable {
    /// A field of the extracted object.
    public struct Field: Decodable, Sendable {
        public let name: String
        public let maxTokens: Int

        enum CodingKeys: String, CodingKey {
            case name
            case maxTokens = "max_tokens"
        }
    }

    /// A question about the notes.
    public struct Question: Decodable, Sendable {
        public let name: String
        public let question: String
        public let maxTokens: Int

        enum CodingKeys: String, CodingKey {
            case name, question
            case maxTokens = "max_tokens"
        }
    }

    /// Fields, each written behind those before it.
    public struct Extract: Decodable, Sendable {
        public let instruction: String
        public let fields: [Field]
    }

    /// Questions about one text.
    public struct Ask: Decodable, Sendable {
        public let questions: [Question]
    }

    /// A text from what was found; `{name}` stands for it.
    public struct Rewrite: Decodable, Sendable {
        public let instruction: String
        public let maxTokens: Int

        enum CodingKeys: String, CodingKey {
            case instruction
            case maxTokens = "max_tokens"
        }
    }

    private let schemaVersion: Int
    public let system: String
    public let extract: Extract
    public let ask: Ask
    public let rewrite: Rewrite

    enum CodingKeys: String, CodingKey {
        case schemaVersion = "schema_version"
        case system, extract, ask, rewrite
    }

    /// - Throws: `EdgeModelError.option`: it is no plan of this version.
    public init(json: Data) throws {
        guard let plan = try? JSONDecoder().decode(NotesPlan.self, from: json), plan.schemaVersion == 1 else {
            throw EdgeModelError.option("the plan is damaged or of another version, expected 1")
        }
        self = plan
    }
}
