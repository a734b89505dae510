import SwiftUI

@main
struct ChatSampleApp: App {
    @State private var chat = ChatModel()

    var body: some Scene {
        WindowGroup {
            ContentView(chat: chat)
                .task { await chat.load() }
                .task { await chat.watchMemory() }
        }
    }
}
