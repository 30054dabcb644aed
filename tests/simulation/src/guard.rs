//! The model of the guard: beside the manager it judges the lease by its stamp and nothing else; after a `kill -9` of
//! the manager it ends the plugins and then shows the tombstone at the node's port.
//!
//! It is another process than the manager, so it never stands still with it.

use std::time::Duration;

use failover_core::{BootTime, Epoch};
use heartbeat_client::TOMBSTONE_MAGIC;
use service_kit::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::freeze::Gate;
use crate::network::Listeners;
use crate::world::{NAMES, Secret, Shared, now};

/// What the supervisor tells its guard.
#[derive(Debug)]
pub enum Command {
    /// Start every plugin.
    Start {
        /// Under this epoch.
        epoch: Epoch,
        /// The lease.
        hold_until: BootTime,
    },
    /// The lease is renewed.
    Renew(BootTime),
    /// The plugins go on under another epoch.
    Renumber(Epoch),
    /// Ask every plugin to end.
    Stop,
    /// Kill every plugin.
    Kill,
    /// Keep this.
    Bury(Secret),
}

/// What the guard tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The lease ran out, everything is being killed.
    Fired(Epoch),
    /// Nothing lives any more.
    Empty(Epoch),
    /// The secret is kept.
    Buried(Secret),
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.bytes == other.bytes
    }
}

impl Eq for Secret {}

/// The guard beside its manager.
pub async fn beside(
    shared: Shared,
    node: usize,
    clock: Clock,
    mut commands: mpsc::Receiver<Command>,
    news: mpsc::Sender<News>,
) {
    let died = std::sync::Arc::clone(&shared.lock().hosts[node].guard_died);
    loop {
        let wake = due(&shared, node, &clock);
        let sleeping = async {
            match wake {
                Some(span) => sleep(span).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(command) => obey(&shared, node, command, &news),
                // The manager has ended in order; whatever it has left is ended at once.
                None => {
                    shared.lock().kill_plugins(now(), node);
                    return reap(&shared, node).await;
                }
            },
            () = died.notified() => die(&shared, node, &news),
            () = sleeping => look(&shared, node, &clock, &news),
        }
    }
}

/// How long until the guard has something to do.
fn due(shared: &Shared, node: usize, clock: &Clock) -> Option<Duration> {
    let world = shared.lock();
    let host = &world.hosts[node];
    let plugins = host.plugins?;
    let gone = plugins.gone_at.map(|at| at.saturating_sub(now()));
    let lease =
        host.hold_until.filter(|_| !plugins.dying).map(|until| clock.tokio_span(until.since(clock.boot())));
    gone.into_iter().chain(lease).min()
}

fn obey(shared: &Shared, node: usize, command: Command, news: &mpsc::Sender<News>) {
    let mut world = shared.lock();
    match command {
        Command::Start { epoch, hold_until } => {
            world.hosts[node].hold_until = Some(hold_until);
            world.plugins_begin(now(), node, epoch);
        }
        Command::Renew(hold_until) => {
            if world.hosts[node].plugins.is_some() {
                world.hosts[node].hold_until = Some(hold_until);
            }
        }
        Command::Renumber(epoch) => world.plugins_renumbered(now(), node, epoch),
        Command::Stop => {
            // What has not ended by then is killed.
            let host = &world.hosts[node];
            let takes = host.stop_takes.min(host.stop_grace + host.kill_takes);
            if let Some(plugins) = world.hosts[node].plugins.as_mut()
                && plugins.gone_at.is_none()
            {
                plugins.gone_at = Some(now() + takes);
            }
        }
        Command::Kill => world.kill_plugins(now(), node),
        Command::Bury(secret) => {
            world.hosts[node].secret = Some(secret);
            let _ = news.try_send(News::Buried(secret));
        }
    }
}

/// The guard is killed: its containment ends the plugins, its secret is gone, and the supervisor starts another.
fn die(shared: &Shared, node: usize, news: &mpsc::Sender<News>) {
    let mut world = shared.lock();
    world.hosts[node].secret = None;
    let Some(plugins) = world.hosts[node].plugins.filter(|plugins| !plugins.dying) else { return };
    world.kill_plugins(now(), node);
    let _ = news.try_send(News::Fired(plugins.epoch));
}

fn look(shared: &Shared, node: usize, clock: &Clock, news: &mpsc::Sender<News>) {
    let mut world = shared.lock();
    let Some(plugins) = world.hosts[node].plugins else { return };
    if plugins.gone_at.is_some_and(|at| at <= now()) {
        world.plugins_end(now(), node);
        let _ = news.try_send(News::Empty(plugins.epoch));
        return;
    }
    let over = world.hosts[node].hold_until.is_some_and(|until| until <= clock.boot());
    if over && !plugins.dying {
        world.note(now(), node, "  the guard kills the plugins: the lease ran out");
        world.kill_plugins(now(), node);
        let _ = news.try_send(News::Fired(plugins.epoch));
    }
}

/// Waits for the last plugin that is to go.
pub async fn reap(shared: &Shared, node: usize) {
    loop {
        let gone_at = {
            let world = shared.lock();
            world.hosts[node].plugins.and_then(|plugins| plugins.gone_at)
        };
        match gone_at {
            Some(at) if at > now() => sleep(at - now()).await,
            Some(_) => shared.lock().plugins_end(now(), node),
            None => return,
        }
    }
}

/// The guard after its manager was killed.
///
/// # Errors
///
/// Never: the signature is turmoil's.
pub async fn alone(shared: Shared, node: usize, shows_for: Duration) -> turmoil::Result {
    let listener = Listeners::open().await?;
    shared.lock().kill_plugins(now(), node);
    reap(&shared, node).await;
    let secret = shared.lock().hosts[node].secret.take();
    let Some(secret) = secret else {
        drop(listener);
        return std::future::pending().await;
    };
    shared.note(node, &format!("  the guard shows the tombstone of epoch {}", secret.epoch));
    let _ = timeout(shows_for, async {
        loop {
            let Ok((stream, _, cable)) = listener.accept().await else { continue };
            let mut stream = Gate::new(&shared, node, cable, stream);
            let _detached = tokio::spawn(async move {
                let mut bytes = TOMBSTONE_MAGIC.to_vec();
                bytes.extend(secret.epoch.0.to_be_bytes());
                bytes.extend(secret.bytes);
                if stream.write_all(&bytes).await.is_ok() {
                    let _ = stream.shutdown().await;
                    let mut heard = [0; 1024];
                    let drain = async { while stream.read(&mut heard).await.is_ok_and(|n| n > 0) {} };
                    let _ = timeout(Duration::from_millis(100), drain).await;
                }
            });
        }
    })
    .await;
    drop(listener);
    shared.note(node, &format!("  the guard of {} ends", NAMES[node]));
    std::future::pending().await
}
