// Byte-level byte pair encoding (Language Models are Unsupervised Multitask Learners, section 2.2), as
// Hugging Face's tokenizers run it; the vectors in the tests come from there.

import Foundation

/// A byte-level BPE tokenizer read from a tokenizer.json.
public final class ByteLevelBPE: TokenCoder {
    private struct Merge {
        let rank: Int
        let result: Int
    }

    private let file: TokenizerFile
    private let tokenBytes: [[UInt8]]
    private let special: Set<Int>
    /// Token of each single byte; -1 where there is none: such a byte disappears, as it does in tokenizers.
    private let byteTokens: [Int]
    private let merges: [UInt64: Merge]
    /// Whole words by their bytes, where the file says that they need no merges.
    private let words: [[UInt8]: Int]
    /// Added tokens by their first byte, longest first.
    private let added: [UInt8: [(bytes: [UInt8], id: Int)]]

    /// Reads a tokenizer.json.
    ///
    /// - Throws: `EdgeModelError.tokenizer` naming what the file uses and this class lacks.
    public init(tokenizerJSON: Data) throws {
        var file = try TokenizerFile(json: tokenizerJSON)
        let highest = max(file.vocabulary.values.max() ?? 0, file.added.map(\.id).max() ?? 0)
        let lowest = min(file.vocabulary.values.min() ?? 0, file.added.map(\.id).min() ?? 0)
        guard lowest >= 0, highest < 1 << 24 else {
            throw EdgeModelError.tokenizer("tokenizer.json has ids from \(lowest) to \(highest), expected 0 to \(1 << 24)")
        }
        var tokenBytes = [[UInt8]](repeating: [], count: highest + 1)
        for (text, id) in file.vocabulary { tokenBytes[id] = Self.bytes(ofToken: text) }
        for token in file.added { tokenBytes[token.id] = Self.bytes(ofToken: token.content) }
        var byteTokens = [Int](repeating: -1, count: 256)
        for byte in 0..<256 {
            let symbol = String(Character(ByteAlphabet.scalars[byte]))
            if let id = file.vocabulary[symbol] { byteTokens[byte] = id }
        }
        merges = try Self.mergeTable(file)
        words = file.ignoreMerges
            ? Dictionary(file.vocabulary.values.map { (tokenBytes[$0], $0) }, uniquingKeysWith: min) : [:]
        added = Dictionary(grouping: file.added.map { (bytes: Array($0.content.utf8), id: $0.id) }) { $0.bytes[0] }
            .mapValues { $0.sorted { $0.bytes.count > $1.bytes.count } }
        special = Set(file.added.lazy.filter(\.special).map(\.id))
        self.tokenBytes = tokenBytes
        self.byteTokens = byteTokens
        // What the tables say now takes megabytes as strings.
        file.vocabulary = [:]
        file.merges = []
        self.file = file
    }

    public func encode(_ text: String) throws -> [Int] {
        var tokens: [Int] = []
        var plain: [UInt8] = []
        let bytes = Array(text.utf8)
        var index = 0
        while index < bytes.count {
            if let match = added[bytes[index]]?.first(where: { bytes[index...].starts(with: $0.bytes) }) {
                encode(plain: plain, into: &tokens)
                plain.removeAll(keepingCapacity: true)
                tokens.append(match.id)
                index += match.bytes.count
            } else {
                plain.append(bytes[index])
                index += 1
            }
        }
        encode(plain: plain, into: &tokens)
        return tokens
    }

    public func bytes(of token: Int) -> [UInt8] {
        tokenBytes.indices.contains(token) ? tokenBytes[token] : []
    }

    public func isSpecial(_ token: Int) -> Bool { special.contains(token) }

    private func encode(plain: [UInt8], into tokens: inout [Int]) {
        if plain.isEmpty { return }
        var text = String(decoding: plain, as: UTF8.self)
        if file.composes { text = text.precomposedStringWithCanonicalMapping }
        var pieces = [text as NSString]
        for case .pattern(let expression) in file.splitters {
            pieces = pieces.flatMap { Self.split($0, by: expression) }
        }
        for piece in pieces { encode(word: Array((piece as String).utf8), into: &tokens) }
    }

    private static func split(_ text: NSString, by expression: NSRegularExpression) -> [NSString] {
        var pieces: [NSString] = []
        var end = 0
        func add(_ range: NSRange) {
            if range.length > 0 { pieces.append(text.substring(with: range) as NSString) }
        }
        expression.enumerateMatches(in: text as String, range: NSRange(location: 0, length: text.length)) { match, _, _ in
            guard let range = match?.range else { return }
            add(NSRange(location: end, length: range.location - end))
            add(range)
            end = range.location + range.length
        }
        add(NSRange(location: end, length: text.length - end))
        return pieces
    }

    /// Merges the pair of the lowest rank, the leftmost among equals, until none is left.
    private func encode(word: [UInt8], into tokens: inout [Int]) {
        if let token = words[word] {
            tokens.append(token)
            return
        }
        var symbols = word.compactMap { byteTokens[Int($0)] < 0 ? nil : byteTokens[Int($0)] }
        while symbols.count > 1 {
            var best: Merge?
            var place = 0
            for index in 0..<symbols.count - 1 {
                if let merge = merges[Self.key(symbols[index], symbols[index + 1])], merge.rank < best?.rank ?? .max {
                    best = merge
                    place = index
                }
            }
            guard let merge = best else { break }
            symbols[place] = merge.result
            symbols.remove(at: place + 1)
        }
        tokens += symbols
    }

    private static func key(_ left: Int, _ right: Int) -> UInt64 { UInt64(left) << 32 | UInt64(right) }

    private static func mergeTable(_ file: TokenizerFile) throws -> [UInt64: Merge] {
        var table: [UInt64: Merge] = [:]
        table.reserveCapacity(file.merges.count)
        for (rank, (left, right)) in file.merges.enumerated() {
            guard let a = file.vocabulary[left], let b = file.vocabulary[right], let both = file.vocabulary[left + right]
            else { throw EdgeModelError.tokenizer("tokenizer.json merges \(left) and \(right), which are not in its vocabulary") }
            table[key(a, b)] = table[key(a, b)] ?? Merge(rank: rank, result: both)
        }
        return table
    }

    /// The bytes that a token's text stands for; text beyond the alphabet stands for itself.
    private static func bytes(ofToken text: String) -> [UInt8] {
        var bytes: [UInt8] = []
        for scalar in text.unicodeScalars {
            guard let byte = ByteAlphabet.bytes[scalar] else { return Array(text.utf8) }
            bytes.append(byte)
        }
        return bytes
    }
}

/// GPT-2's printable stand-ins for the 256 bytes: visible Latin-1 characters for themselves, the other bytes
/// counted up from U+0100.
enum ByteAlphabet {
    static let scalars: [Unicode.Scalar] = {
        let visible = Set(33...126).union(161...172).union(174...255)
        var next = 256
        return (0..<256).map { byte in
            if visible.contains(byte) { return Unicode.Scalar(UInt8(byte)) }
            defer { next += 1 }
            return Unicode.Scalar(UInt16(next))!  // 256 to 323: no surrogates there
        }
    }()

    static let bytes: [Unicode.Scalar: UInt8] = Dictionary(
        uniqueKeysWithValues: scalars.enumerated().map { ($1, UInt8($0)) })
}
