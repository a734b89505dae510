import EdgeModel
import Foundation
import Observation

/// One conversation with one model: loads, sends, streams, stops.
@MainActor
@Observable
final class ChatModel {
    enum Phase: Equatable {
        case loading, ready, answering
        case failed(String)
    }

    private(set) var phase = Phase.loading
    private(set) var messages: [ChatMessage] = []
    /// What has come of the answer under way.
    private(set) var answer = ""
    private(set) var receipt = ""
    private(set) var figures = ""

    private var model: EdgeModel?
    private var sequence: (any TokenSequence)?
    private var generation: Generation?

    /// Where the bundle lies in the app: project.yml copies the folder `Model`.
    private static var folder: URL { Bundle.main.bundleURL.appendingPathComponent("Model") }

    /// Loads the model; the first time on a device this compiles it for the device's units.
    func load() async {
        guard model == nil else { return }
        phase = .loading
        do {
            let folder = Self.folder
            // Off the main thread: loading reads files and blocks while Core ML compiles.
            let loaded = try await Task.detached(priority: .userInitiated) { try await EdgeModel.load(folder) }.value
            sequence = try await loaded.newSequence()
            model = loaded
            receipt = loaded.receipt.description
            phase = .ready
        } catch {
            phase = .failed("\(error)")
        }
    }

    /// Sends a message; the answer grows in `answer` until it joins `messages`.
    func send(_ text: String) {
        guard phase == .ready, let model, let sequence else { return }
        messages.append(ChatMessage(role: "user", content: text))
        answer = ""
        phase = .answering
        Task {
            do {
                let generation = try model.chat(messages, in: sequence)
                self.generation = generation
                for try await chunk in generation.chunks {
                    answer += chunk.text
                    if let completion = chunk.completion { show(completion) }
                }
                phase = .ready
            } catch {
                phase = .failed("\(error)")
            }
            if !answer.isEmpty { messages.append(ChatMessage(role: "assistant", content: answer)) }
            answer = ""
            generation = nil
        }
    }

    /// Ends the answer after the step that is running. What has come stays.
    func stop() {
        guard let generation else { return }
        Task { await generation.cancel() }
    }

    /// Starts over after an error, or with a new conversation.
    func reset() async {
        await generation?.cancel()
        messages = []
        figures = ""
        if model == nil { return await load() }
        await sequence?.truncate(to: 0)
        phase = .ready
    }

    /// Gives memory back when the system asks for it.
    func watchMemory() async {
        for await pressure in MemoryPressure.changes() {
            switch pressure {
            case .normal:
                break
            case .warning:
                await model?.shrink()
            case .critical:
                await generation?.cancel()
                (model, sequence) = (nil, nil)
                phase = .failed("The system is short of memory, so the model was unloaded.")
            }
        }
    }

    private func show(_ completion: Completion) {
        var parts = ["\(completion.promptTokens) tokens of prompt, \(completion.reusedTokens) reused"]
        parts.append(String(format: "first token %.0f ms", completion.firstTokenMs))
        if let rate = completion.decodeTokensPerS { parts.append(String(format: "%.1f tokens/s", rate)) }
        parts.append("ended by \(completion.finishReason.rawValue)")
        figures = parts.joined(separator: " · ")
    }
}
