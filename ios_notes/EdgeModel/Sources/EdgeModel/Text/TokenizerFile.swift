// Reads the features of a tokenizer.json that byte-level BPE needs, and refuses all others by name.
//
// Covered: model BPE (merges as pairs or as lines, ignore_merges); no normaliser or NFC; pre-tokenisers
// ByteLevel, Digits, Split with a regular expression, and sequences of them; decoder ByteLevel; added
// tokens that match anywhere. That is GPT-2, SmolLM, Llama 3, Qwen and their kin. The post-processor is not
// run: edgesdk never lets it add tokens.

import Foundation

/// What a tokenizer.json says.
struct TokenizerFile {
    enum Splitter {
        /// Matches and what lies between them are pieces.
        case pattern(NSRegularExpression)
    }

    struct AddedToken {
        let id: Int
        let content: String
        let special: Bool
    }

    var vocabulary: [String: Int] = [:]
    var merges: [(String, String)] = []
    var ignoreMerges = false
    var composes = false
    var splitters: [Splitter] = []
    var added: [AddedToken] = []

    /// A vocabulary of a quarter of a million tokens takes about 35 MB.
    static let limitBytes = 256 << 20

    /// What the ByteLevel pre-tokeniser splits by (Hugging Face tokenizers, `pre_tokenizers/byte_level.rs`).
    private static let byteLevelPattern =
        #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

    init(json: Data) throws {
        guard json.count <= Self.limitBytes,
            let file = (try? JSONSerialization.jsonObject(with: json)) as? [String: Any],
            let model = file["model"] as? [String: Any]
        else {
            throw EdgeModelError.tokenizer("tokenizer.json is not a tokenizer; convert the bundle again")
        }
        try read(model: model)
        try read(added: file["added_tokens"])
        try read(normalizer: file["normalizer"])
        try read(preTokenizer: file["pre_tokenizer"])
        try read(decoder: file["decoder"])
    }

    private mutating func read(model: [String: Any]) throws {
        let type = model["type"] as? String ?? "BPE"
        guard type == "BPE" else { throw refusal("a model of type \(type)") }
        for key in ["byte_fallback", "fuse_unk"] where model[key] as? Bool == true { throw refusal(key) }
        for key in ["continuing_subword_prefix", "end_of_word_suffix", "unk_token"] {
            if let text = model[key] as? String, !text.isEmpty { throw refusal(key) }
        }
        if let dropout = model["dropout"] as? Double, dropout != 0 { throw refusal("dropout") }
        guard let vocabulary = model["vocab"] as? [String: Int] else {
            throw EdgeModelError.tokenizer("tokenizer.json has no vocabulary; convert the bundle again")
        }
        self.vocabulary = vocabulary
        ignoreMerges = model["ignore_merges"] as? Bool ?? false
        if let pairs = model["merges"] as? [[String]], pairs.allSatisfy({ $0.count == 2 }) {
            merges = pairs.map { ($0[0], $0[1]) }
        } else if let lines = model["merges"] as? [String] {
            merges = try lines.map { line in
                let parts = line.split(separator: " ", omittingEmptySubsequences: false)
                guard parts.count == 2 else { throw refusal("merges that are no pairs") }
                return (String(parts[0]), String(parts[1]))
            }
        } else {
            throw refusal("merges that are no pairs")
        }
    }

    private mutating func read(added value: Any?) throws {
        for entry in value as? [[String: Any]] ?? [] {
            guard let id = entry["id"] as? Int, let content = entry["content"] as? String, !content.isEmpty else {
                throw EdgeModelError.tokenizer("tokenizer.json has an added token without id or text")
            }
            for key in ["single_word", "lstrip", "rstrip"] where entry[key] as? Bool == true {
                throw refusal("\(key) of the added token \(content)")
            }
            added.append(AddedToken(id: id, content: content, special: entry["special"] as? Bool ?? false))
        }
    }

    private mutating func read(normalizer value: Any?) throws {
        guard let normalizer = value as? [String: Any] else { return }
        let type = normalizer["type"] as? String ?? "without a type"
        guard type == "NFC" else { throw refusal("the normaliser \(type)") }
        composes = true
    }

    private mutating func read(preTokenizer value: Any?) throws {
        guard let step = value as? [String: Any] else { throw refusal("no pre-tokeniser") }
        if step["type"] as? String == "Sequence" {
            let steps = step["pretokenizers"] as? [[String: Any]] ?? []
            for (index, inner) in steps.enumerated() { try read(splitter: inner, isLast: index == steps.count - 1) }
        } else {
            try read(splitter: step, isLast: true)
        }
    }

    private mutating func read(splitter step: [String: Any], isLast: Bool) throws {
        let type = step["type"] as? String ?? "without a type"
        guard (type == "ByteLevel") == isLast else { throw refusal("a pre-tokeniser that does not end with ByteLevel") }
        switch type {
        case "ByteLevel":
            if step["add_prefix_space"] as? Bool ?? true { throw refusal("add_prefix_space") }
            if step["use_regex"] as? Bool ?? true { splitters.append(try Self.pattern(Self.byteLevelPattern)) }
        case "Digits":
            splitters.append(try Self.pattern(step["individual_digits"] as? Bool == true ? #"\p{N}"# : #"\p{N}+"#))
        case "Split":
            guard let pattern = (step["pattern"] as? [String: Any])?["Regex"] as? String,
                step["behavior"] as? String == "Isolated", step["invert"] as? Bool ?? false == false
            else { throw refusal("a Split that is not by an isolated regular expression") }
            splitters.append(try Self.pattern(pattern))
        default:
            throw refusal("the pre-tokeniser \(type)")
        }
    }

    private func read(decoder value: Any?) throws {
        let type = (value as? [String: Any])?["type"] as? String ?? "none"
        guard type == "ByteLevel" else { throw refusal("the decoder \(type)") }
    }

    /// Compiles a pattern of tokenizer.json, which is written for another engine: there, `\s` is Unicode's
    /// White_Space, in ICU it lacks U+000B and U+0085.
    static func pattern(_ source: String) throws -> Splitter {
        var translated = ""
        var escaped = false
        for scalar in source.unicodeScalars {
            if escaped {
                escaped = false
                switch scalar {
                case "s": translated += #"\p{White_Space}"#
                case "S": translated += #"\P{White_Space}"#
                default:
                    translated += "\\"
                    translated.unicodeScalars.append(scalar)
                }
            } else if scalar == "\\" {
                escaped = true
            } else {
                translated.unicodeScalars.append(scalar)
            }
        }
        guard let expression = try? NSRegularExpression(pattern: translated) else {
            throw EdgeModelError.tokenizer("tokenizer.json splits by a pattern that cannot be compiled here: \(source)")
        }
        return .pattern(expression)
    }

    private func refusal(_ feature: String) -> EdgeModelError {
        .tokenizer("tokenizer.json uses \(feature), which this package lacks; give it another TokenCoder")
    }
}
