import Foundation

/// What went wrong: each message says what was found, what was expected, and what to do.
public enum EdgeModelError: Error, Equatable, Sendable {
    /// The bundle is damaged, of another version, or made for something else.
    case bundle(String)
    /// The tokenizer needs a feature that this package does not have.
    case tokenizer(String)
    /// More tokens than the model, or the cells that are free, can hold.
    case capacity(String)
    /// Core ML refused or failed.
    case device(String)
    /// An option has no meaning.
    case option(String)
}

extension EdgeModelError: LocalizedError, CustomStringConvertible {
    public var description: String {
        switch self {
        case .bundle(let text), .tokenizer(let text), .capacity(let text), .device(let text), .option(let text):
            return text
        }
    }

    public var errorDescription: String? { description }
}
