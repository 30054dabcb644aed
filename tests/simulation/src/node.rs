//! The process of a node: the services as `onduty up` puts them together, with models where the machine would begin.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use certificate_trust::{
    Acceptor, Connector, OwnIdentity, PairKey, PairKeys, PkiStore, TrustMode, install_crypto_provider,
};
use duty::{DutyHandles, Recorder};
use failover_core::{BootTime, Identity, InstanceId, NodeId, NodeName};
use service_kit::Clock;
use service_kit::ports::duty_ports;
use service_kit::settings::Loaded;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::disk::HostDisk;
use crate::freeze::Freezable;
use crate::network::{Listeners, SimListener, SimNetwork};
use crate::supervisor::Supervisor;
use crate::world::{ALPHA, BETA, NAMES, Phase, Shared, now};
use crate::{guard, settings};

/// 2026-11-22, the Unix time at which every life begins.
pub const UNIX: u64 = 1_795_305_600;
/// As long as `onduty up` gives its services.
const GOODBYE: Duration = Duration::from_secs(5);

/// What is made once and outlives every life: keys and certificates, whose making takes real time.
struct Credentials {
    own: [OwnIdentity; 2],
    store: PkiStore,
    keys: Arc<PairKeys>,
    wrong_keys: Arc<PairKeys>,
}

fn credentials() -> &'static Credentials {
    static MADE: OnceLock<Credentials> = OnceLock::new();
    MADE.get_or_init(|| {
        install_crypto_provider();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let own = [ALPHA, BETA].map(|node| {
            let names = [NAMES[node].to_owned()];
            OwnIdentity::open_or_create(&folder.path().join(NAMES[node]), &names, UNIX).expect("an identity")
        });
        // The clients accept every certificate, so that the store's files are never read.
        let store = PkiStore::open(&folder.path().join(NAMES[BETA])).expect("a store");
        let keys =
            |text| Arc::new(PairKeys { current: PairKey::parse(text).expect("a key"), previous: None });
        Credentials { own, store, keys: keys(settings::KEY), wrong_keys: keys(settings::WRONG_KEY) }
    })
}

/// Who the node is in this run. Random in the product; here it must be the same in each replay.
fn identity(node: usize, run: u32) -> Identity {
    let mark = u8::try_from(node + 1).unwrap();
    let mut instance = [mark; 16];
    // At its beginning: requests are named by it.
    instance[..4].copy_from_slice(&run.to_be_bytes());
    let name = NodeName::try_from(NAMES[node].to_owned()).unwrap();
    Identity { node: NodeId([mark; 16]), instance: InstanceId(instance), name }
}

/// What a host runs, as its phase says.
///
/// # Errors
///
/// When a port cannot be opened: then the simulation itself is wrong.
pub async fn software(shared: Shared, node: usize, loaded: Arc<Loaded>) -> turmoil::Result {
    let phase = shared.lock().hosts[node].phase;
    match phase {
        Phase::Off => std::future::pending().await,
        Phase::Guard => {
            let redundancy = &loaded.settings.redundancy;
            let shows_for = loaded.settings.takeover_after().max(redundancy.primary.timeout);
            guard::alone(shared, node, shows_for).await
        }
        Phase::Manager => manager(shared, node, loaded).await,
    }
}

/// The machine's clock; it goes on, whatever its processes do.
fn clock(shared: &Shared, node: usize) -> Clock {
    let (boot, drift_ppm) = {
        let world = shared.lock();
        (world.hosts[node].boot, world.hosts[node].drift_ppm)
    };
    // The boot-time clock goes on while no process reads it, at its own pace.
    let pace = u32::try_from(1_000_000 + drift_ppm).expect("a clock that goes forward");
    let elapsed = now() * pace / 1_000_000;
    Clock::simulated(BootTime::ZERO + boot + elapsed, UNIX + now().as_secs()).drifting(drift_ppm)
}

