import Foundation
import XCTest

@testable import EdgeModel

/// Files that `python ios_notes/make_test_vectors.py` makes.
enum Vectors {
    static var folder: URL { Bundle.module.resourceURL!.appendingPathComponent("Vectors") }

    static func data(_ name: String) throws -> Data { try Data(contentsOf: folder.appendingPathComponent(name)) }

    static func load<T: Decodable>(_ type: T.Type, _ name: String) throws -> T {
        try JSONDecoder().decode(type, from: data(name))
    }
}

struct TextVectors: Decodable {
    struct Tokenizer: Decodable {
        let file: String
        let cases: [Case]
    }
    struct Case: Decodable {
        let text: String
        let ids: [Int]
        let decoded: String
        let plain: String
    }
    struct Stop: Decodable {
        let strings: [String]
        let pieces: [String]
        let given: [String]
        let found: String?
    }
    let tokenizers: [Tokenizer]
    let stops: [Stop]
}

struct SamplingVectors: Decodable {
    struct Case: Decodable {
        let temperature: Float
        let top_k: Int?
        let top_p: Float
        let min_p: Float
        let kept: [Int]
        let units: [Double]
        let drawn: [Int]
    }
    struct Random: Decodable {
        let seed: UInt64
        let numbers: [String]
    }
    let logits: [Float]
    let cases: [Case]
    let splitmix64: Random
}

struct StepVectors: Decodable {
    struct Pick: Decodable {
        let tokens: Int
        let used: Int
        let held: Int
        let signature: String
    }
    struct Piece: Decodable {
        let wanted: Int
        let used: Int
        let piece: Int
    }
    struct Step: Decodable, Equatable {
        let signature: String
        let tokens: [Int]
        let positions: [Int]
        let mask: [[Int]]
        let window_mask: [[Int]]
    }
    struct Operation: Decodable {
        let verb: String
        let sequence: String
        let count: Int
        let tokens: [Int]?
        let steps: [Step]
    }
    let sizes: [StepShape]
    let context: Int
    let window: Int
    let picks: [Pick]
    let pieces: [Piece]
    let operations: [Operation]
}

struct ModelVectors: Decodable {
    struct Tiny: Decodable {
        let name: String
        let cases: [Case]
    }
    struct Case: Decodable {
        let prompt: String
        let ids: [Int]
        let largest: Float
        let top: [[Float]]
        let greedy: [Int]
        let margins: [Float]
    }
    let tolerance: Float
    let bundles: [Tiny]
}

extension ModelVectors.Case {
    /// Compares a model with what is expected: ids, logits within `limit`, tokens where they are no near-tie.
    func check(_ model: EdgeModel, limit: Float, _ what: String) async throws {
        XCTAssertEqual(try model.coder.encode(prompt), ids, what)
        let sequence = try await model.newSequence()
        var logits = try await sequence.extend(ids)
        for entry in top {
            XCTAssertEqual(logits[Int(entry[0])], entry[1], accuracy: limit, "\(what): logit of token \(entry[0])")
        }
        // Along the expected text, so that one near-tie does not hide what follows it.
        for (token, margin) in zip(greedy, margins) {
            let best = logits.indices.max { logits[$0] < logits[$1] }
            if margin > 2 * limit { XCTAssertEqual(best, token, what) }
            logits = try await sequence.extend([token])
        }
        // What is taken back leaves nothing behind.
        await sequence.truncate(to: ids.count - 1)
        let again = try await sequence.extend([ids[ids.count - 1]])
        for entry in top {
            XCTAssertEqual(again[Int(entry[0])], entry[1], accuracy: limit, "\(what): after truncation")
        }
    }
}

/// Compares bytes: Swift takes different spellings of a character for equal.
func XCTAssertSameText(_ a: String, _ b: String, file: StaticString = #filePath, line: UInt = #line) {
    XCTAssertEqual(Array(a.utf8), Array(b.utf8), "\(a.debugDescription) is not \(b.debugDescription)", file: file, line: line)
}

func XCTAssertRefused(
    _ needle: String, file: StaticString = #filePath, line: UInt = #line, _ body: () throws -> Void
) {
    XCTAssertThrowsError(try body(), file: file, line: line) { error in
        XCTAssertTrue("\(error)".contains(needle), "\(error)", file: file, line: line)
    }
}
