import EdgeModel
import SwiftUI

struct ContentView: View {
    let chat: ChatModel

    @State private var draft = ""
    @Environment(\.scenePhase) private var scenePhase

    var body: some View {
        NavigationStack {
            VStack(spacing: 0) {
                transcript
                status
                entry
            }
            .navigationTitle("Chat")
            .toolbar {
                Button("New", systemImage: "square.and.pencil") { Task { await chat.reset() } }
                    .disabled(chat.phase == .loading)
            }
        }
        // In the background the GPU and the Neural Engine are not the app's to use.
        .onChange(of: scenePhase) { _, phase in
            if phase != .active { chat.stop() }
        }
    }

    private var transcript: some View {
        ScrollView {
            LazyVStack(alignment: .leading, spacing: 12) {
                ForEach(Array(chat.messages.enumerated()), id: \.offset) { _, message in
                    Bubble(text: message.content, mine: message.role == "user")
                }
                if chat.phase == .answering { Bubble(text: chat.answer.isEmpty ? "…" : chat.answer, mine: false) }
            }
            .padding()
        }
        .defaultScrollAnchor(.bottom)
    }

    private var status: some View {
        VStack(alignment: .leading, spacing: 2) {
            switch chat.phase {
            case .loading: Label("Loading; the first time this takes long", systemImage: "hourglass")
            case .failed(let reason): Label(reason, systemImage: "exclamationmark.triangle").foregroundStyle(.red)
            case .ready, .answering: Text(chat.receipt)
            }
            if !chat.figures.isEmpty { Text(chat.figures) }
        }
        .font(.caption)
        .foregroundStyle(.secondary)
        .frame(maxWidth: .infinity, alignment: .leading)
        .padding(.horizontal)
    }

    private var entry: some View {
        HStack {
            TextField("Message", text: $draft, axis: .vertical)
                .textFieldStyle(.roundedBorder)
                .onSubmit(send)
            if chat.phase == .answering {
                Button("Stop", systemImage: "stop.circle.fill") { chat.stop() }
            } else {
                Button("Send", systemImage: "arrow.up.circle.fill", action: send)
                    .disabled(chat.phase != .ready || draft.isEmpty)
            }
        }
        .labelStyle(.iconOnly)
        .font(.title2)
        .padding()
    }

    private func send() {
        let text = draft.trimmingCharacters(in: .whitespacesAndNewlines)
        guard !text.isEmpty, chat.phase == .ready else { return }
        draft = ""
        chat.send(text)
    }
}

private struct Bubble: View {
    let text: String
    let mine: Bool

    var body: some View {
        Text(text)
            .textSelection(.enabled)
            .padding(10)
            .background(mine ? Color.accentColor.opacity(0.2) : Color.secondary.opacity(0.12), in: .rect(cornerRadius: 12))
            .frame(maxWidth: .infinity, alignment: mine ? .trailing : .leading)
    }
}
