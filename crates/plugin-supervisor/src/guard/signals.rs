//! The guard's own signals, and those that its plugins would inherit.

use std::io;
use std::sync::Arc;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Only the manager ends the guard, or the kernel: it is not hit by what hits the manager's terminal. Gives the
/// descriptor that tells of dead children.
pub(super) fn set_up() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    for polite in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        mask.add(polite);
    }
    mask.thread_block()?;
    hand_down_no_ignored_signal()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Whoever starts the manager may have it ignore signals (`nohup`: SIGHUP; a shell's `&`: SIGINT and SIGQUIT), and a
/// program inherits that: its stop signal would do nothing, and a shell cannot even trap it. A signal that is handled is
/// no longer ignored, and where a program begins a handler becomes the default again (POSIX, `exec`).
fn hand_down_no_ignored_signal() -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    for signal in Signal::iterator().filter(|signal| is_ignored(&status, *signal)) {
        signal_hook::flag::register(signal as i32, Arc::default())?;
    }
    Ok(())
}

/// Whether `/proc/PID/status` names a signal as ignored. SIGPIPE is not looked at: Rust has every program ignore it, and
/// gives the default back to what it starts.
fn is_ignored(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let catchable = !signal_hook::consts::FORBIDDEN.contains(&(signal as i32));
    signal != Signal::SIGPIPE && catchable && mask >> (signal as i32 - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read_as_the_kernel_writes_it() {
        // SIGHUP, SIGINT, SIGQUIT, SIGSEGV (which nobody can handle in safety) and SIGPIPE.
        let status = "Name:\tonduty\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001407\nSigCgt:\t0\n";
        let ignored: Vec<_> = Signal::iterator().filter(|signal| is_ignored(status, *signal)).collect();
        assert_eq!(ignored, [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT]);
        assert!(!Signal::iterator().any(|signal| is_ignored("SigIgn:\tnonsense\n", signal)));
        assert!(!Signal::iterator().any(|signal| is_ignored("", signal)));
    }
}
