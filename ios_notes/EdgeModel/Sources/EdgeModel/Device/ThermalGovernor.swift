// Keeps a hot or nearly empty device usable: pauses between tokens, and waits while it is critical.

import Foundation

/// How hot a device is, in the four steps of `ProcessInfo.ThermalState`.
public enum Heat: Int, Sendable, Comparable {
    case nominal, fair, serious, critical

    public static func < (a: Heat, b: Heat) -> Bool { a.rawValue < b.rawValue }

    #if canImport(Darwin)
        /// Of this device, now.
        public static var now: Heat {
            switch ProcessInfo.processInfo.thermalState {
            case .nominal: return .nominal
            case .fair: return .fair
            case .serious: return .serious
            case .critical: return .critical
            @unknown default: return .serious
            }
        }
    #endif
}

/// Decides how long to rest between two tokens. The pauses are choices, not measurements: measure on your
/// devices and set your own.
public struct ThermalGovernor: Sendable {
    /// Between tokens while the device is serious.
    public var seriousPause: Duration = .milliseconds(60)
    /// Between tokens in Low Power Mode.
    public var lowPowerPause: Duration = .milliseconds(30)
    /// Between two looks at a critical device, until it is so no more.
    public var criticalPause: Duration = .seconds(1)

    private let heat: @Sendable () -> Heat
    private let lowPower: @Sendable () -> Bool

    /// - Parameters:
    ///   - heat: how hot the device is.
    ///   - lowPower: whether its user asked it to save power.
    public init(heat: @escaping @Sendable () -> Heat, lowPower: @escaping @Sendable () -> Bool) {
        self.heat = heat
        self.lowPower = lowPower
    }

    #if canImport(Darwin)
        /// Of this device.
        public init() {
            self.init(heat: { Heat.now }, lowPower: { ProcessInfo.processInfo.isLowPowerModeEnabled })
        }
    #endif

    /// How long to rest before the next token, or before the next look at a critical device.
    public var pause: Duration {
        switch heat() {
        case .critical: return criticalPause
        case .serious: return seriousPause
        case .fair, .nominal: return lowPower() ? lowPowerPause : .zero
        }
    }

    /// Rests.
    ///
    /// - Throws: `CancellationError` when the task is cancelled meanwhile.
    public func rest() async throws {
        while heat() == .critical { try await Task.sleep(for: criticalPause) }
        if pause > .zero { try await Task.sleep(for: pause) }
    }
}
