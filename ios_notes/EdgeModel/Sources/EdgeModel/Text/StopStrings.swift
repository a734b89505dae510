/// Watches a stream of text for stop strings, wherever its pieces begin and end.
///
/// Text that may be the start of a stop string is held back. The stop string that is complete first wins,
/// the longest among those that end at the same place. Compared are bytes: Swift's own comparison takes
/// different spellings of a character for equal.
public struct StopStrings {
    private let strings: [[UInt8]]
    private var held: [UInt8] = []

    /// The stop string that ended the text, once there is one.
    public private(set) var found: String?

    /// - Throws: `EdgeModelError.option`: one is empty.
    public init(_ strings: [String]) throws {
        guard !strings.contains("") else {
            throw EdgeModelError.option("a stop string is empty, expected at least one character")
        }
        self.strings = strings.map { Array($0.utf8) }
    }

    /// Adds text; returns what is certainly before any stop string.
    public mutating func push(_ text: String) -> String {
        if found != nil { return "" }
        held += Array(text.utf8)
        let hits = strings.compactMap { stop in Self.find(stop, in: held).map { (start: $0, end: $0 + stop.count) } }
        if let hit = hits.min(by: { ($0.end, $0.start) < ($1.end, $1.start) }) {
            found = String(decoding: held[hit.start..<hit.end], as: UTF8.self)
            defer { held = [] }
            return String(decoding: held[..<hit.start], as: UTF8.self)
        }
        let keep = strings.map { Self.overlap(held, $0) }.max() ?? 0
        defer { held.removeFirst(held.count - keep) }
        return String(decoding: held.dropLast(keep), as: UTF8.self)
    }

    /// Ends the text; returns what was held back for a stop string that never came.
    public mutating func finish() -> String {
        defer { held = [] }
        return String(decoding: held, as: UTF8.self)
    }

    private static func find(_ stop: [UInt8], in text: [UInt8]) -> Int? {
        guard text.count >= stop.count else { return nil }
        return (0...text.count - stop.count).first { text[$0...].starts(with: stop) }
    }

    /// Length of the longest start of `stop`, short of all of it, that `text` ends with.
    private static func overlap(_ text: [UInt8], _ stop: [UInt8]) -> Int {
        var length = min(text.count, stop.count - 1)
        while length > 0, !text.suffix(length).elementsEqual(stop.prefix(length)) { length -= 1 }
        return length
    }
}
