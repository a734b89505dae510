// Choosing the next token from logits, as edgesdk/decoding/{sampling,processors}.py do: repetition penalty,
// temperature, top-k, top-p, min-p, then a draw. A filter always keeps the most likely token.
//
// Papers: CTRL (section 4.1, repetition penalty); The Curious Case of Neural Text Degeneration (section 3,
// top-p); Turning Up the Heat: Min-p Sampling (section 3).

import Foundation

/// How the next token is chosen.
public struct SamplingOptions: Sendable, Equatable {
    /// 0 takes the most likely token, the lowest id among equals; else logits are divided by it.
    public var temperature: Float
    /// Keep this many of the most likely tokens; nil keeps all.
    public var topK: Int?
    /// Keep the fewest most likely tokens whose probabilities reach this sum; 1 keeps all.
    public var topP: Float
    /// Drop tokens less likely than this share of the most likely one; 0 drops none.
    public var minP: Float
    /// Logits of tokens already in the sequence are divided by it when positive, multiplied when negative.
    public var repetitionPenalty: Float
    /// Of the random numbers; nil takes another one each time.
    public var seed: UInt64?

    public init(
        temperature: Float = 0, topK: Int? = nil, topP: Float = 1, minP: Float = 0, repetitionPenalty: Float = 1,
        seed: UInt64? = nil
    ) {
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        self.minP = minP
        self.repetitionPenalty = repetitionPenalty
        self.seed = seed
    }

    /// What the checkpoint recommends; greedy where it says nothing.
    public init(_ defaults: GenerationDefaults) {
        self.init(
            temperature: defaults.temperature ?? 0, topK: defaults.topK, topP: defaults.topP ?? 1,
            minP: defaults.minP ?? 0, repetitionPenalty: defaults.repetitionPenalty ?? 1)
    }

    func check() throws {
        func expect(_ holds: Bool, _ name: String, _ found: Any, _ expected: String) throws {
            if !holds { throw EdgeModelError.option("\(name) is \(found), expected \(expected)") }
        }
        try expect(temperature >= 0 && temperature.isFinite, "temperature", temperature, "0 or more")
        try expect((topK ?? 1) >= 1, "topK", topK ?? 0, "1 or more")
        try expect(topP > 0 && topP <= 1, "topP", topP, "above 0 and at most 1")
        try expect(minP >= 0 && minP <= 1, "minP", minP, "between 0 and 1")
        try expect(repetitionPenalty > 0 && repetitionPenalty.isFinite, "repetitionPenalty", repetitionPenalty, "above 0")
    }
}

/// Chooses the tokens of one sequence.
public struct Sampler {
    private let options: SamplingOptions
    private var seen: Set<Int> = []
    private var random: SplitMix64

    /// - Throws: `EdgeModelError.option`: a value has no meaning.
    public init(_ options: SamplingOptions) throws {
        try options.check()
        self.options = options
        random = SplitMix64(seed: options.seed ?? UInt64.random(in: .min ... .max))
    }

    /// Adds tokens of the prompt to the history that the repetition penalty looks at.
    public mutating func observe(_ tokens: [Int]) {
        if options.repetitionPenalty != 1 { seen.formUnion(tokens) }
    }

    /// The next token; it is added to the history.
    ///
    /// - Parameter logits: (V,).
    /// - Throws: `EdgeModelError.device`: they are not numbers.
    public mutating func choose(_ logits: [Float]) throws -> Int {
        var logits = logits
        let penalty = options.repetitionPenalty
        if penalty != 1 {
            for token in seen where logits.indices.contains(token) {
                logits[token] = logits[token] > 0 ? logits[token] / penalty : logits[token] * penalty
            }
        }
        guard !logits.isEmpty, logits.allSatisfy({ !$0.isNaN }), let most = logits.max(), most.isFinite else {
            throw EdgeModelError.device("the model returned logits that are not finite numbers; try other compute units")
        }
        let token: Int
        if options.temperature == 0 {
            token = logits.firstIndex(of: most) ?? 0
        } else {
            token = Self.draw(Self.filter(logits, options), random.nextUnit())
        }
        observe([token])
        return token
    }

