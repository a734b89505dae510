/// Which cells and which new tokens the rows of a step see.
enum StepMask {
    /// What a masked entry says. float16 has no -1e9, and an infinity makes NaN of a row that sees nothing;
    /// tests/ios_notes compares this with `LOWEST_MASK` of edgesdk/backends/coreml.
    static let masked: Float = -30000

    /// Writes the masks for new tokens of one sequence.
    ///
    /// A row sees the sequence's cells, itself and the new tokens before it; with a window only the last
    /// `window` of these. Rows without a token see themselves: a row that sees nothing has no softmax.
    ///
    /// - Parameters:
    ///   - cells: of the sequence, in order.
    ///   - tokens: how many are new.
    static func write(_ buffers: StepBuffers, _ size: StepShape, cells: [Int], tokens: Int, window: Int?) {
        fill(buffers.mask, size, cells, tokens, window: nil)
        if let mask = buffers.windowMask { fill(mask, size, cells, tokens, window: window) }
    }

    private static func fill(_ mask: TensorMemory, _ size: StepShape, _ cells: [Int], _ tokens: Int, window: Int?) {
        let (T, S) = (size.tokens, size.cells)
        mask.set(0..<mask.count, to: masked)
        for row in 0..<T {
            let start = row * (S + T)
            guard row < tokens else {
                mask.set(start + S + row..<start + S + row + 1, to: 0)
                continue
            }
            let position = cells.count + row
            let lowest = window.map { max(0, position - $0 + 1) } ?? 0
            show(mask, start, cells.dropFirst(lowest))
            let firstNew = max(0, lowest - cells.count)
            mask.set(start + S + firstNew..<start + S + row + 1, to: 0)
        }
    }

    /// Shows cells in one row, in runs of neighbours, which they nearly always are.
    private static func show(_ mask: TensorMemory, _ start: Int, _ cells: ArraySlice<Int>) {
        var rest = cells
        while let first = rest.first {
            var end = first + 1
            rest = rest.dropFirst()
            while rest.first == end {
                end += 1
                rest = rest.dropFirst()
            }
            mask.set(start + first..<start + end, to: 0)
        }
    }
}
