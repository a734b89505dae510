// The part of a bundle's manifest.json that an app on Core ML reads.
//
// It follows edgesdk/bundle/manifest.py. A key that neither that file nor this one knows is refused: a
// newer manifest may say something that changes what the numbers mean. `unread` lists the keys that are
// known to matter to other readers only. tests/ios_notes compares both lists with the Python side.

import Foundation

/// Everything that a bundle says about itself and that a step on Core ML depends on.
public struct Manifest: Decodable, Sendable {
    /// The one schema that this package reads.
    public static let supportedSchema = 2

    public let schemaVersion: Int
    public let name: String
    public let licence: String?
    public let decoder: DecoderShape
    public let tokenizer: TokenizerRecord
    public let generation: GenerationDefaults
    public let variants: [Variant]
    public let files: [String: FileRecord]

    enum CodingKeys: String, CodingKey, CaseIterable {
        case schemaVersion = "schema_version"
        case name, licence, decoder, tokenizer, generation, variants, files
    }

    static let unread = ["created_by", "source", "vocabulary", "embedding", "adapters"]
}

/// Digest (hex) and size of one file.
public struct FileRecord: Decodable, Sendable {
    public let sha256: String
    public let sizeBytes: Int

    enum CodingKeys: String, CodingKey, CaseIterable {
        case sha256
        case sizeBytes = "size_bytes"
    }
}

/// The shape of the decoder, as far as the host of a step needs it.
public struct DecoderShape: Decodable, Sendable {
    /// V.
    public let vocabSize: Int
    /// In the order in which they run.
    public let blocks: [BlockShape]
    /// Rows of a head that writes some tokens only, which this package does not run; nil for one that writes all.
    public let headRows: Int?
    /// False for one that gives vectors only, which this package does not run; nil in older bundles, where it is true.
    public let isCausal: Bool?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case vocabSize = "vocab_size"
        case headRows = "head_rows"
        case isCausal = "is_causal"
        case blocks
    }

    static let unread = [
        "architecture", "hidden_size", "context", "norm_eps", "embedding_scale", "residual_scale", "logits_scale",
        "pre_norms", "post_norms", "logits_softcap", "tied_head", "layer_inputs", "projection",
    ]

    /// The attention of every layer with cells; L in all.
    public var layers: [AttentionShape] { blocks.compactMap(\.mixer) }

    /// K, which all layers share.
    public var kvHeads: Int { layers.first?.kvHeads ?? 0 }

    /// D, which all layers share.
    public var headSize: Int { layers.first?.headSize ?? 0 }

    /// The window of the layers that have one; nil for models without.
    public var window: Int? { layers.lazy.compactMap(\.window).first }
}

/// One block of a decoder.
public struct BlockShape: Decodable, Sendable {
    /// Nil where it was left out.
    public let mixer: AttentionShape?

    enum CodingKeys: String, CodingKey, CaseIterable { case mixer }

    static let unread = ["number", "feed_forward", "layer_input", "scaled"]
}

/// The attention of one block.
public struct AttentionShape: Decodable, Sendable {
    /// K.
    public let kvHeads: Int
    /// D.
    public let headSize: Int
    /// A token sees itself and the `window - 1` tokens before it; nil sees everything.
    public let window: Int?
    /// The block whose cells it reads, which this package does not run; nil for its own.
    public let reads: Int?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case kvHeads = "kv_heads"
        case headSize = "head_size"
        case window, reads
    }

    static let unread = [
        "heads", "scale", "rotary", "softcap", "qkv_bias", "out_bias", "qk_norm", "qk_norm_place", "query_growth",
        "v_norm",
    ]
}

/// Token ids by role.
public struct TokenizerRecord: Decodable, Sendable {
    /// Put before a plain prompt when `addBOS`.
    public let bosID: Int?
    /// Any of these ends an answer.
    public let eosIDs: [Int]
    public let addBOS: Bool

    enum CodingKeys: String, CodingKey, CaseIterable {
        case bosID = "bos_id"
        case eosIDs = "eos_ids"
        case addBOS = "add_bos"
    }

    static let unread = ["bos_token", "eos_token"]
}

