//! `serve heartbeat`, `serve heartbeat-server` and `serve heartbeat-client`: the driver, the journal and both ends of the
//! link that the mode needs, with the supervisor in another process.
//!
//! Before the port opens, nothing of an earlier run may live: either a supervisor says that nothing of a driver before this
//! one does, or none runs, and leftovers are ended here under the lock that a starting supervisor waits for. The
//! port itself may still be held by those who show the tombstone of the run before; while they do, it cannot be opened. And
//! there must be a certificate to show: the first bundle of certificate-trust is waited for.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use duty::{FollowOptions, Follower, NothingLives};
use journal::JournalHandle;
use plugin_supervisor::{Sight, apart, sight};
use service_kit::descriptor;
use service_kit::ports::duty_ports;
use service_kit::settings::Loaded;
use service_kit::with_causes;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{HEARTBEAT, SUPERVISOR};
use crate::cli::ServeArgs;
use crate::failure::Failure;
use crate::up::data_dir::{DataDir, Part};
use crate::up::running::{self, Services};
use crate::up::trust::{self, Trust};
use crate::up::{self, Ended, Prepared, link, pieces};

/// Between two looks at what another process does.
const PAUSE: Duration = Duration::from_millis(20);
/// How often a person is told what is waited for.
const REMIND: Duration = Duration::from_secs(30);
/// How much longer than a tombstone may be shown the port is waited for.
const MARGIN: Duration = Duration::from_secs(2);

/// Runs the service until it is stopped, or is to start anew.
pub(super) fn run(loaded: Loaded, args: &ServeArgs) -> Result<Ended, Failure> {
    let prepared = up::prepare(loaded, Part::One(HEARTBEAT), &args.settings, args.service)?;
    up::block_on(serve(prepared))
}

async fn serve(prepared: Prepared) -> Result<Ended, Failure> {
    let signals = running::listen()?;
    let (journal, journal_thread) = pieces::open_journal(&prepared)?;
    let mut trust = trust::elsewhere(&prepared.data_dir, &prepared.clock, &journal);
    let starting = async {
        end_leftovers(&prepared, &journal).await?;
        // Without a key there is no link, and so nothing to show to anybody.
        if prepared.keys.is_some() {
            trust.first().await?;
        }
        open_port(&prepared).await
    };
    let listener = tokio::select! {
        () = signals.stop.cancelled() => return Ok(Ended::Stopped),
        listener = starting => listener?,
    };
    let services = build(&prepared, &journal, listener, trust)?;
    Box::pin(running::attend(&prepared, services, signals, journal, journal_thread)).await
}

/// Returns when nothing of an earlier run lives: a supervisor says so, or there is none and it is ended here.
async fn end_leftovers(prepared: &Prepared, journal: &JournalHandle) -> Result<(), Failure> {
    let run_dir = prepared.data_dir.run();
    let lender = run_dir.join(apart::LISTENER_SOCKET);
    let mut remind = Instant::now() + REMIND;
    loop {
        if let Some(held) =
            prepared.data_dir.idle(SUPERVISOR).filter(|_held| sight(&run_dir) != Sight::Elsewhere)
        {
            let journal = journal.clone();
            // It may take seconds, and a stop is heard meanwhile.
            let clearing = tokio::task::spawn_blocking(move || {
                let _held = held;
                pieces::clear_leftovers(&run_dir, &journal)
            });
            return clearing.await.map_err(|error| Failure::failed(with_causes(&error)))?;
        }
        if Instant::now() >= remind {
            remind = Instant::now() + REMIND;
            tracing::warn!(
                "waiting for the plugin supervisor: plugins of an earlier run may live, and it alone can say that they do not. Is \
                 `onduty serve plugin-supervisor` running, with this data directory, and not stopped?"
            );
        }
        // One that stands still says nothing, although its socket takes connections.
        if descriptor::release(&lender).await.is_ok_and(|free| free) {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
}

/// Opens the port, once those who show the tombstone of the run before have let it go.
async fn open_port(prepared: &Prepared) -> Result<TcpListener, Failure> {
    let settings = &prepared.loaded.settings;
    let address = settings.node.listen;
    let until = Instant::now() + pieces::tombstone_for(settings) + MARGIN;
    let lender = prepared.data_dir.run().join(apart::LISTENER_SOCKET);
    loop {
        match pieces::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                ask_for_port(&lender).await;
                sleep(PAUSE).await;
            }
            bound => return bound.map_err(|error| pieces::no_port(address, &error)),
        }
    }
}

/// A guard without a supervisor lets go by itself, a moment later.
async fn ask_for_port(lender: &Path) {
    match descriptor::release(lender).await {
        Ok(true) => {}
        Ok(false) => tracing::debug!("the plugin supervisor does not let the port go yet"),
        Err(error) => tracing::debug!(%error, "asking the plugin supervisor for the port"),
    }
}

fn build(
    prepared: &Prepared,
    journal: &JournalHandle,
    listener: TcpListener,
    trust: Trust,
) -> Result<Services, Failure> {
    let (driver_port, supervisor_port) = duty_ports();
    let (duty, handles) = pieces::driver(prepared, journal, driver_port)?;
    // Without a key there is no link, and nobody to show a tombstone to.
    let lent = prepared.keys.as_ref().map(|_keys| pieces::duplicate(&listener)).transpose()?;
    let run_dir = prepared.data_dir.run();
    let (follower, plugins) = Follower::new(FollowOptions {
        socket: run_dir.join(apart::SOCKET),
        listener_socket: run_dir.join(apart::LISTENER_SOCKET),
        listener: lent,
        nothing_lives: nothing_lives(&prepared.data_dir),
        port: supervisor_port,
        clock: prepared.clock.clone(),
    });
    let link = link::build(prepared, &trust, listener, handles.link.clone())?;
    let management = pieces::operators(prepared, journal, &trust, &handles, plugins, link.test.clone())?;
    let plugins_stop = CancellationToken::new();
    let plugins = Box::pin(follower.run(plugins_stop.clone()));
    let thread = pieces::duty_thread()?;
    Ok(Services { thread, duty, handles, plugins, plugins_stop, link, trust, management })
}

/// When the supervisor is dead, its lock is free; then its leftovers are ended here, as at a start.
fn nothing_lives(data_dir: &DataDir) -> NothingLives {
    let data_dir = data_dir.clone();
    Arc::new(move || {
        let Some(_held) = data_dir.idle(SUPERVISOR) else { return false };
        // Without a run file it is not known what to look for, and in another container it could not be seen.
        if sight(&data_dir.run()) != Sight::Here {
            return false;
        }
        match plugin_supervisor::clear_leftovers(&data_dir.run()) {
            Ok(_ended) => true,
            Err(error) => {
                tracing::error!("what the plugin supervisor left: {}", with_causes(&error));
                false
            }
        }
    })
}
