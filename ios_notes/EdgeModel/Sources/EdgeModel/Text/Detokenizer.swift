/// Joins the bytes of tokens to text, never half a character.
///
/// Bytes that may still become a character wait for the next token; bytes that cannot become U+FFFD.
public struct Detokenizer {
    private let coder: any TokenCoder
    private let skipSpecial: Bool
    private var waiting: [UInt8] = []

    public init(_ coder: any TokenCoder, skipSpecial: Bool = true) {
        self.coder = coder
        self.skipSpecial = skipSpecial
    }

    /// Adds a token; returns the text that is certain now, often empty within a character.
    public mutating func push(_ token: Int) -> String {
        if skipSpecial, coder.isSpecial(token) { return "" }
        waiting += coder.bytes(of: token)
        let whole = waiting.count - unfinishedTail(waiting)
        defer { waiting.removeFirst(whole) }
        return String(decoding: waiting[..<whole], as: UTF8.self)
    }

    /// Ends the text; returns what was held back.
    public mutating func finish() -> String {
        defer { waiting = [] }
        return String(decoding: waiting, as: UTF8.self)
    }
}

/// How many bytes at the end begin a character that more bytes could complete (Unicode 15, table 3-7).
func unfinishedTail(_ bytes: [UInt8]) -> Int {
    for length in 1...3 where length <= bytes.count {
        let tail = bytes[(bytes.count - length)...]
        guard let lead = tail.first, lead >= 0xC0 else { continue }  // a continuation byte: look further back
        let needed = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4
        guard lead >= 0xC2, lead <= 0xF4, length < needed else { return 0 }
        guard let second = tail.dropFirst().first else { return length }
        let range: ClosedRange<UInt8>
        switch lead {
        case 0xE0: range = 0xA0...0xBF
        case 0xED: range = 0x80...0x9F
        case 0xF0: range = 0x90...0xBF
        case 0xF4: range = 0x80...0x8F
        default: range = 0x80...0xBF
        }
        return range.contains(second) ? length : 0
    }
    return 0
}
