#if canImport(CoreML)
    import CoreML
    import Foundation

    extension ElementType {
        var multiArrayType: MLMultiArrayDataType {
            switch self {
            case .float16: return .float16
            case .float32: return .float32
            case .int32: return .int32
            }
        }

        init?(_ type: MLMultiArrayDataType) {
            switch type {
            case .float16: self = .float16
            case .float32: self = .float32
            case .int32: self = .int32
            default: return nil
            }
        }
    }

    extension TensorMemory {
        /// An array that reads and writes this memory in place. It does not keep the memory alive.
        func multiArray() throws -> MLMultiArray {
            try MLMultiArray(
                dataPointer: bytes, shape: shape.map { NSNumber(value: $0) }, dataType: type.multiArrayType,
                strides: strides.map { NSNumber(value: $0) }, deallocator: nil)
        }
    }

    extension MLModel {
        /// The element type of a function's masks, cells and logits.
        func edgeElementType() throws -> ElementType {
            let constraint = modelDescription.inputDescriptionsByName[TensorName.mask]?.multiArrayConstraint
            guard let type = constraint.flatMap({ ElementType($0.dataType) }), type != .int32 else {
                throw EdgeModelError.bundle("the package has no floating point input mask; it is not an edgesdk step")
            }
            return type
        }

        /// Compares a function's inputs with what is going to be given.
        func checkInputs(_ inputs: [String: TensorMemory], function: String) throws {
            let found = modelDescription.inputDescriptionsByName
            if let odd = Set(found.keys).symmetricDifference(inputs.keys).sorted().first {
                let what = found[odd] == nil ? "lacks" : "also has"
                throw EdgeModelError.bundle("function \(function) \(what) the input \(odd); convert the bundle again")
            }
            for (name, memory) in inputs {
                let constraint = found[name]?.multiArrayConstraint
                guard constraint?.shape.map(\.intValue) == memory.shape,
                    constraint?.dataType == memory.type.multiArrayType
                else {
                    throw EdgeModelError.bundle(
                        "function \(function) has the input \(name) as \(constraint?.shape ?? []), "
                            + "its manifest says \(memory.shape); convert the bundle again")
                }
            }
        }
    }
#endif
