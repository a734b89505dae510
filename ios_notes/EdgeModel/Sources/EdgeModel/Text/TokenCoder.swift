/// Text to token ids, and token ids to bytes.
///
/// Bytes, not text: a character may spread over several tokens. `Detokenizer` joins them. An app that needs
/// another kind of tokenizer implements this protocol.
public protocol TokenCoder: Sendable {
    /// Token ids; special tokens written out in the text become their ids, none is added.
    func encode(_ text: String) throws -> [Int]

    /// What a token stands for; empty for an id without one.
    func bytes(of token: Int) -> [UInt8]

    /// Whether a token is no part of an answer's text.
    func isSpecial(_ token: Int) -> Bool
}

extension TokenCoder {
    /// Text of token ids; bytes that are not UTF-8 become U+FFFD.
    public func decode(_ tokens: [Int], skipSpecial: Bool = true) -> String {
        let bytes = tokens.filter { !(skipSpecial && isSpecial($0)) }.flatMap(bytes(of:))
        return String(decoding: bytes, as: UTF8.self)
    }
}
