//! From signals to stops: SIGTERM and SIGINT ask for an orderly stop, a second SIGINT for a quick one.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The two stages of a stop.
#[derive(Clone, Debug)]
pub struct StopSignals {
    /// Stop in order: hand over, stop the plugins with their grace, then end.
    pub stop: CancellationToken,
    /// Stop now: the person has pressed Ctrl-C again.
    pub hurry: CancellationToken,
}

/// Listens for SIGTERM and SIGINT for the rest of the process. Must be called inside a runtime.
///
/// # Errors
///
/// When the operating system does not let the process handle signals.
pub fn listen() -> io::Result<StopSignals> {
    let signals = StopSignals { stop: CancellationToken::new(), hurry: CancellationToken::new() };
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let StopSignals { stop, hurry } = signals.clone();
    tokio::spawn(async move {
        loop {
            // Cancel-safe: a signal that is not taken by this turn is taken by the next.
            let name = tokio::select! {
                Some(()) = terminate.recv() => "SIGTERM",
                Some(()) = interrupt.recv() => "SIGINT",
                else => return,
            };
            if !stop.is_cancelled() {
                tracing::info!("{name}: stopping in order");
                stop.cancel();
            } else if name == "SIGINT" {
                tracing::warn!("{name} again: stopping now");
                hurry.cancel();
            }
        }
    });
    Ok(signals)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use nix::sys::signal::{Signal, raise};

    use super::*;

    // One test for everything: signals are the whole process's.
    #[tokio::test]
    async fn the_first_asks_for_order_and_a_second_interrupt_for_haste() {
        let signals = listen().unwrap();
        assert!(!signals.stop.is_cancelled());
        raise(Signal::SIGTERM).unwrap();
        signals.stop.cancelled().await;
        assert!(!signals.hurry.is_cancelled());
        raise(Signal::SIGINT).unwrap();
        signals.hurry.cancelled().await;
    }
}
