#if canImport(CoreML)
    // The step as functions of a Core ML package, with cells that the host owns (layout "cells").

    import CoreML
    import Foundation

    /// Runs the functions of a package; implements `StepModel`.
    ///
    /// Inputs and outputs are arrays over the host's own memory, so nothing is copied here. Core ML may copy all
    /// the same, for units that want memory of another kind: then it ignores the memory that is offered for
    /// outputs, and what it returns is copied.
    final class CoreMLStepModel: StepModel {
        /// One function, once it is loaded.
        private final class Function {
            let model: MLModel
            let buffers: StepBuffers
            let options = MLPredictionOptions()
            let outputs: [String: MLMultiArray]
            private let inputs: [String: MLFeatureValue]
            private var features: (cells: ObjectIdentifier, provider: MLFeatureProvider)?

            init(_ model: MLModel, _ size: StepShape, _ shape: ModelShape, _ type: ElementType) throws {
                self.model = model
                buffers = StepBuffers(size, shape, type)
                var given = [
                    TensorName.tokens: buffers.tokens, TensorName.positions: buffers.positions,
                    TensorName.mask: buffers.mask,
                ]
                given[TensorName.windowMask] = buffers.windowMask
                if size.tokens > 1 { given[TensorName.rows] = buffers.rows }
                let cells = TensorMemory([shape.kvHeads, size.cells, shape.headSize], type)
                var expected = given
                for layer in 0..<shape.layers {
                    expected[TensorName.keyCache(layer)] = cells
                    expected[TensorName.valueCache(layer)] = cells
                }
                try model.checkInputs(expected, function: size.signature)
                inputs = try given.mapValues { MLFeatureValue(multiArray: try $0.multiArray()) }
                var results = [TensorName.logits: buffers.logits]
                for layer in 0..<shape.layers {
                    results[TensorName.newKeys(layer)] = buffers.newKeys[layer]
                    results[TensorName.newValues(layer)] = buffers.newValues[layer]
                }
                outputs = try results.mapValues { try $0.multiArray() }
                options.outputBackings = outputs
            }

            /// The inputs of a step; made anew only when the cells have moved.
            func provider(_ cells: CellMemory) throws -> MLFeatureProvider {
                if let features, features.cells == ObjectIdentifier(cells) { return features.provider }
                var values = inputs
                for layer in cells.keys.indices {
                    values[TensorName.keyCache(layer)] = MLFeatureValue(multiArray: try cells.keys[layer].multiArray())
                    values[TensorName.valueCache(layer)] = MLFeatureValue(multiArray: try cells.values[layer].multiArray())
                }
                let provider = try MLDictionaryFeatureProvider(dictionary: values)
                features = (ObjectIdentifier(cells), provider)
                return provider
            }
        }

        let shape: ModelShape
        let sizes: [StepShape]
        let elementType: ElementType
        private let compiled: URL
        private let units: ComputeUnits
        private var functions: [StepShape: Function] = [:]
        /// Cells of the last step: what `Function` remembers by identity must not be freed and made anew.
        private var cells: CellMemory?

        /// Opens a compiled package. The functions of the smallest S are loaded now, the others when a sequence
        /// grows into them: each is specialised for the units when it is first loaded.
        ///
        /// - Throws: `EdgeModelError`: Core ML refuses it, or it is not what the manifest says.
        init(compiled: URL, sizes: [StepShape], shape: ModelShape, units: ComputeUnits) throws {
            guard let first = sizes.min(by: { ($0.cells, $0.tokens) < ($1.cells, $1.tokens) }) else {
                throw EdgeModelError.bundle("the variant has no step sizes; convert the bundle again")
            }
            self.compiled = compiled
            self.sizes = sizes
            self.shape = shape
            self.units = units
            let model = try Self.open(compiled, first.signature, units)
            elementType = try model.edgeElementType()
            functions[first] = try Function(model, first, shape, elementType)
            for size in sizes where size.cells == first.cells && size != first { _ = try function(size) }
        }

        func buffers(_ size: StepShape) throws -> StepBuffers { try function(size).buffers }

        func run(_ size: StepShape, _ cells: CellMemory) throws {
            let function = try function(size)
            if self.cells !== cells { self.cells = cells }
            let found: MLFeatureProvider
            do {
                found = try function.model.prediction(from: function.provider(cells), options: function.options)
            } catch {
                throw EdgeModelError.device("Core ML failed in \(size.signature): \(error.localizedDescription)")
            }
            for (name, backing) in function.outputs {
                guard let array = found.featureValue(for: name)?.multiArrayValue else {
                    throw EdgeModelError.device("function \(size.signature) gave no \(name); convert the bundle again")
                }
                if array !== backing { array.transfer(to: backing) }
            }
        }

        private func function(_ size: StepShape) throws -> Function {
            if let function = functions[size] { return function }
            let function = try Function(try Self.open(compiled, size.signature, units), size, shape, elementType)
            functions[size] = function
            return function
        }

        private static func open(_ compiled: URL, _ function: String, _ units: ComputeUnits) throws -> MLModel {
            do {
                return try MLModel(contentsOf: compiled, configuration: units.configuration(function: function))
            } catch {
                throw EdgeModelError.device(
                    "Core ML cannot load \(function) for \(units.rawValue): \(error.localizedDescription)")
            }
        }
    }
#endif