/// What the checkpoint recommends; nil where it says nothing.
public struct GenerationDefaults: Decodable, Sendable {
    public let temperature: Float?
    public let topK: Int?
    public let topP: Float?
    public let minP: Float?
    public let repetitionPenalty: Float?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case temperature
        case topK = "top_k"
        case topP = "top_p"
        case minP = "min_p"
        case repetitionPenalty = "repetition_penalty"
    }

    // The sampler has no typical sampling; a checkpoint that recommends it is sampled without.
    static let unread = ["typical_p"]
}

/// One static size of the step: a function of the package.
public struct StepShape: Decodable, Sendable, Hashable {
    /// T.
    public let tokens: Int
    /// S.
    public let cells: Int
    /// R.
    public let rows: Int
    /// Name of the function.
    public let signature: String
    /// Which entry into the weights it runs; nil for `main`, the model itself.
    public let stack: String?

    enum CodingKeys: String, CodingKey, CaseIterable { case tokens, cells, rows, signature, stack }

    public init(tokens: Int, cells: Int, rows: Int, signature: String, stack: String? = nil) {
        self.tokens = tokens
        self.cells = cells
        self.rows = rows
        self.signature = signature
        self.stack = stack
    }
}

/// One executable form of the model.
public struct Variant: Decodable, Sendable {
    public let name: String
    public let format: String
    public let recipe: String
    public let entry: String
    public let steps: [StepShape]
    /// Longest sequence, in tokens.
    public let context: Int
    /// Its shape where it is not the manifest's.
    public let decoder: DecoderShape?
    /// How keys and values are cached; absent in older bundles, where it is float32.
    public let cellType: String?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case name, format, recipe, entry, steps, context, decoder
        case cellType = "cell_type"
    }

    static let unread = [
        "device_classes", "parity", "parity_skipped", "transforms", "weights", "calibration", "budget", "probe",
        "compatibility", "accuracy", "numbers", "stacks", "vector_parity",
    ]

    /// Sizes of the model itself: an app runs no other stack.
    public var mainSteps: [StepShape] { steps.filter { ($0.stack ?? "main") == "main" } }
}

extension Manifest {
    /// Far above any real manifest (tens of kilobytes), far below what hurts to parse.
    static let limitBytes = 16 << 20

    /// Parses and checks a manifest.
    ///
    /// - Throws: `EdgeModelError.bundle` naming the key.
    public static func parse(_ data: Data) throws -> Manifest {
        guard data.count <= limitBytes else {
            throw EdgeModelError.bundle("manifest.json is larger than \(limitBytes >> 20) MiB; it is not a manifest")
        }
        guard let object = (try? JSONSerialization.jsonObject(with: data)) as? [String: Any] else {
            throw EdgeModelError.bundle("manifest.json is not a JSON object; copy or convert the bundle again")
        }
        guard let version = object["schema_version"] as? Int else {
            throw EdgeModelError.bundle("manifest.json has no schema_version; it is not an edgesdk manifest")
        }
        guard version == supportedSchema else {
            throw EdgeModelError.bundle(
                "the bundle has manifest schema \(version), this app reads \(supportedSchema); "
                    + (version > supportedSchema ? "update the app" : "convert the bundle again"))
        }
        try refuseUnknownKeys(object)
        if let adapters = object["adapters"] as? [Any], !adapters.isEmpty {
            throw EdgeModelError.bundle(
                "the bundle has adapters, whose gates this package does not give to a step; convert it without them, "
                    + "or with --merge-adapter, which makes one part of the weights")
        }
        let manifest: Manifest
        do {
            manifest = try JSONDecoder().decode(Manifest.self, from: data)
        } catch let error as DecodingError {
            throw EdgeModelError.bundle("manifest.json: \(describe(error)); convert the bundle again")
        }
        try manifest.check()
        return manifest
    }

