// The seam between the step loop and what executes it: docs/architecture.md, "The step".

/// What the loop must know of a decoder.
public struct ModelShape: Sendable, Equatable {
    /// L, layers with cells.
    public let layers: Int
    /// K.
    public let kvHeads: Int
    /// D.
    public let headSize: Int
    /// V.
    public let vocabSize: Int
    /// Of the layers that have one.
    public let window: Int?

    public init(layers: Int, kvHeads: Int, headSize: Int, vocabSize: Int, window: Int?) {
        self.layers = layers
        self.kvHeads = kvHeads
        self.headSize = headSize
        self.vocabSize = vocabSize
        self.window = window
    }

    public init(_ decoder: DecoderShape) {
        self.init(
            layers: decoder.layers.count, kvHeads: decoder.kvHeads, headSize: decoder.headSize,
            vocabSize: decoder.vocabSize, window: decoder.window)
    }
}

/// Inputs and outputs of one size; the caller fills the inputs, runs, and reads the outputs in place.
public final class StepBuffers {
    /// (T,) int32.
    public let tokens: TensorMemory
    /// (T,) int32.
    public let positions: TensorMemory
    /// (T, S+T), additive: S cells, then the new tokens.
    public let mask: TensorMemory
    /// The same for layers with a window; nil for models without.
    public let windowMask: TensorMemory?
    /// (R,) int32, whose logits are wanted; not an input where T is 1.
    public let rows: TensorMemory
    /// (R, V).
    public let logits: TensorMemory
    /// Per layer (K, T, D).
    public let newKeys: [TensorMemory]
    public let newValues: [TensorMemory]

    public init(_ size: StepShape, _ shape: ModelShape, _ type: ElementType) {
        let (T, S, R) = (size.tokens, size.cells, size.rows)
        tokens = TensorMemory([T], .int32)
        positions = TensorMemory([T], .int32)
        mask = TensorMemory([T, S + T], type)
        windowMask = shape.window == nil ? nil : TensorMemory([T, S + T], type)
        rows = TensorMemory([R], .int32)
        logits = TensorMemory([R, shape.vocabSize], type)
        let vectors = [shape.kvHeads, T, shape.headSize]
        newKeys = (0..<shape.layers).map { _ in TensorMemory(vectors, type) }
        newValues = (0..<shape.layers).map { _ in TensorMemory(vectors, type) }
    }
}

/// Executes the step in the sizes that a variant offers. One call at a time.
public protocol StepModel: AnyObject {
    var shape: ModelShape { get }
    var sizes: [StepShape] { get }
    /// Of cells, masks and logits.
    var elementType: ElementType { get }

    /// The arrays of one size.
    func buffers(_ size: StepShape) throws -> StepBuffers

    /// Runs one step on what `buffers(size)` holds; reads the cells, never writes them.
    func run(_ size: StepShape, _ cells: CellMemory) throws
}

/// Names of the inputs and outputs in a Core ML package: those of the step with underscores for dots
/// (converters/emit/coreml). tests/ios_notes compares them with what the emitter writes.
enum TensorName {
    static let tokens = "tokens"
    static let positions = "positions"
    static let mask = "mask"
    static let windowMask = "window_mask"
    static let rows = "rows"
    static let logits = "logits"
    static let start = "start"
    static func keyCache(_ layer: Int) -> String { "k_cache_\(layer)" }
    static func valueCache(_ layer: Int) -> String { "v_cache_\(layer)" }
    static func newKeys(_ layer: Int) -> String { "k_new_\(layer)" }
    static func newValues(_ layer: Int) -> String { "v_new_\(layer)" }
}
