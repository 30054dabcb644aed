//! `onduty demo`: two real nodes on this machine, and what happens when one of them is killed.
//!
//! ```text
//!   demo ─┬► place     temporary folder, key, certificates, settings, free ports
//!         ├► node      the two `onduty up` processes: start, kill, watch through their sockets
//!         ├► story     what happens, told while it happens
//!         └► canary    what really ran, read from the files that the sample workload wrote
//! ```
//!
//! Whatever ends the demo (its end, a failure, Ctrl-C, SIGTERM), nothing is left: node processes are killed, their guards and
//! plugins are hunted down through their run files, and the folder is removed.

mod canary;
mod node;
mod picture;
mod place;
mod story;

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::cli::DemoArgs;
use crate::demo::node::Nodes;
use crate::demo::place::Place;
use crate::failure::Failure;
use crate::output;

/// The story takes half a minute on an idle machine; on one that is not it must come to an end all the same.
const LONGEST: Duration = Duration::from_secs(150);

/// Tells the story.
pub(crate) fn run(args: &DemoArgs) -> Result<(), Failure> {
    certificate_trust::install_crypto_provider();
    let place = Place::make(args.fast)?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("starting: {error}")))?
        .block_on(play(place, args.keep))
}

async fn play(place: Place, keep: bool) -> Result<(), Failure> {
    let mut nodes = Nodes::new(&place);
    let mut failed = false;
    // Cancel-safe: whichever branch is dropped, the nodes are cleaned up below.
    let outcome = tokio::select! {
        told = timeout(LONGEST, story::tell(&place, &mut nodes)) => {
            let told = told.unwrap_or_else(|_elapsed| Err(Failure::failed(format!(
                "the story did not come to its end within {} s", LONGEST.as_secs()
            ))));
            failed = told.is_err();
            told
        }
        interrupted = interrupted() => interrupted,
    };
    if outcome.is_ok() && keep {
        story::leave(&place, &nodes);
        nodes.leave_running();
        place.keep();
        return Ok(());
    }
    if failed {
        nodes.tell_logs();
    }
    nodes.end().await;
    drop(place);
    if outcome.is_ok() {
        output::line("Both nodes are stopped and everything is cleaned up.");
    }
    outcome
}

/// Waits for a signal that asks for the end.
async fn interrupted() -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("watching for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
    let name = tokio::select! {
        _ = interrupt.recv() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
        _ = hang_up.recv() => "SIGHUP",
    };
    Err(Failure::failed(format!("ended by {name}; both nodes are stopped and everything is cleaned up")))
}