    private static func refuseUnknownKeys(_ object: [String: Any]) throws {
        try check(object, CodingKeys.self, unread, "manifest")
        try check(object["tokenizer"], TokenizerRecord.CodingKeys.self, TokenizerRecord.unread, "tokenizer")
        try check(object["generation"], GenerationDefaults.CodingKeys.self, GenerationDefaults.unread, "generation")
        try check(decoder: object["decoder"], "decoder")
        for (index, variant) in (object["variants"] as? [[String: Any]] ?? []).enumerated() {
            let path = "variants[\(index)]"
            try check(variant, Variant.CodingKeys.self, Variant.unread, path)
            try check(decoder: variant["decoder"], "\(path).decoder")
            for step in variant["steps"] as? [[String: Any]] ?? [] {
                try check(step, StepShape.CodingKeys.self, [], "\(path).steps")
            }
        }
    }

    private static func check(decoder value: Any?, _ path: String) throws {
        guard let decoder = value as? [String: Any] else { return }
        try check(decoder, DecoderShape.CodingKeys.self, DecoderShape.unread, path)
        for block in decoder["blocks"] as? [[String: Any]] ?? [] {
            try check(block, BlockShape.CodingKeys.self, BlockShape.unread, "\(path).blocks")
            try check(block["mixer"], AttentionShape.CodingKeys.self, AttentionShape.unread, "\(path).blocks.mixer")
        }
    }

    private static func check<Key: CodingKey & CaseIterable & RawRepresentable>(
        _ value: Any?, _ keys: Key.Type, _ unread: [String], _ path: String
    ) throws where Key.RawValue == String {
        guard let object = value as? [String: Any] else { return }  // a wrong type is the decoder's to report
        let known = Set(Key.allCases.map(\.rawValue)).union(unread)
        if let odd = object.keys.sorted().first(where: { !known.contains($0) }) {
            throw EdgeModelError.bundle("\(path) has the unknown key \(odd); update the app, or convert with its edgesdk")
        }
    }

    /// Refuses what is well-formed but cannot be true.
    private func check() throws {
        let shapes = [decoder] + variants.compactMap(\.decoder)
        for shape in shapes {
            guard shape.isCausal ?? true else {
                throw EdgeModelError.bundle(
                    "the model gives vectors only, which this package does not run; convert another model")
            }
            guard (1...1 << 24).contains(shape.vocabSize), (1...4096).contains(shape.kvHeads),
                (1...4096).contains(shape.headSize), (1...4096).contains(shape.layers.count),
                shape.layers.allSatisfy({ ($0.window ?? 1) >= 1 })
            else {
                throw EdgeModelError.bundle("the manifest describes a decoder that cannot be; convert the bundle again")
            }
            guard shape.layers.allSatisfy({
                $0.reads == nil && $0.kvHeads == shape.kvHeads && $0.headSize == shape.headSize
            }) else {
                throw EdgeModelError.bundle(
                    "the decoder has heads of several sizes or layers that share cells, which this package does not run")
            }
            guard Set(shape.layers.compactMap(\.window)).count <= 1 else {
                throw EdgeModelError.bundle("the decoder has windows of several sizes; the step has one window_mask")
            }
        }
        for token in tokenizer.eosIDs + [tokenizer.bosID].compactMap({ $0 })
        where !(0..<decoder.vocabSize).contains(token) {
            throw EdgeModelError.bundle("the manifest names token \(token), outside the vocabulary")
        }
        for variant in variants {
            for step in variant.steps where !step.isPossible {
                throw EdgeModelError.bundle("variant \(variant.name) has an impossible size \(step.signature)")
            }
        }
    }
}

extension StepShape {
    /// Bounds that keep what is computed from them far from overflow.
    var isPossible: Bool {
        (1...1 << 16).contains(tokens) && (1...1 << 24).contains(cells) && (1...tokens).contains(rows)
    }
}

private func describe(_ error: DecodingError) -> String {
    func path(_ context: DecodingError.Context, _ last: CodingKey? = nil) -> String {
        (context.codingPath + [last].compactMap { $0 }).map(\.stringValue).joined(separator: ".")
    }
    switch error {
    case .keyNotFound(let key, let context): return "\(path(context, key)) is missing"
    case .typeMismatch(let type, let context): return "\(path(context)) is not of type \(type)"
    case .valueNotFound(let type, let context): return "\(path(context)) is null, expected \(type)"
    case .dataCorrupted(let context): return "\(path(context)) is not valid"
    @unknown default: return "\(error)"
    }
}
