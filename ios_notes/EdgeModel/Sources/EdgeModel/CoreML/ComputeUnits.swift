#if canImport(CoreML)
    import CoreML

    /// Where Core ML may run a model. It chooses among what is allowed, operation by operation.
    public enum ComputeUnits: String, Sendable, CaseIterable {
        case all
        case cpuAndGPU = "cpu-and-gpu"
        case cpuAndNeuralEngine = "cpu-and-neural-engine"
        case cpuOnly = "cpu-only"

        var mlUnits: MLComputeUnits {
            switch self {
            case .all: return .all
            case .cpuAndGPU: return .cpuAndGPU
            case .cpuAndNeuralEngine: return .cpuAndNeuralEngine
            case .cpuOnly: return .cpuOnly
            }
        }

        /// The configuration that loads one function of a package.
        func configuration(function: String) -> MLModelConfiguration {
            let configuration = MLModelConfiguration()
            configuration.computeUnits = mlUnits
            configuration.functionName = function
            return configuration
        }
    }
#endif
