#if os(Linux) || os(macOS)
    import XCTest

    @testable import EdgeModel

    /// A step model that sends every step to ios_notes/serve_interpreter.py, which runs the package in numpy.
    final class InterpretedModel: StepModel {
        let shape: ModelShape
        let sizes: [StepShape]
        let elementType = ElementType.float16
        private var all: [StepShape: StepBuffers] = [:]
        private let process = Process()
        private let (requests, answers) = (Pipe(), Pipe())

        init(python: String, bundle: EdgeBundle, variant: Variant) throws {
            shape = ModelShape(bundle.decoder(of: variant))
            sizes = variant.steps
            let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
                .appendingPathComponent("../../../serve_interpreter.py").standardized
            process.executableURL = URL(fileURLWithPath: python)
            process.arguments = [script.path, bundle.folder.path, variant.name]
            process.standardInput = requests
            process.standardOutput = answers
            try process.run()
        }

        deinit {
            try? requests.fileHandleForWriting.close()
            process.waitUntilExit()
        }

        func buffers(_ size: StepShape) -> StepBuffers {
            if let found = all[size] { return found }
            let made = StepBuffers(size, shape, elementType)
            all[size] = made
            return made
        }

        func run(_ size: StepShape, _ cells: CellMemory) throws {
            let given = buffers(size)
            var inputs = [
                (TensorName.tokens, given.tokens), (TensorName.positions, given.positions), (TensorName.mask, given.mask),
            ]
            if let mask = given.windowMask { inputs.append((TensorName.windowMask, mask)) }
            if size.tokens > 1 { inputs.append((TensorName.rows, given.rows)) }
            var outputs = [TensorName.logits: given.logits]
            for layer in 0..<shape.layers {
                inputs.append((TensorName.keyCache(layer), cells.keys[layer]))
                inputs.append((TensorName.valueCache(layer), cells.values[layer]))
                outputs[TensorName.newKeys(layer)] = given.newKeys[layer]
                outputs[TensorName.newValues(layer)] = given.newValues[layer]
            }
            let described = inputs.map { name, memory -> [String: Any] in
                ["name": name, "type": memory.type == .int32 ? "int32" : "float16", "shape": memory.shape]
            }
            var request = try JSONSerialization.data(withJSONObject: ["function": size.signature, "inputs": described])
            request.append(10)
            for (_, memory) in inputs { request.append(Data(bytes: memory.bytes, count: memory.count * memory.type.size)) }
            try requests.fileHandleForWriting.write(contentsOf: request)
            var header = Data()
            while header.last != 10 { header.append(try read(1)) }
            let found = try XCTUnwrap(try JSONSerialization.jsonObject(with: header) as? [[String: Any]])
            XCTAssertEqual(found.count, outputs.count)
            for entry in found {
                let name = try XCTUnwrap(entry["name"] as? String)
                let memory = try XCTUnwrap(outputs[name], name)
                XCTAssertEqual(entry["shape"] as? [Int], memory.shape, name)
                let data = try read(memory.count * 2)
                data.withUnsafeBytes { memory.bytes.copyMemory(from: $0.baseAddress!, byteCount: data.count) }
            }
        }

        private func read(_ count: Int) throws -> Data {
            var data = Data()
            while data.count < count {
                guard let more = try answers.fileHandleForReading.read(upToCount: count - data.count), !more.isEmpty else {
                    throw EdgeModelError.device("serve_interpreter.py ended; its message is above")
                }
                data.append(more)
            }
            return data
        }
    }

    /// The whole host on real packages, with the interpreter in place of Core ML.
    ///
    ///     python ios_notes/make_test_vectors.py
    ///     EDGEMODEL_PYTHON=$(which python) swift test --package-path ios_notes/EdgeModel
    final class InterpreterTests: XCTestCase {
        func testPackagesGiveTheirVectors() async throws {
            guard let python = ProcessInfo.processInfo.environment["EDGEMODEL_PYTHON"] else {
                throw XCTSkip("set EDGEMODEL_PYTHON to a Python that has edgesdk and coremltools")
            }
            let vectors = try Vectors.load(ModelVectors.self, "model.json")
            for tiny in vectors.bundles {
                let bundle = try EdgeBundle(folder: Vectors.folder.appendingPathComponent("bundle/\(tiny.name)"))
                let variant = try bundle.coreMLVariant()
                let source = try StepRunner(
                    InterpretedModel(python: python, bundle: bundle, variant: variant), context: variant.context)
                let model = try EdgeModel(bundle: bundle, variant: variant, source: source, units: "interpreter", loadMs: 0)
                // The same numbers made the vectors; what is left is the order of numpy's sums.
                for example in tiny.cases { try await example.check(model, limit: 0.005 * example.largest, tiny.name) }
                try await chat(model)
            }
        }

        /// The second turn of a chat, on cells that the first one left, against all of it anew.
        private func chat(_ model: EdgeModel) async throws {
            let format = try XCTUnwrap(model.chatFormat)
            let sequence = try await model.newSequence()
            var messages = [ChatMessage(role: "user", content: "Hello")]
            var last: Completion?
            for try await chunk in try model.chat(messages, in: sequence, options: .init(maxTokens: 8)).chunks {
                last = chunk.completion
            }
            let first = try XCTUnwrap(last)
            XCTAssertEqual(first.reusedTokens, 0)
            messages += [ChatMessage(role: "assistant", content: first.text), ChatMessage(role: "user", content: "and?")]
            let prompt = try model.coder.encode(format.prompt(messages))
            let rest = await sequence.reuse(for: prompt)
            XCTAssertLessThanOrEqual(rest.count, prompt.count - first.promptTokens)
            let reused = try await sequence.extend(rest)
            let whole = try await model.newSequence().extend(prompt)
            // Steps of other sizes round differently in float16.
            let largest = try XCTUnwrap(whole.map(abs).max())
            XCTAssertLessThan(try XCTUnwrap(zip(reused, whole).map { abs($0 - $1) }.max()), 0.02 * largest)
        }
    }
#endif
