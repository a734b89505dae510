#if canImport(CoreML)
    // A package of the layout "state" (converters.emit.coreml.emit_coreml): keys and values are Core ML states,
    // which the model updates itself. One sequence per state, and no step can be taken back other than by
    // masking what it wrote; in return the cells never leave the device.

    import CoreML
    import Dispatch

    /// Owns a stateful package; every step runs alone, as in `StepRunner`.
    public actor StateRunner: SequenceSource {
        private struct Function {
            let model: MLModel
            let size: StepShape
            let inputs: [String: TensorMemory]
            let provider: MLFeatureProvider
        }

        private struct Held {
            let state: MLState
            var tokens: [Int] = []
        }

        private let queue = DispatchSerialQueue(label: "edgemodel.state", qos: .userInitiated)
        public nonisolated var unownedExecutor: UnownedSerialExecutor { queue.asUnownedSerialExecutor() }

        nonisolated let context: Int
        private let functions: [Function]
        private let window: Int?
        private var sequences: [Int: Held] = [:]
        private var lastID = 0

        /// Opens a compiled package.
        ///
        /// - Parameters:
        ///   - compiled: an .mlmodelc.
        ///   - sizes: its functions, all of one S, which is the context; one of them has T = 1.
        ///   - window: of the layers that have one.
        /// - Throws: `EdgeModelError`.
        public init(compiled: URL, sizes: [StepShape], window: Int?, units: ComputeUnits) throws {
            guard let cells = sizes.first?.cells, sizes.allSatisfy({ $0.cells == cells && $0.isPossible }),
                sizes.contains(where: { $0.tokens == 1 })
            else {
                throw EdgeModelError.bundle("a stateful package needs functions of one S, one of them with T = 1")
            }
            context = cells
            self.window = window
            functions = try sizes.sorted { $0.tokens < $1.tokens }.map { size in
                let model: MLModel
                do {
                    model = try MLModel(
                        contentsOf: compiled, configuration: units.configuration(function: size.signature))
                } catch {
                    throw EdgeModelError.device("Core ML cannot load \(size.signature): \(error.localizedDescription)")
                }
                let inputs = try Self.inputs(size, type: model.edgeElementType(), window: window)
                try model.checkInputs(inputs, function: size.signature)
                let values = try inputs.mapValues { MLFeatureValue(multiArray: try $0.multiArray()) }
                return Function(
                    model: model, size: size, inputs: inputs,
                    provider: try MLDictionaryFeatureProvider(dictionary: values))
            }
        }

        public func newSequence() -> any TokenSequence {
            lastID += 1
            // One state serves all functions of a package: they declare the same ones.
            sequences[lastID] = Held(state: functions[0].model.makeState())
            return StateSequence(self, lastID)
        }

        /// States have one size; there is nothing to give back.
        public func shrink() {}

        func tokens(of id: Int) -> [Int] { sequences[id]?.tokens ?? [] }

        func close(_ id: Int) { sequences[id] = nil }

        func truncate(_ id: Int, to length: Int) {
            guard let count = sequences[id]?.tokens.count, length < count else { return }
            sequences[id]?.tokens.removeSubrange(max(0, length)...)
        }

        /// Runs one step with the first of `tokens`.
        ///
        /// - Returns: how many were run, and (V,) logits after the last of these.
        func step(_ id: Int, _ tokens: ArraySlice<Int>) throws -> (ran: Int, logits: [Float]) {
            guard let held = sequences[id], !tokens.isEmpty else {
                throw EdgeModelError.option("no tokens are given, expected at least one")
            }
            let length = held.tokens.count
            // A step writes T cells, used or not, so all of them must be there.
            let fitting = functions.filter { length + $0.size.tokens <= context }
            guard length + tokens.count <= context,
                let function = fitting.first(where: { $0.size.tokens >= tokens.count }) ?? fitting.last
            else {
                throw EdgeModelError.capacity(
                    "\(length) tokens and \(tokens.count) more exceed the context of \(context); shorten the prompt")
            }
            let size = function.size
            let count = min(tokens.count, size.tokens)
            fill(function, Array(tokens.prefix(count)), length)
            let found: MLFeatureProvider
            do {
                found = try function.model.prediction(
                    from: function.provider, using: held.state, options: MLPredictionOptions())
            } catch {
                throw EdgeModelError.device("Core ML failed in \(size.signature): \(error.localizedDescription)")
            }
            guard let logits = found.featureValue(for: TensorName.logits)?.multiArrayValue, logits.shape.count == 2,
                let V = logits.shape.last?.intValue
            else { throw EdgeModelError.device("function \(size.signature) gave no logits; convert it again") }
            let dense = TensorMemory(logits.shape.map(\.intValue), .float32)
            logits.transfer(to: try dense.multiArray())
            sequences[id]?.tokens += tokens.prefix(count)
            return (count, dense.floats(0..<V))
        }

        private func fill(_ function: Function, _ tokens: [Int], _ length: Int) {
            let (T, S) = (function.size.tokens, function.size.cells)
            let last = tokens.count - 1
            function.inputs[TensorName.tokens]?.fill(tokens)
            function.inputs[TensorName.positions]?.fill((length..<length + tokens.count).map { $0 })
            function.inputs[TensorName.rows]?.fill([last], filler: last)
            function.inputs[TensorName.start]?.fill([length])
            for (name, window) in [(TensorName.mask, nil), (TensorName.windowMask, window)] {
                guard let mask = function.inputs[name] else { continue }
                mask.set(0..<mask.count, to: StepMask.masked)
                for row in 0..<T {
                    // Cell i holds position i; rows without a token see at least themselves.
                    let lowest = window.map { max(0, length + row - $0 + 1) } ?? 0
                    mask.set(row * S + lowest..<row * S + length + row + 1, to: 0)
                }
            }
        }

        private static func inputs(_ size: StepShape, type: ElementType, window: Int?) -> [String: TensorMemory] {
            let (T, S) = (size.tokens, size.cells)
            var inputs = [
                TensorName.tokens: TensorMemory([T], .int32), TensorName.positions: TensorMemory([T], .int32),
                TensorName.mask: TensorMemory([T, S], type), TensorName.start: TensorMemory([1], .int32),
            ]
            if window != nil { inputs[TensorName.windowMask] = TensorMemory([T, S], type) }
            if T > 1 { inputs[TensorName.rows] = TensorMemory([size.rows], .int32) }
            return inputs
        }
    }

    /// A sequence whose keys and values are Core ML states.
    public final class StateSequence: TokenSequence {
        private let runner: StateRunner
        private let id: Int

        init(_ runner: StateRunner, _ id: Int) {
            self.runner = runner
            self.id = id
        }

        deinit {
            let (runner, id) = (runner, id)
            Task { await runner.close(id) }
        }

        public var context: Int { runner.context }

        public func tokens() async -> [Int] { await runner.tokens(of: id) }

        public func truncate(to length: Int) async { await runner.truncate(id, to: length) }

        public func extend(_ tokens: [Int]) async throws -> [Float] {
            var rest = tokens[...]
            while true {
                try Task.checkCancellation()
                let (ran, logits) = try await runner.step(id, rest)
                rest = rest.dropFirst(ran)
                if rest.isEmpty { return logits }
            }
        }
    }
#endif