    /// The candidates that the filters leave, in order of their ids.
    static func filter(_ logits: [Float], _ options: SamplingOptions) -> [Candidate] {
        var candidates = logits.enumerated().map { Candidate(id: $0, logit: $1) }
        if options.temperature != 0, options.temperature != 1 {
            let most = logits.max() ?? 0
            let divisor = max(options.temperature, 1e-30)  // relative to the best: no overflow
            for index in candidates.indices { candidates[index].logit = (candidates[index].logit - most) / divisor }
        }
        if let count = options.topK { candidates = keepTopK(candidates, count) }
        if options.topP < 1 { candidates = keepTopP(candidates, options.topP) }
        if options.minP > 0 {
            let limit = (candidates.map(\.logit).max() ?? 0) + Float(log(Double(options.minP)))
            candidates.removeAll { $0.logit < limit }
        }
        return candidates
    }

    private static func keepTopK(_ candidates: [Candidate], _ count: Int) -> [Candidate] {
        if count >= candidates.count { return candidates }
        return mostLikely(candidates, count).sorted { $0.id < $1.id }
    }

    private static func keepTopP(_ candidates: [Candidate], _ share: Float) -> [Candidate] {
        let most = candidates.map(\.logit).max() ?? 0
        func weight(_ candidate: Candidate) -> Double { Double(exp(candidate.logit - most)) }
        let wanted = Double(share) * candidates.reduce(0) { $0 + weight($1) }
        // Sorting a whole vocabulary takes as long as running a small model: the head nearly always does.
        for count in [64, 1024, candidates.count] {
            var sum = 0.0
            var kept: [Candidate] = []
            for candidate in mostLikely(candidates, count) {
                sum += weight(candidate)
                kept.append(candidate)
                if sum >= wanted { return kept.sorted { $0.id < $1.id } }
            }
        }
        return candidates
    }

    /// The most likely candidates, best first, the lowest ids among equals.
    private static func mostLikely(_ candidates: [Candidate], _ count: Int) -> [Candidate] {
        func before(_ a: Candidate, _ b: Candidate) -> Bool { (b.logit, a.id) < (a.logit, b.id) }
        guard count < candidates.count / 8 else { return Array(candidates.sorted(by: before).prefix(count)) }
        // A heap whose root is the least of the best; few candidates ever pass it.
        var heap = Array(candidates.prefix(count)).sorted { before($1, $0) }
        for candidate in candidates.dropFirst(count) where before(candidate, heap[0]) {
            heap[0] = candidate
            var parent = 0
            while true {
                var least = parent
                for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && before(heap[least], heap[child]) {
                    least = child
                }
                if least == parent { break }
                heap.swapAt(parent, least)
                parent = least
            }
        }
        return heap.sorted(by: before)
    }

    /// The candidate at `unit` (0 to 1) of the summed weights.
    static func draw(_ candidates: [Candidate], _ unit: Double) -> Int {
        let most = candidates.map(\.logit).max() ?? 0
        var sums: [Double] = []
        for candidate in candidates { sums.append((sums.last ?? 0) + Double(exp(candidate.logit - most))) }
        let total = sums.last ?? 0
        let index = sums.firstIndex { $0 > unit * total } ?? sums.firstIndex(of: total) ?? 0
        return candidates[index].id
    }
}

/// A token that may be chosen.
struct Candidate {
    let id: Int
    var logit: Float
}

/// A small generator of random numbers (Fast Splittable Pseudorandom Number Generators, figure 16): the same
/// seed gives the same numbers on every device. Not those of edgesdk in Python.
struct SplitMix64 {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// From 0 to below 1, in steps of 2^-53.
    mutating func nextUnit() -> Double { Double(next() >> 11) * 0x1p-53 }
}