async fn manager(shared: Shared, node: usize, loaded: Arc<Loaded>) -> turmoil::Result {
    // What an earlier run has left is ended before the port opens.
    shared.lock().kill_plugins(now(), node);
    guard::reap(&shared, node).await;
    let (run, rules) = {
        let mut world = shared.lock();
        let host = &mut world.hosts[node];
        host.runs += 1;
        host.secret = None;
        host.ended = None;
        host.stopping = false;
        host.begun = now();
        host.recorded = None;
        host.stop = CancellationToken::new();
        (host.runs, host.rules)
    };
    shared.note(node, &format!("begins its run {run}"));
    let machine_clock = clock(&shared, node);
    let clock = machine_clock.clone().standing_still(shared.lock().hosts[node].still.subscribe());
    let (driver_port, supervisor_port) = duty_ports();
    let recorder = shared.clone();
    let options = duty::Options {
        settings: loaded.core(identity(node, run), None),
        data_dir: std::path::PathBuf::new(),
        clock: clock.clone(),
        recorder: Recorder::new(move |event| recorder.lock().recorded(now(), node, &event)),
        port: driver_port,
    };
    let disk = Arc::new(HostDisk { shared: shared.clone(), node });
    let (duty, handles) = duty::simulation::build(options, duty::simulation::Simulation { disk, rules });

    // Nobody reports more than this at once; the guard is asked again at each order.
    let (commands, for_guard) = mpsc::channel(16);
    let (told, news) = mpsc::channel(16);
    let supervisor = Supervisor::new(shared.clone(), node, supervisor_port, commands, news);
    let guard = tokio::spawn(guard::beside(shared.clone(), node, machine_clock, for_guard, told));
    let plugins_stop = CancellationToken::new();
    let supervised = tokio::spawn(Freezable::new(&shared, node, supervisor.run(plugins_stop.clone())));

    let rest = CancellationToken::new();
    let link = link(&shared, node, &loaded, &handles, &clock, &rest).await?;
    let stop = {
        let mut world = shared.lock();
        world.hosts[node].operators = Some(handles.operators.clone());
        world.hosts[node].stop.clone()
    };
    let end = tokio::spawn(Freezable::new(&shared, node, duty.run(stop))).await?;
    rest.cancel();
    let goodbye = async {
        for service in link {
            let _ = service.await;
        }
    };
    let _ = timeout(GOODBYE, goodbye).await;
    plugins_stop.cancel();
    let _ = supervised.await;
    let _ = guard.await;
    shared.note(node, &format!("has ended: {end:?}"));
    {
        let mut world = shared.lock();
        world.hosts[node].operators = None;
        world.hosts[node].secret = None;
        world.hosts[node].ended = Some(end);
        world.dies(node);
    }
    // The test takes the host down.
    std::future::pending().await
}

/// Both ends of the link, as far as the node has them.
async fn link(
    shared: &Shared,
    node: usize,
    loaded: &Loaded,
    handles: &DutyHandles,
    clock: &Clock,
    rest: &CancellationToken,
) -> Result<Vec<tokio::task::JoinHandle<()>>, std::io::Error> {
    let made = credentials();
    let keys = if shared.lock().hosts[node].wrong_key { &made.wrong_keys } else { &made.keys };
    let redundancy = &loaded.settings.redundancy;
    let listener = SimListener { inner: Listeners::open().await?, shared: shared.clone(), node };
    let (server, _) = heartbeat_server::build(heartbeat_server::Options {
        listener,
        acceptor: Acceptor::new(&made.own[node]),
        keys: Arc::clone(keys),
        pair: redundancy.pair.clone(),
        channel_bound: true,
        link: handles.link.clone(),
        clock: clock.clone(),
    });
    let mut services = vec![tokio::spawn(Freezable::new(shared, node, server.run(rest.clone())))];
    if node == BETA {
        let (client, _) = heartbeat_client::build(heartbeat_client::Options {
            network: SimNetwork { shared: shared.clone(), node },
            addresses: redundancy.secondary.address.clone().expect("a secondary has one"),
            connector: Connector::new(TrustMode::All, made.store.clone(), clock.clone()),
            trusts_all: true,
            keys: Arc::clone(keys),
            pair: redundancy.pair.clone(),
            channel_bound: true,
            interval: redundancy.secondary.interval,
            takeover_after: loaded.settings.takeover_after(),
            takeover_confirm: redundancy.secondary.takeover_confirm.0,
            link: handles.link.clone(),
            clock: clock.clone(),
        });
        services.push(tokio::spawn(Freezable::new(shared, node, client.run(rest.clone()))));
    }
    Ok(services)
}
