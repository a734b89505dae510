#if canImport(CoreML)
    // Finds or makes the compiled form (.mlmodelc) of a package.
    //
    // Core ML specialises a compiled model for the device when it is first loaded, and keeps the result under
    // the model's path. So the compiled model must stay where it is: compiled anew into another folder at each
    // start, it would be specialised anew, too.

    import CoreML
    import Foundation

    enum CompiledModel {
        /// Where a variant's compiled model lies.
        ///
        /// `model.mlmodelc` beside the package wins (`xcrun coremlcompiler compile`, done when the app is built);
        /// else the package is compiled once into Application Support.
        ///
        /// - Throws: `EdgeModelError`: a file is damaged, or Core ML cannot compile it.
        static func find(_ variant: Variant, in bundle: EdgeBundle) async throws -> URL {
            let name = (variant.entry as NSString).deletingLastPathComponent
            let package = bundle.folder.appendingPathComponent(name, isDirectory: true)
            let ready = package.deletingPathExtension().appendingPathExtension("mlmodelc")
            if FileManager.default.fileExists(atPath: ready.path) { return ready }
            let parts = bundle.manifest.files.filter { $0.key.hasPrefix(name + "/") }.sorted { $0.key < $1.key }
            for part in parts { _ = try bundle.file(part.key) }
            let key = parts.map { $0.value.sha256.prefix(12) }.joined(separator: "-")
            return try await compile(package, key: key)
        }

        /// Compiles a package into a place that depends on its contents only.
        static func compile(_ package: URL, key: String) async throws -> URL {
            do {
                let files = FileManager.default
                var folder = try files.url(
                    for: .applicationSupportDirectory, in: .userDomainMask, appropriateFor: nil, create: true
                ).appendingPathComponent("EdgeModel", isDirectory: true)
                let place = folder.appendingPathComponent("\(key).mlmodelc", isDirectory: true)
                if files.fileExists(atPath: place.path) { return place }
                try files.createDirectory(at: folder, withIntermediateDirectories: true)
                var values = URLResourceValues()
                values.isExcludedFromBackup = true  // it can be made again
                try folder.setResourceValues(values)
                let made = try await MLModel.compileModel(at: package)
                // Another task may have been faster.
                if files.fileExists(atPath: place.path) { return place }
                try files.moveItem(at: made, to: place)
                return place
            } catch {
                throw EdgeModelError.device(
                    "Core ML cannot compile \(package.lastPathComponent): \(error.localizedDescription); "
                        + "it needs iOS 18 or macOS 15 and room for a copy of the model")
            }
        }
    }
#endif
