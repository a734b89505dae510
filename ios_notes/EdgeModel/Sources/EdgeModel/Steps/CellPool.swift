/// Keys and values of S cells, per layer (K, S, D), as a step reads them. Cells start as zeros: a masked cell
/// must hold numbers, because NaN times nothing is NaN.
public final class CellMemory {
    public let capacity: Int
    public let keys: [TensorMemory]
    public let values: [TensorMemory]

    public init(_ shape: ModelShape, capacity: Int, type: ElementType) {
        self.capacity = capacity
        let vectors = [shape.kvHeads, capacity, shape.headSize]
        keys = (0..<shape.layers).map { _ in TensorMemory(vectors, type) }
        values = (0..<shape.layers).map { _ in TensorMemory(vectors, type) }
    }

    /// Copies the first tokens' keys and values of a step into cells.
    func write(_ cells: [Int], from buffers: StepBuffers) {
        for layer in keys.indices {
            for (row, cell) in cells.enumerated() {
                keys[layer].copyVectors(from: buffers.newKeys[layer], row, to: cell)
                values[layer].copyVectors(from: buffers.newValues[layer], row, to: cell)
            }
        }
    }

    /// Takes over the first `count` cells of another memory.
    func take(_ count: Int, from other: CellMemory) {
        for layer in keys.indices {
            for cell in 0..<count {
                keys[layer].copyVectors(from: other.keys[layer], cell, to: cell)
                values[layer].copyVectors(from: other.values[layer], cell, to: cell)
            }
        }
    }
}

/// Gives out the cells that all sequences of a model share, lowest index first, so that short sequences run
/// in the small sizes; the memory is laid out for the S that a step wants.
struct CellPool {
    /// Most cells that can be in use.
    let capacity: Int
    private(set) var memory: CellMemory
    private let shape: ModelShape
    private let type: ElementType
    private var inUse: [Bool]

    /// One more than the highest index in use.
    private(set) var frontier = 0
    private(set) var used = 0

    init(_ shape: ModelShape, capacity: Int, smallest: Int, type: ElementType) {
        self.shape = shape
        self.type = type
        self.capacity = capacity
        inUse = [Bool](repeating: false, count: capacity)
        memory = CellMemory(shape, capacity: smallest, type: type)
    }

    var free: Int { capacity - used }

    /// Takes free cells, lowest first.
    ///
    /// - Throws: `EdgeModelError.capacity`; nothing has changed then.
    mutating func allocate(_ count: Int) throws -> [Int] {
        guard count <= free else {
            throw EdgeModelError.capacity(
                "\(count) cells are needed, \(free) of \(capacity) are free; end or shorten other sequences")
        }
        var cells: [Int] = []
        var next = used == frontier ? frontier : 0  // without gaps there is nothing to look for
        while cells.count < count {
            if !inUse[next] { cells.append(next) }
            next += 1
        }
        for cell in cells { inUse[cell] = true }
        used += count
        frontier = max(frontier, (cells.last ?? -1) + 1)
        return cells
    }

    mutating func release(_ cells: some Sequence<Int>) {
        for cell in cells {
            precondition(inUse[cell], "a free cell cannot be released")
            inUse[cell] = false
            used -= 1
        }
        while frontier > 0, !inUse[frontier - 1] { frontier -= 1 }
    }

    /// Lays the memory out for `size` cells, at least as many as the frontier.
    mutating func layOut(_ size: Int) {
        if size == memory.capacity { return }
        let next = CellMemory(shape, capacity: size, type: type)
        next.take(min(frontier, memory.capacity, size), from: memory)
        memory = next
    }

    mutating func write(_ cells: [Int], from buffers: StepBuffers) { memory.write(cells, from: buffers) }
}
