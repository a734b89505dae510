// Opens a bundle's folder: parses its manifest and hands out the files that it lists.

import Foundation

#if canImport(CryptoKit)
    import CryptoKit
#endif

/// An opened bundle. Nothing but manifest.json is read until it is asked for.
public struct EdgeBundle: Sendable {
    /// Names that the converters use; tests/ios_notes compares them with edgesdk/bundle/manifest.py.
    enum Name {
        static let manifest = "manifest.json"
        static let tokenizer = "tokenizer.json"
        /// Written by ios_notes/prepare_bundle.py beside the manifest, which does not list it.
        static let chatFormat = "chat_format.json"
        /// Variants whose cells the host owns, and those that keep them as Core ML states.
        static let format = "coreml"
        static let stateFormat = "coreml-state"
        static let entry = "model.mlpackage/Manifest.json"
    }

    public let folder: URL
    public let manifest: Manifest

    /// Opens the bundle in `folder`.
    ///
    /// - Throws: `EdgeModelError.bundle`.
    public init(folder: URL) throws {
        let url = folder.appendingPathComponent(Name.manifest)
        guard let size = try? FileManager.default.attributesOfItem(atPath: url.path)[.size] as? Int else {
            throw EdgeModelError.bundle("\(folder.lastPathComponent) has no manifest.json; copy the whole bundle")
        }
        guard size <= Manifest.limitBytes, let data = try? Data(contentsOf: url) else {
            throw EdgeModelError.bundle("manifest.json cannot be read or is too large (\(size) bytes)")
        }
        self.folder = folder
        manifest = try Manifest.parse(data)
    }

    /// Where a listed file lies; its size is compared with the manifest's.
    ///
    /// - Throws: `EdgeModelError.bundle`: it is not listed, leads out of the bundle, is absent or cut short.
    public func file(_ name: String) throws -> URL {
        guard let record = manifest.files[name] else {
            throw EdgeModelError.bundle("\(name) is not a file of the bundle; see its manifest.json")
        }
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        guard !parts.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." }), !name.contains("\\") else {
            throw EdgeModelError.bundle("\(name) is no name within a bundle")
        }
        let url = parts.reduce(folder) { $0.appendingPathComponent(String($1)) }
        let found = try? FileManager.default.attributesOfItem(atPath: url.path)
        guard let size = found?[.size] as? Int, found?[.type] as? FileAttributeType == .typeRegular else {
            throw EdgeModelError.bundle("the bundle lacks \(name), which it lists; copy it again")
        }
        guard size == record.sizeBytes else {
            throw EdgeModelError.bundle("\(name) has \(size) bytes, the manifest says \(record.sizeBytes); copy it again")
        }
        return url
    }

    /// The Core ML variant of that name; without a name the first, one whose cells the host owns if there is.
    ///
    /// - Throws: `EdgeModelError.bundle`: there is none that this package runs.
    public func coreMLVariant(named name: String? = nil) throws -> Variant {
        let found = [Name.format, Name.stateFormat].flatMap { format in
            manifest.variants.filter { $0.format == format && (name == nil || $0.name == name) }
        }
        guard let variant = found.first else {
            let all = manifest.variants.map(\.name).joined(separator: ", ")
            throw EdgeModelError.bundle("no Core ML variant \(name ?? "") in the bundle; it has: \(all)")
        }
        guard variant.entry.hasSuffix(Name.entry) else {
            throw EdgeModelError.bundle(
                "variant \(variant.name) starts from \(variant.entry), expected one package; convert without --package-limit")
        }
        guard variant.cellType ?? "float32" == "float32" else {
            throw EdgeModelError.bundle("variant \(variant.name) has \(variant.cellType ?? "") cells, expected float32")
        }
        guard decoder(of: variant).headRows == nil else {
            throw EdgeModelError.bundle(
                "variant \(variant.name) has a head for some tokens only, which this package lacks; prune the whole vocabulary")
        }
        return variant
    }

    /// The shape of a variant.
    public func decoder(of variant: Variant) -> DecoderShape { variant.decoder ?? manifest.decoder }

    /// The tokenizer, loaded.
    ///
    /// - Throws: `EdgeModelError.tokenizer` naming a feature that is not there.
    public func tokenCoder() throws -> ByteLevelBPE {
        let url = try file(Name.tokenizer)
        guard let data = try? Data(contentsOf: url) else {
            throw EdgeModelError.bundle("tokenizer.json cannot be read; copy the bundle again")
        }
        return try ByteLevelBPE(tokenizerJSON: data)
    }

    /// How the model wants chats written; nil when prepare_bundle.py left no chat_format.json.
    public func chatFormat() throws -> ChatFormat? {
        guard let data = try? Data(contentsOf: folder.appendingPathComponent(Name.chatFormat)) else { return nil }
        return try ChatFormat(json: data)
    }

    #if canImport(CryptoKit)
        /// Hashes every listed file: seconds for a large model, so once after a download, not at each start.
        ///
        /// - Throws: `EdgeModelError.bundle` naming the first file that differs.
        public func verify() throws {
            for (name, record) in manifest.files.sorted(by: { $0.key < $1.key }) {
                let data: Data
                do {
                    data = try Data(contentsOf: file(name), options: .alwaysMapped)
                } catch let error as CocoaError {
                    throw EdgeModelError.bundle("\(name) cannot be read: \(error.localizedDescription)")
                }
                let digest = SHA256.hash(data: data).map { String(format: "%02x", $0) }.joined()
                guard digest == record.sha256.lowercased() else {
                    throw EdgeModelError.bundle("\(name) is not the file that the manifest describes; copy it again")
                }
            }
        }
    #endif
}
