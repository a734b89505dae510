import XCTest

@testable import EdgeModel

final class BundleTests: XCTestCase {
    private static func block(_ changes: [String: Any]) -> [String: Any] {
        let mixer = ["kv_heads": 1, "head_size": 4, "rotary": NSNull()] as [String: Any]
        return ["number": 0, "mixer": mixer.merging(changes) { _, new in new }, "feed_forward": NSNull()]
    }

    private static let manifest: [String: Any] = [
        "schema_version": 2, "name": "tiny", "licence": NSNull(), "created_by": "edgesdk", "source": [String: Any](),
        "decoder": [
            "vocab_size": 700, "architecture": "llama",
            "blocks": [block(["window": NSNull(), "reads": NSNull()]), block(["window": 6])],
        ] as [String: Any],
        "tokenizer": ["bos_id": 1, "eos_ids": [2], "add_bos": true, "bos_token": "<s>", "eos_token": NSNull()] as [String: Any],
        "generation": ["temperature": 0.5, "top_k": NSNull(), "top_p": 0.9, "repetition_penalty": NSNull()] as [String: Any],
        "variants": [
            [
                "name": "coreml-w8", "format": "coreml", "recipe": "w8", "entry": "variants/coreml-w8/model.mlpackage/Manifest.json",
                "context": 64,
                "steps": [
                    ["tokens": 1, "cells": 64, "rows": 1, "signature": "step_1_64", "stack": "main"] as [String: Any],
                    ["tokens": 1, "cells": 64, "rows": 1, "signature": "draft_1_64", "stack": "draft"] as [String: Any],
                ],
                "device_classes": ["npu"], "parity": NSNull(),
            ] as [String: Any]
        ],
        "files": ["tokenizer.json": ["sha256": String(repeating: "0", count: 64), "size_bytes": 0] as [String: Any]],
    ]

    private func write(_ change: (inout [String: Any]) -> Void = { _ in }) throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        addTeardownBlock { try? FileManager.default.removeItem(at: folder) }
        let tokenizer = try Vectors.data("tokenizer_digits.json")
        try tokenizer.write(to: folder.appendingPathComponent("tokenizer.json"))
        var object = Self.manifest
        Self.set(&object, ["files", "tokenizer.json", "size_bytes"], tokenizer.count)
        change(&object)
        try JSONSerialization.data(withJSONObject: object).write(to: folder.appendingPathComponent("manifest.json"))
        return folder
    }

    private static func set(_ object: inout [String: Any], _ path: [String], _ value: Any) {
        guard path.count > 1 else { return object[path[0]] = value }
        var inner = object[path[0]] as? [String: Any] ?? [:]
        set(&inner, Array(path.dropFirst()), value)
        object[path[0]] = inner
    }

    func testABundleIsRead() throws {
        let bundle = try EdgeBundle(folder: write())
        let variant = try bundle.coreMLVariant()
        XCTAssertEqual(variant.mainSteps.map(\.signature), ["step_1_64"])
        XCTAssertEqual(
            ModelShape(bundle.decoder(of: variant)),
            ModelShape(layers: 2, kvHeads: 1, headSize: 4, vocabSize: 700, window: 6))
        XCTAssertEqual(SamplingOptions(bundle.manifest.generation), SamplingOptions(temperature: 0.5, topP: 0.9))
        XCTAssertEqual(try bundle.tokenCoder().encode("Hello").isEmpty, false)
        XCTAssertNil(try bundle.chatFormat())
    }

    func testWhatCannotBeIsRefused() throws {
        let changes: [(String, (inout [String: Any]) -> Void)] = [
            ("schema 3, this app reads 2; update the app", { $0["schema_version"] = 3 }),
            ("schema 1, this app reads 2; convert", { $0["schema_version"] = 1 }),
            ("no schema_version", { $0["schema_version"] = nil }),
            ("unknown key extra", { $0["extra"] = 1 }),
            ("decoder has the unknown key odd", { Self.set(&$0, ["decoder", "odd"], 1) }),
            ("gives vectors only", { Self.set(&$0, ["decoder", "is_causal"], false) }),
            ("mixer.kv_heads is missing", { Self.set(&$0, ["decoder", "blocks"], [["mixer": ["head_size": 1]]]) }),
            ("blocks.mixer has the unknown key odd", { Self.set(&$0, ["decoder", "blocks"], [Self.block(["odd": 1])]) }),
            ("several sizes or layers that share", { Self.set(&$0, ["decoder", "blocks"], [Self.block([:]), Self.block(["head_size": 8])]) }),
            ("several sizes or layers that share", { Self.set(&$0, ["decoder", "blocks"], [Self.block([:]), Self.block(["reads": 0])]) }),
            ("tokenizer.eos_ids is not of type", { Self.set(&$0, ["tokenizer", "eos_ids"], "x") }),
            ("token 700, outside", { Self.set(&$0, ["tokenizer", "eos_ids"], [700]) }),
            ("cannot be", { Self.set(&$0, ["decoder", "blocks"], [] as [Any]) }),
            ("windows of several sizes", { Self.set(&$0, ["decoder", "blocks"], [Self.block(["window": 4]), Self.block(["window": 5])]) }),
            ("impossible size", { Self.change(&$0) { $0["steps"] = [["tokens": 1, "cells": 0, "rows": 1, "signature": "s"] as [String: Any]] } }),
            ("variants[0] has the unknown key odd", { Self.change(&$0) { $0["odd"] = 1 } }),
        ]
        for (needle, change) in changes {
            let folder = try write(change)
            XCTAssertRefused(needle) { _ = try EdgeBundle(folder: folder) }
        }
        XCTAssertRefused("no manifest.json") { _ = try EdgeBundle(folder: URL(fileURLWithPath: "/nowhere")) }
        XCTAssertRefused("not a JSON object") { _ = try Manifest.parse(Data("[]".utf8)) }
    }

    func testVariantsThatNeedMoreAreRefused() throws {
        let changes: [(String, (inout [String: Any]) -> Void)] = [
            ("no Core ML variant", { Self.change(&$0) { $0["format"] = "litert" } }),
            ("expected one package", { Self.change(&$0) { $0["entry"] = "variants/coreml-w8/packages.json" } }),
            ("int8 cells", { Self.change(&$0) { $0["cell_type"] = "int8" } }),
            ("head for some tokens", { Self.set(&$0, ["decoder", "head_rows"], 5) }),
        ]
        for (needle, change) in changes {
            let bundle = try EdgeBundle(folder: write(change))
            XCTAssertRefused(needle) { _ = try bundle.coreMLVariant() }
        }
    }

    func testFilesStayInsideAndWhole() throws {
        let record: [String: Any] = ["sha256": String(repeating: "0", count: 64), "size_bytes": 5]
        let bundle = try EdgeBundle(
            folder: write { $0["files"] = ["../x": record, "tokenizer.json": record, "absent": record, "a//b": record] })
        XCTAssertRefused("no name within a bundle") { _ = try bundle.file("../x") }
        XCTAssertRefused("no name within a bundle") { _ = try bundle.file("a//b") }
        XCTAssertRefused("the manifest says 5") { _ = try bundle.file("tokenizer.json") }
        XCTAssertRefused("lacks absent") { _ = try bundle.file("absent") }
        XCTAssertRefused("not a file of the bundle") { _ = try bundle.file("unlisted") }
    }

    private static func change(_ object: inout [String: Any], _ body: (inout [String: Any]) -> Void) {
        var variants = object["variants"] as? [[String: Any]] ?? []
        body(&variants[0])
        object["variants"] = variants
    }
}
