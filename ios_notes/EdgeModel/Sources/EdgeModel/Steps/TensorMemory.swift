/// The element types of a step's inputs and outputs.
public enum ElementType: Sendable, Equatable {
    case float16, float32, int32

    var size: Int { self == .float16 ? 2 : 4 }
}

/// A dense array, row after row, in memory of its own that keeps its address: Core ML reads and writes it in
/// place. It starts as zeros.
public final class TensorMemory {
    public let shape: [Int]
    public let type: ElementType
    public let bytes: UnsafeMutableRawPointer

    /// Cache lines of Apple's processors have 128 bytes.
    private static let alignment = 128

    public init(_ shape: [Int], _ type: ElementType) {
        self.shape = shape
        self.type = type
        let size = max(1, shape.reduce(1, *) * type.size)
        bytes = .allocate(byteCount: size, alignment: Self.alignment)
        bytes.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    }

    deinit { bytes.deallocate() }

    public var count: Int { shape.reduce(1, *) }

    /// Elements between neighbours of each dimension.
    public var strides: [Int] {
        var strides = shape
        var step = 1
        for index in shape.indices.reversed() {
            strides[index] = step
            step *= shape[index]
        }
        return strides
    }

    /// Writes integers from the first element on, `filler` after them.
    public func fill(_ values: [Int], filler: Int = 0) {
        precondition(type == .int32 && values.count <= count)
        let elements = bytes.assumingMemoryBound(to: Int32.self)
        for index in 0..<count { elements[index] = Int32(index < values.count ? values[index] : filler) }
    }

    /// Sets a range of floating point elements to one value.
    public func set(_ range: Range<Int>, to value: Float) {
        precondition(type != .int32 && range.lowerBound >= 0 && range.upperBound <= count)
        if type == .float16 {
            (bytes.assumingMemoryBound(to: Float16.self) + range.lowerBound).update(repeating: Float16(value), count: range.count)
        } else {
            (bytes.assumingMemoryBound(to: Float.self) + range.lowerBound).update(repeating: value, count: range.count)
        }
    }

    /// A range of floating point elements.
    public func floats(_ range: Range<Int>) -> [Float] {
        precondition(type != .int32 && range.lowerBound >= 0 && range.upperBound <= count)
        if type == .float16 {
            let elements = bytes.assumingMemoryBound(to: Float16.self)
            return range.map { Float(elements[$0]) }
        }
        return Array(UnsafeBufferPointer(start: bytes.assumingMemoryBound(to: Float.self) + range.lowerBound, count: range.count))
    }

    /// Copies the vector at (head, from) of `source`, both (K, n, D), to (head, to) for every head.
    func copyVectors(from source: TensorMemory, _ from: Int, to: Int) {
        precondition(source.type == type && from < source.shape[1] && to < shape[1])
        let (heads, length) = (shape[0], shape[2] * type.size)
        for head in 0..<heads {
            (bytes + (head * shape[1] + to) * length)
                .copyMemory(from: source.bytes + (head * source.shape[1] + from) * length, byteCount: length)
        }
    }
}
