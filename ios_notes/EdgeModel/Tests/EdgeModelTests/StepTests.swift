import XCTest

@testable import EdgeModel

/// Keeps what each step was given; its keys and values say which token they belong to.
final class RecordingModel: StepModel {
    let shape: ModelShape
    let sizes: [StepShape]
    let elementType: ElementType
    var steps: [StepVectors.Step] = []
    /// Tokens and positions that the last token of each step saw, as the cells say, in order of positions.
    var seen: [[Int]] = []
    private var all: [StepShape: StepBuffers] = [:]

    init(_ sizes: [StepShape], window: Int?, vocabSize: Int = 64, type: ElementType = .float16) {
        shape = ModelShape(layers: 2, kvHeads: 2, headSize: 4, vocabSize: vocabSize, window: window)
        self.sizes = sizes
        elementType = type
    }

    func buffers(_ size: StepShape) -> StepBuffers {
        if let found = all[size] { return found }
        let made = StepBuffers(size, shape, elementType)
        all[size] = made
        return made
    }

    func run(_ size: StepShape, _ cells: CellMemory) {
        let given = buffers(size)
        let (T, S) = (size.tokens, size.cells)
        let live = integers(given.rows)[0] + 1
        let visible = (0..<live).map { Self.zeros(given.mask, row: $0, width: S + T) }
        steps.append(
            StepVectors.Step(
                signature: size.signature, tokens: Array(integers(given.tokens).prefix(live)),
                positions: Array(integers(given.positions).prefix(live)), mask: visible,
                window_mask: given.windowMask.map { mask in (0..<live).map { Self.zeros(mask, row: $0, width: S + T) } } ?? []))
        for row in live..<max(live, T) { XCTAssertEqual(Self.zeros(given.mask, row: row, width: S + T), [S + row]) }
        for row in 0..<live {
            for layer in 0..<shape.layers {
                for head in 0..<shape.kvHeads {
                    let start = (head * T + row) * shape.headSize
                    given.newKeys[layer].set(start..<start + 1, to: Float(integers(given.tokens)[row]))
                    given.newValues[layer].set(start..<start + 1, to: Float(integers(given.positions)[row]))
                }
            }
        }
        let last = visible[live - 1]
        let pairs = last.map { column in
            column < S
                ? (at(cells.values[1], column), at(cells.keys[1], column))
                : (at(given.newValues[1], column - S), at(given.newKeys[1], column - S))
        }
        seen.append(pairs.sorted { $0.0 < $1.0 }.map(\.1))
        given.logits.set(0..<given.logits.count, to: 0)
        // The next token is a sum over all that is seen, so one wrong cell changes the text.
        let sum = pairs.reduce(1) { $0 + ($1.0 + 1) * $1.1 }
        for row in 0..<size.rows {
            let best = row * shape.vocabSize + sum % shape.vocabSize
            given.logits.set(best..<best + 1, to: 1)
        }
    }

    /// What the second head of the second layer says about a cell.
    private func at(_ memory: TensorMemory, _ cell: Int) -> Int {
        let index = (memory.shape[1] + cell) * memory.shape[2]
        return Int(memory.floats(index..<index + 1)[0])
    }

    private func integers(_ memory: TensorMemory) -> [Int] {
        let elements = memory.bytes.assumingMemoryBound(to: Int32.self)
        return (0..<memory.count).map { Int(elements[$0]) }
    }

    private static func zeros(_ mask: TensorMemory, row: Int, width: Int) -> [Int] {
        let values = mask.floats(row * width..<(row + 1) * width)
        XCTAssertTrue(values.allSatisfy { $0 == 0 || $0 == Float(Float16(StepMask.masked)) })
        return values.indices.filter { values[$0] == 0 }
    }
}

final class StepTests: XCTestCase {
    func testSizesArePickedAsInPython() throws {
        let vectors = try Vectors.load(StepVectors.self, "steps.json")
        let sizes = try StepSizes(vectors.sizes, context: vectors.context)
        for pick in vectors.picks {
            let found = try sizes.pick(tokens: pick.tokens, used: pick.used, held: pick.held)
            XCTAssertEqual(found.signature, pick.signature, "\(pick)")
        }
        for piece in vectors.pieces { XCTAssertEqual(sizes.piece(wanted: piece.wanted, used: piece.used), piece.piece) }
        XCTAssertRefused("larger than any on offer") { _ = try sizes.pick(tokens: 17, used: 0, held: 16) }
        XCTAssertRefused("48 cells at most") { _ = try StepSizes(vectors.sizes, context: 49) }
    }

