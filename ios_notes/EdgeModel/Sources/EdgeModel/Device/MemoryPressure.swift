#if canImport(Darwin)
    // What the system says about memory.

    import Dispatch

    #if os(iOS)
        import os
    #endif

    /// How short of memory the system is.
    public enum MemoryPressure: Sendable {
        case normal, warning, critical

        /// Every change from now on. At `warning` call `EdgeModel.shrink`; at `critical` let the model go, because
        /// the system ends the app next.
        public static func changes() -> AsyncStream<MemoryPressure> {
            AsyncStream { continuation in
                let source = DispatchSource.makeMemoryPressureSource(eventMask: .all, queue: .global(qos: .utility))
                source.setEventHandler {
                    let event = source.data
                    if event.contains(.critical) {
                        continuation.yield(.critical)
                    } else {
                        continuation.yield(event.contains(.warning) ? .warning : .normal)
                    }
                }
                continuation.onTermination = { _ in source.cancel() }
                source.activate()
            }
        }

        /// Bytes that the app may still allocate; nil on macOS, which sets no such limit. Advice, not a promise:
        /// ask before loading a model, and do not keep the answer.
        public static var availableBytes: Int? {
            #if os(iOS)
                return os_proc_available_memory()
            #else
                return nil
            #endif
        }
    }
#endif
