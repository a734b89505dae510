/// Which of a variant's static sizes to run: the smallest T that holds the tokens, and for it the smallest S
/// that covers the cells in use, because attention costs what S is, used or not.
///
/// It follows edgesdk/kv/step_sizes.py, less what several sequences in one step need.
public struct StepSizes: Sendable {
    private let sizes: [StepShape]

    /// Every S on offer, smallest first.
    public let capacities: [Int]

    /// Cells shrink only when one part in so many of the smaller size stays free: else they soon grow again.
    private static let spareShare = 4

    /// - Throws: `EdgeModelError.bundle`: sequences of `context` tokens cannot be run.
    public init(_ sizes: [StepShape], context: Int) throws {
        self.sizes = sizes.sorted { ($0.tokens, $0.cells, $0.rows) < ($1.tokens, $1.cells, $1.rows) }
        capacities = Set(sizes.map(\.cells)).sorted()
        guard let most = capacities.last, most >= context, context > 0 else {
            throw EdgeModelError.bundle("the package holds \(capacities.last ?? 0) cells at most, its context is \(context)")
        }
    }

    /// How many of a sequence's tokens the next step runs best, while `used` cells are in use.
    public func piece(wanted: Int, used: Int) -> Int {
        min(wanted, sizes.lazy.filter { $0.cells >= used }.map(\.tokens).max() ?? 0)
    }

    /// The size for one step.
    ///
    /// - Parameters:
    ///   - tokens: to be run; the logits of the last are wanted.
    ///   - used: cells in use.
    ///   - held: the S that the cells are laid out for now.
    /// - Throws: `EdgeModelError.capacity`: no size runs as many.
    public func pick(tokens: Int, used: Int, held: Int) throws -> StepShape {
        let fitting = sizes.filter { $0.cells >= used && $0.tokens >= tokens }
        guard let T = fitting.map(\.tokens).min() else {
            throw EdgeModelError.capacity("a step of \(tokens) tokens with \(used) cells in use is larger than any on offer")
        }
        let choices = fitting.filter { $0.tokens == T }
        let R = choices.map(\.rows).min() ?? 1
        let byCells = Dictionary(choices.filter { $0.rows == R }.map { ($0.cells, $0) }, uniquingKeysWith: { a, _ in a })
        let smallest = byCells.keys.min() ?? 0
        if let kept = byCells[held], used > smallest - smallest / Self.spareShare { return kept }
        guard let size = byCells[smallest] else {
            throw EdgeModelError.capacity("no size of the package runs \(tokens) tokens; convert the bundle again")
        }
        return size
    }
}
