//! From signals to stops: SIGTERM and SIGINT ask for an orderly stop, a second SIGINT for one without a hand-over, a third for the
//! end. SIGHUP means "read again" to those services that read something, and must end no other.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The stages of a stop.
#[derive(Clone, Debug)]
pub struct StopSignals {
    /// Stop in order: hand over, stop the plugins with their grace, then end.
    pub stop: CancellationToken,
    /// Stop the plugins without handing the duty over: the person has pressed Ctrl-C again.
    pub hurry: CancellationToken,
    /// End now, and kill what runs: they have pressed it once more.
    pub now: CancellationToken,
}

/// Listens for SIGTERM and SIGINT for the rest of the process. Must be called inside a runtime.
///
/// # Errors
///
/// When the operating system does not let the process handle signals.
pub fn listen() -> io::Result<StopSignals> {
    let fresh = CancellationToken::new;
    let signals = StopSignals { stop: fresh(), hurry: fresh(), now: fresh() };
    // Whoever wants to hear it listens again: from here on it ends no process.
    let _not_the_default = signal(SignalKind::hangup())?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let StopSignals { stop, hurry, now } = signals.clone();
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
            } else if name == "SIGINT" && !hurry.is_cancelled() {
                tracing::warn!("{name} again: stopping without a hand-over");
                hurry.cancel();
            } else if name == "SIGINT" {
                tracing::warn!("{name} once more: ending now, what runs is killed");
                now.cancel();
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
    async fn the_first_asks_for_order_the_next_interrupt_for_haste_and_one_more_for_the_end() {
        let signals = listen().unwrap();
        assert!(!signals.stop.is_cancelled());
        raise(Signal::SIGTERM).unwrap();
        signals.stop.cancelled().await;
        assert!(!signals.hurry.is_cancelled());
        raise(Signal::SIGHUP).unwrap();
        raise(Signal::SIGINT).unwrap();
        signals.hurry.cancelled().await;
        assert!(!signals.now.is_cancelled());
        raise(Signal::SIGINT).unwrap();
        signals.now.cancelled().await;
    }
}
