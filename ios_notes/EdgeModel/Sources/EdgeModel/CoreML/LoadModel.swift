#if canImport(CoreML)
    import CoreML
    import Foundation

    extension EdgeModel {
        /// Loads a bundle: compiles it if need be, and lets Core ML specialise it, which takes long the first time.
        ///
        /// - Parameters:
        ///   - folder: of the bundle.
        ///   - variant: by name; nil for the first Core ML variant.
        ///   - units: where it may run.
        ///   - coder: nil for the bundle's own tokenizer.
        /// - Throws: `EdgeModelError`.
        public static func load(
            _ folder: URL, variant name: String? = nil, units: ComputeUnits = .all, coder: (any TokenCoder)? = nil
        ) async throws -> EdgeModel {
            let began = ContinuousClock.now
            let bundle = try EdgeBundle(folder: folder)
            let variant = try bundle.coreMLVariant(named: name)
            let compiled = try await CompiledModel.find(variant, in: bundle)
            let shape = ModelShape(bundle.decoder(of: variant))
            let source: any SequenceSource
            if variant.format == EdgeBundle.Name.stateFormat {
                source = try StateRunner(compiled: compiled, sizes: variant.mainSteps, window: shape.window, units: units)
            } else {
                let model = try CoreMLStepModel(compiled: compiled, sizes: variant.mainSteps, shape: shape, units: units)
                source = try StepRunner(model, context: variant.context)
            }
            let took = ContinuousClock.now - began
            var loaded = try EdgeModel(
                bundle: bundle, variant: variant, source: source, coder: coder, units: units.rawValue,
                loadMs: took / .milliseconds(1))
            loaded.governor = ThermalGovernor()
            return loaded
        }
    }
#endif
