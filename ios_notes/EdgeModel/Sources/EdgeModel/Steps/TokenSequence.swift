/// One sequence of tokens with its cached state. One task at a time.
public protocol TokenSequence: Sendable {
    /// Most tokens that it can hold.
    var context: Int { get }

    /// The tokens that it holds.
    func tokens() async -> [Int]

    /// Appends tokens, at least one.
    ///
    /// - Returns: (V,) logits after the last of them.
    /// - Throws: `EdgeModelError.capacity` before anything is run, `EdgeModelError.device`, or
    ///   `CancellationError` between two steps: what has been run then stays.
    func extend(_ tokens: [Int]) async throws -> [Float]

    /// Forgets all tokens from `length` on.
    func truncate(to length: Int) async
}

extension TokenSequence {
    /// Keeps what the sequence and a prompt have in common, so that the next turn of a chat runs only what
    /// is new.
    ///
    /// - Returns: the tokens of the prompt that are still to run, at least one.
    public func reuse(for prompt: [Int]) async -> [Int] {
        let held = await tokens()
        let common = zip(held, prompt).prefix { $0 == $1 }.count
        let kept = min(common, prompt.count - 1)  // the logits after the last token are not kept
        await truncate(to: max(0, kept))
        return Array(prompt.dropFirst(max(0, kept)))
    }
}

/// A loaded model as a maker of sequences.
public protocol SequenceSource: Sendable {
    /// An empty sequence; what it holds is free again when nobody refers to it any more.
    func newSequence() async throws -> any TokenSequence

    /// Gives memory back while nothing runs.
    func shrink() async
}