    func testTwoSequencesGiveTheStepsThatTheyGiveInPython() async throws {
        let vectors = try Vectors.load(StepVectors.self, "steps.json")
        let model = RecordingModel(vectors.sizes, window: vectors.window)
        let runner = try StepRunner(model, context: vectors.context)
        let sequences = ["a": await runner.newSequence(), "b": await runner.newSequence()]
        for (index, operation) in vectors.operations.enumerated() {
            let sequence = try XCTUnwrap(sequences[operation.sequence])
            model.steps = []
            if operation.verb == "truncate" {
                await sequence.truncate(to: operation.count)
            } else {
                _ = try await sequence.extend(try XCTUnwrap(operation.tokens))
            }
            XCTAssertEqual(model.steps, operation.steps, "operation \(index)")
        }
    }

    func testEveryTokenSeesItsOwnSequenceWhateverTheCellsAndChunks() async throws {
        let vectors = try Vectors.load(StepVectors.self, "steps.json")
        let model = RecordingModel(vectors.sizes, window: nil)
        let runner = try StepRunner(model, context: 48)
        let (a, b) = (await runner.newSequence(), await runner.newSequence())
        var texts: [[Int]] = [[], []]
        var random = SplitMix64(seed: 11)
        for round in 0..<60 {
            let which = Int(random.next() % 2)
            let sequence = which == 0 ? a : b
            if round % 5 == 4 {
                let length = Int(random.next() % UInt64(texts[which].count + 1))
                await sequence.truncate(to: length)
                texts[which] = Array(texts[which].prefix(length))
            }
            let new = (0..<Int(random.next() % 20) + 1).map { _ in Int(random.next() % 64) }
            guard texts[0].count + texts[1].count + new.count <= 48 else {
                await sequence.truncate(to: 0)
                texts[which] = []
                continue
            }
            _ = try await sequence.extend(new)
            texts[which] += new
            XCTAssertEqual(model.seen.last, texts[which], "round \(round)")
            let held = await sequence.tokens()
            XCTAssertEqual(held, texts[which])
        }
        let used = await runner.usedCells()
        XCTAssertEqual(used, texts[0].count + texts[1].count)
    }

    func testASequenceThatIsForgottenGivesItsCellsBack() async throws {
        let model = RecordingModel([StepShape(tokens: 8, cells: 16, rows: 1, signature: "s")], window: nil)
        let runner = try StepRunner(model, context: 16)
        do {
            let sequence = await runner.newSequence()
            _ = try await sequence.extend([1, 2, 3])
        }
        var used = -1
        for _ in 0..<200 where used != 0 {
            try await Task.sleep(for: .milliseconds(5))
            used = await runner.usedCells()
        }
        XCTAssertEqual(used, 0)
    }

    func testWhatDoesNotFitChangesNothing() async throws {
        let model = RecordingModel([StepShape(tokens: 4, cells: 16, rows: 1, signature: "s")], window: nil)
        let runner = try StepRunner(model, context: 16)
        let (a, b) = (await runner.newSequence(), await runner.newSequence())
        _ = try await a.extend(Array(0..<10))
        for (sequence, tokens, needle) in [
            (a, Array(0..<7), "exceed the context"), (b, Array(0..<7), "6 are free"), (b, [], "no tokens"), (b, [64], "vocabulary"),
        ] {
            do {
                _ = try await sequence.extend(tokens)
                XCTFail("\(needle) expected")
            } catch {
                XCTAssertTrue("\(error)".contains(needle), "\(error)")
            }
        }
        let (held, used) = (await a.tokens(), await runner.usedCells())
        XCTAssertEqual(held.count, 10)
        XCTAssertEqual(used, 10)
    }

    func testMemoryHoldsBothTypes() {
        for type in [ElementType.float16, .float32] {
            let memory = TensorMemory([2, 3], type)
            XCTAssertEqual(memory.floats(0..<6), [0, 0, 0, 0, 0, 0])
            memory.set(1..<4, to: -30000)
            XCTAssertEqual(memory.floats(0..<6)[1], Float(type == .float16 ? Float(Float16(-30000)) : -30000))
            XCTAssertEqual(memory.strides, [3, 1])
        }
    }
}
