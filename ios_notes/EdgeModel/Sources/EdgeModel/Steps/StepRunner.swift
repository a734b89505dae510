// Runs sequences over a step model: the host owns the cells, and what is not wanted is not copied.

import Dispatch

/// Owns a model and its cells; every step runs alone. A step blocks for as long as Core ML takes, so on Apple
/// platforms the actor has a queue of its own instead of a thread of Swift's small shared pool.
public actor StepRunner: SequenceSource {
    private struct Held {
        var tokens: [Int] = []
        var cells: [Int] = []
    }

    #if canImport(Darwin)
        private let queue = DispatchSerialQueue(label: "edgemodel.step", qos: .userInitiated)
        public nonisolated var unownedExecutor: UnownedSerialExecutor { queue.asUnownedSerialExecutor() }
    #endif

    private let model: any StepModel
    private let sizes: StepSizes
    private let window: Int?
    private var pool: CellPool
    private var sequences: [Int: Held] = [:]
    private var lastID = 0

    /// Most tokens of a sequence.
    public nonisolated let context: Int

    /// Most tokens that one step runs.
    public nonisolated let largestPiece: Int

    /// - Parameters:
    ///   - model: handed over: nobody else may use it from now on.
    ///   - context: most tokens of a sequence.
    /// - Throws: `EdgeModelError.bundle`: its sizes do not hold as many.
    public init(_ model: sending any StepModel, context: Int) throws {
        sizes = try StepSizes(model.sizes, context: context)
        window = model.shape.window
        pool = CellPool(
            model.shape, capacity: sizes.capacities.last ?? context, smallest: sizes.capacities.first ?? context,
            type: model.elementType)
        largestPiece = model.sizes.map(\.tokens).max() ?? 1
        self.context = context
        self.model = model
    }

    public func newSequence() -> any TokenSequence {
        lastID += 1
        sequences[lastID] = Held()
        return CellSequence(self, lastID)
    }

    func tokens(of id: Int) -> [Int] { sequences[id]?.tokens ?? [] }

    func checkRoom(_ id: Int, for count: Int) throws {
        let length = sequences[id]?.tokens.count ?? 0
        guard count > 0 else { throw EdgeModelError.option("no tokens are given, expected at least one") }
        guard length + count <= context else {
            throw EdgeModelError.capacity(
                "\(length) tokens and \(count) more exceed the context of \(context); shorten the prompt")
        }
        guard count <= pool.free else {
            throw EdgeModelError.capacity("\(count) cells are needed, \(pool.free) are free; end other sequences")
        }
    }

    /// Runs one step with the first of `tokens`; logits only after the last of them.
    ///
    /// - Returns: how many were run, and (V,) logits if these were all.
    func step(_ id: Int, _ tokens: ArraySlice<Int>) throws -> (ran: Int, logits: [Float]?) {
        var held = sequences[id] ?? Held()
        let count = sizes.piece(wanted: tokens.count, used: pool.frontier)
        let new = Array(tokens.prefix(count))
        let size = try sizes.pick(tokens: count, used: pool.frontier, held: pool.memory.capacity)
        let V = model.shape.vocabSize
        if let odd = new.first(where: { !(0..<V).contains($0) }) {
            throw EdgeModelError.option("token \(odd) is not in the vocabulary of \(V)")
        }
        pool.layOut(size.cells)
        let buffers = try model.buffers(size)
        let length = held.tokens.count
        buffers.tokens.fill(new)
        buffers.positions.fill((length..<length + count).map { $0 })
        buffers.rows.fill([count - 1], filler: count - 1)
        StepMask.write(buffers, size, cells: held.cells, tokens: count, window: window)
        try model.run(size, pool.memory)
        let cells = try pool.allocate(count)
        if let last = cells.last, last >= pool.memory.capacity {
            pool.layOut(sizes.capacities.first { $0 > last } ?? pool.capacity)
        }
        pool.write(cells, from: buffers)
        held.tokens += new
        held.cells += cells
        sequences[id] = held
        return (count, count == tokens.count ? buffers.logits.floats(0..<V) : nil)
    }

    func truncate(_ id: Int, to length: Int) {
        guard var held = sequences[id], length < held.tokens.count else { return }
        let kept = max(0, length)
        pool.release(held.cells[kept...])
        held.cells.removeSubrange(kept...)
        held.tokens.removeSubrange(kept...)
        sequences[id] = held
    }

    func close(_ id: Int) {
        if let held = sequences.removeValue(forKey: id) { pool.release(held.cells) }
    }

    /// Cells in use, for receipts and tests.
    public func usedCells() -> Int { pool.used }

    /// Lays the cells out for the smallest S that holds those in use.
    public func shrink() {
        pool.layOut(sizes.capacities.first { $0 >= pool.frontier } ?? pool.capacity)
    }
}

/// A sequence whose keys and values lie in the cells of a `StepRunner`.
public final class CellSequence: TokenSequence {
    private let runner: StepRunner
    private let id: Int

    init(_ runner: StepRunner, _ id: Int) {
        self.runner = runner
        self.id = id
    }

    deinit {
        let (runner, id) = (runner, id)
        Task { await runner.close(id) }
    }

    public var context: Int { runner.context }

    public func tokens() async -> [Int] { await runner.tokens(of: id) }

    public func extend(_ tokens: [Int]) async throws -> [Float] {
        try await runner.checkRoom(id, for: tokens.count)
        var rest = tokens[...]
        while true {
            try Task.checkCancellation()
            let (ran, logits) = try await runner.step(id, rest)
            if let logits { return logits }
            rest = rest.dropFirst(ran)
        }
    }

    public func truncate(to length: Int) async { await runner.truncate(id, to: length) }
}
