import XCTest

@testable import EdgeModel

final class TextTests: XCTestCase {
    func testTokenizersGiveTheIDsOfHuggingFace() throws {
        for vectors in try Vectors.load(TextVectors.self, "text.json").tokenizers {
            let coder = try ByteLevelBPE(tokenizerJSON: Vectors.data(vectors.file))
            for example in vectors.cases {
                XCTAssertEqual(try coder.encode(example.text), example.ids, "\(vectors.file): \(example.text.debugDescription)")
                XCTAssertSameText(coder.decode(example.ids, skipSpecial: false), example.decoded)
                XCTAssertSameText(coder.decode(example.ids), example.plain)
            }
        }
    }

    func testStreamedTextIsTheWholeText() throws {
        for vectors in try Vectors.load(TextVectors.self, "text.json").tokenizers {
            let coder = try ByteLevelBPE(tokenizerJSON: Vectors.data(vectors.file))
            for example in vectors.cases {
                var stream = Detokenizer(coder)
                let pieces = example.ids.map { stream.push($0) } + [stream.finish()]
                XCTAssertSameText(pieces.joined(), example.plain)
                // No piece has half a character: none of these texts holds a replacement character.
                if !example.plain.contains("\u{FFFD}") { XCTAssertFalse(pieces.contains { $0.contains("\u{FFFD}") }) }
            }
        }
    }

    func testBytesThatAreNoCharacterComeOut() throws {
        struct Bytes: TokenCoder {
            func encode(_ text: String) -> [Int] { text.utf8.map(Int.init) }
            func bytes(of token: Int) -> [UInt8] { [UInt8(token)] }
            func isSpecial(_ token: Int) -> Bool { token == 7 }
        }
        func pieces(_ bytes: [Int]) -> [String] {
            var stream = Detokenizer(Bytes())
            return bytes.map { stream.push($0) } + [stream.finish()]
        }
        XCTAssertEqual(pieces([0x61, 7, 0xC3, 0xA9]), ["a", "", "", "é", ""])
        XCTAssertEqual(pieces([0xF0, 0x9F, 0x99, 0x82]), ["", "", "", "🙂", ""])
        XCTAssertEqual(pieces([0xFF, 0x61]), ["\u{FFFD}", "a", ""])
        XCTAssertEqual(pieces([0xE2, 0x61]), ["", "\u{FFFD}a", ""])
        XCTAssertEqual(pieces([0xED, 0xA0, 0x61]), ["", "\u{FFFD}\u{FFFD}", "a", ""])
        XCTAssertEqual(pieces([0xC3]), ["", "\u{FFFD}"])
        // However bytes are cut, the text is that of the whole.
        var random = SplitMix64(seed: 3)
        for _ in 0..<300 {
            let bytes = (0..<12).map { _ in [0x61, 0x80, 0xBF, 0xC2, 0xE0, 0xED, 0xF0, 0xF4, 0x9F, 0xFF][Int(random.next() % 10)] }
            XCTAssertEqual(pieces(bytes).joined(), String(decoding: bytes.map(UInt8.init), as: UTF8.self), "\(bytes)")
        }
    }

    func testStopStrings() throws {
        for example in try Vectors.load(TextVectors.self, "text.json").stops {
            var stops = try StopStrings(example.strings)
            let given = example.pieces.map { stops.push($0) } + [stops.finish()]
            XCTAssertEqual(given.map { Array($0.utf8) }, example.given.map { Array($0.utf8) }, "\(example.pieces)")
            XCTAssertEqual(stops.found, example.found)
        }
        XCTAssertRefused("empty") { _ = try StopStrings(["a", ""]) }
    }

    func testChatsAreWhatTheTemplatesWrite() throws {
        struct Format: Decodable {
            struct Case: Decodable {
                let messages: [ChatMessage]
                let prompt: String
            }
            let name: String
            let cases: [Case]
        }
        let formats = try Vectors.load([Format].self, "chat.json")
        let raw = try XCTUnwrap(try JSONSerialization.jsonObject(with: Vectors.data("chat.json")) as? [[String: Any]])
        XCTAssertEqual(formats.count, 3)
        for (format, object) in zip(formats, raw) {
            let chat = try ChatFormat(json: JSONSerialization.data(withJSONObject: XCTUnwrap(object["format"])))
            for example in format.cases { XCTAssertSameText(try chat.prompt(example.messages), example.prompt) }
            XCTAssertRefused("no text between") {
                _ = try chat.prompt([ChatMessage(role: "user", content: "a"), ChatMessage(role: "tool", content: "b")])
            }
            XCTAssertRefused("no text between the start and an answer") { _ = try chat.prompt([]) }
        }
        XCTAssertRefused("damaged") { _ = try ChatFormat(json: Data("{}".utf8)) }
    }

    func testTokenizersWithOtherFeaturesAreRefusedByName() throws {
        let changes: [(String, (inout [String: Any]) -> Void)] = [
            ("a model of type Unigram", { $0["model"] = ["type": "Unigram", "vocab": []] }),
            ("byte_fallback", { Self.set(&$0, "model", "byte_fallback", true) }),
            ("unk_token", { Self.set(&$0, "model", "unk_token", "<unk>") }),
            ("the normaliser Prepend", { $0["normalizer"] = ["type": "Prepend", "prepend": "_"] }),
            ("the decoder Metaspace", { $0["decoder"] = ["type": "Metaspace"] }),
            ("does not end with ByteLevel", { $0["pre_tokenizer"] = ["type": "Whitespace"] }),
            ("add_prefix_space", { $0["pre_tokenizer"] = ["type": "ByteLevel", "add_prefix_space": true] }),
            ("lstrip", { $0["added_tokens"] = [["id": 1, "content": "<a>", "lstrip": true]] }),
            ("not in its vocabulary", { Self.set(&$0, "model", "merges", [["qqq", "zzz"]]) }),
            ("expected 0 to", { Self.set(&$0, "model", "vocab", ["a": -1]) }),
            ("not a tokenizer", { $0["model"] = nil }),
        ]
        for (needle, change) in changes {
            var object = try XCTUnwrap(
                try JSONSerialization.jsonObject(with: Vectors.data("tokenizer_digits.json")) as? [String: Any])
            change(&object)
            let data = try JSONSerialization.data(withJSONObject: object)
            XCTAssertRefused(needle) { _ = try ByteLevelBPE(tokenizerJSON: data) }
        }
        XCTAssertRefused("not a tokenizer") { _ = try ByteLevelBPE(tokenizerJSON: Data("nonsense".utf8)) }
    }

    private static func set(_ object: inout [String: Any], _ part: String, _ key: String, _ value: Any) {
        var inner = object[part] as? [String: Any] ?? [:]
        inner[key] = value
        object[part] = inner
    }
}
