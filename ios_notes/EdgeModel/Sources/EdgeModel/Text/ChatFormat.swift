// Writes a chat as the model was trained on it, without a template engine.
//
// Chat templates are Jinja programs. Most come down to fixed text between one message and the next, which
// depends on the two roles only. ios_notes/prepare_bundle.py finds these texts by running the bundle's own
// template, checks them against it on other conversations, and writes chat_format.json; a template that is
// more than that (tools, dates, thinking) is refused there, by name.

import Foundation

/// A message of a chat.
public struct ChatMessage: Sendable, Equatable, Codable {
    public let role: String
    public let content: String

    public init(role: String, content: String) {
        self.role = role
        self.content = content
    }
}

/// The fixed texts of a chat template.
public struct ChatFormat: Sendable {
    private struct File: Decodable {
        let schemaVersion: Int
        let trims: Bool
        /// From role (empty at the start) to role (empty for the answer to come): the text in between.
        let joins: [String: [String: String]]

        enum CodingKeys: String, CodingKey {
            case schemaVersion = "schema_version"
            case trims, joins
        }
    }

    private let file: File

    /// - Throws: `EdgeModelError.bundle`: it is no chat_format.json of this version.
    public init(json: Data) throws {
        guard let file = try? JSONDecoder().decode(File.self, from: json), file.schemaVersion == 1 else {
            throw EdgeModelError.bundle("chat_format.json is damaged or of another version; run prepare_bundle.py again")
        }
        self.file = file
    }

    /// The prompt of a conversation, ending where the answer begins. Encode it without a BOS token: a
    /// template that wants one writes it.
    ///
    /// - Throws: `EdgeModelError.option`: the template gives no text for roles in this order.
    public func prompt(_ messages: [ChatMessage]) throws -> String {
        var text = ""
        var last = ""
        for message in messages {
            text += try join(last, message.role)
            text += file.trims ? message.content.trimmingCharacters(in: .whitespacesAndNewlines) : message.content
            last = message.role
        }
        return try text + join(last, "")
    }

    private func join(_ from: String, _ to: String) throws -> String {
        guard let text = file.joins[from]?[to] else {
            func name(_ role: String, _ other: String) -> String { role.isEmpty ? other : role }
            throw EdgeModelError.option(
                "the chat template has no text between \(name(from, "the start")) and \(name(to, "an answer")); "
                    + "change the order of the messages")
        }
        return text
    }
}
