//! What the tests share: a supervisor with a real guard in a temporary folder, a driver's end that keeps the lease
//! alive, and questions to `/proc`.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use failover_core::{DutyOrder, Epoch, Input};
use plugin_supervisor::{
    BuildError, ContainmentChoice, LogLimits, Options, Plugin, PluginState, Readiness, SupervisorHandle,
    build,
};
use service_kit::Clock;
use service_kit::ports::{DriverPort, TombstoneSecret, duty_ports};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// No test waits longer for something that has to happen; none passes or fails by this figure otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const LEVELS: [ContainmentChoice; 3] =
    [ContainmentChoice::Namespace, ContainmentChoice::Cgroup, ContainmentChoice::Group];

/// A plugin that runs a shell script.
pub fn sh(name: &str, script: &str) -> Plugin {
    let mut plugin = Plugin::new(name, ["sh", "-c", script].map(str::to_owned).to_vec());
    plugin.ready = Readiness::StaysUp(Duration::ZERO);
    plugin
}

pub struct Node {
    pub dir: tempfile::TempDir,
    pub orders: watch::Sender<Option<DutyOrder>>,
    pub secrets: mpsc::Sender<TombstoneSecret>,
    pub reports: mpsc::Receiver<Input>,
    pub handle: SupervisorHandle,
    pub stop: CancellationToken,
    pub task: JoinHandle<std::io::Result<()>>,
    renewer: Option<JoinHandle<()>>,
    seen: Vec<Input>,
}

impl Node {
    pub fn start(plugins: Vec<Plugin>) -> Self {
        Self::start_at(ContainmentChoice::Auto, plugins).unwrap()
    }

    /// `None`, said loudly, where this level cannot be had.
    pub fn start_or_skip(level: ContainmentChoice, plugins: Vec<Plugin>) -> Option<Self> {
        match Self::start_at(level, plugins) {
            Ok(node) => Some(node),
            Err(BuildError::Guard(why)) => {
                eprintln!("SKIPPED at {level:?}: {why}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub fn start_at(level: ContainmentChoice, plugins: Vec<Plugin>) -> Result<Self, BuildError> {
        let dir = tempfile::tempdir().unwrap();
        let (port, supervisor_port) = duty_ports();
        let DriverPort { orders, secrets, reports } = port;
        let (supervisor, handle) = build(Options {
            plugins,
            containment: level,
            data_dir: dir.path().to_owned(),
            run_dir: dir.path().join("run"),
            node: "node-a".to_owned(),
            role: "primary".to_owned(),
            peer: Some("node-b".to_owned()),
            project: "f00".to_owned(),
            tombstone_for: Duration::from_secs(10),
            log: LogLimits::default(),
            clock: Clock::real(),
            port: supervisor_port,
            guard_command: vec![env!("CARGO_BIN_EXE_guard-for-tests").into(), "guard".into()],
        })?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(supervisor.run(stop.clone()));
        let (renewer, seen) = (None, Vec::new());
        Ok(Self { dir, orders, secrets, reports, handle, stop, task, renewer, seen })
    }

    /// Keeps this order standing with a lease of ten seconds.
    pub fn hold(&mut self, order: impl Fn(failover_core::BootTime) -> DutyOrder + Send + 'static) {
        if let Some(renewer) = self.renewer.take() {
            renewer.abort();
        }
        let orders = self.orders.clone();
        let lease = || Clock::real().boot() + Duration::from_secs(10);
        orders.send_replace(Some(order(lease())));
        self.renewer = Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                orders.send_replace(Some(order(lease())));
            }
        }));
    }

    pub fn run(&mut self, epoch: u64) {
        self.hold(move |hold_until| DutyOrder::Run { epoch: Epoch(epoch), hold_until });
    }

    pub fn stop_plugins(&mut self, epoch: u64) {
        self.hold(move |hold_until| DutyOrder::Stop { epoch: Epoch(epoch), hold_until });
    }

    pub fn kill_plugins(&mut self, epoch: u64) {
        self.hold(move |_| DutyOrder::Kill { epoch: Epoch(epoch) });
    }

    /// One order, never renewed.
    pub fn order_once(&mut self, order: DutyOrder) {
        if let Some(renewer) = self.renewer.take() {
            renewer.abort();
        }
        self.orders.send_replace(Some(order));
    }

    /// Waits for a report; those before it are kept in `seen` except summaries.
    pub async fn wait(&mut self, what: impl Fn(&Input) -> bool) -> Input {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let report = self.reports.recv().await.expect("the supervisor has ended");
                if what(&report) {
                    return report;
                }
                if !matches!(report, Input::SummaryChanged(_)) {
                    self.seen.push(report);
                }
            }
        });
        match found.await {
            Ok(report) => report,
            Err(_) => panic!(
                "it never came; seen {:?}, plugins {:?}",
                self.seen,
                self.handle.statuses().borrow().as_slice()
            ),
        }
    }

    pub async fn wait_ready(&mut self, epoch: u64) {
        self.wait(|r| *r == Input::PluginsReady { epoch: Epoch(epoch) }).await;
    }

    pub async fn wait_reaped(&mut self, epoch: u64) {
        self.wait(|r| *r == Input::PluginsReaped { epoch: Epoch(epoch) }).await;
    }

    /// Waits until a plugin is in a state; gives its status.
    pub async fn wait_state(&self, name: &str, state: PluginState) -> plugin_supervisor::PluginStatus {
        let mut statuses = self.handle.statuses();
        let is = |s: &plugin_supervisor::PluginStatus| s.name == name && s.state == state;
        let found = tokio::time::timeout(PATIENCE, statuses.wait_for(|all| all.iter().any(is))).await;
        match found {
            Ok(found) => found.unwrap().iter().find(|s| is(s)).unwrap().clone(),
            Err(_) => panic!("{name} is never {state:?}: {:?}", self.handle.statuses().borrow()),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Ends the supervisor; afterwards nothing may live.
    pub async fn end(mut self) {
        if let Some(renewer) = self.renewer.take() {
            renewer.abort();
        }
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, &mut self.task).await.expect("it does not end").unwrap().unwrap();
        assert_eq!(survivors(self.dir.path()), BTreeMap::new());
    }
}

/// Waits until a file has content; gives it.
pub async fn wait_file(path: &Path) -> String {
    wait_until(&format!("{} is written", path.display()), || {
        std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n'))
    })
    .await
}

/// Waits until a question has an answer.
pub async fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Living processes of plugins that belong to this folder (they have it in their environment), with their names.
pub fn survivors(dir: &Path) -> BTreeMap<i32, String> {
    let mark = format!("ONDUTY_DATA_DIR={}", dir.display());
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let env = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            env.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) && is_alive(*pid)
        })
        .map(|pid| (pid, std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()))
        .collect()
}

pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// The guard's process id, from the run file.
pub fn guard_pid(dir: &Path) -> i32 {
    let text = std::fs::read_to_string(dir.join("run/guard.json")).unwrap();
    let run: serde_json::Value = serde_json::from_str(&text).unwrap();
    i32::try_from(run["guard"]["pid"].as_i64().unwrap()).unwrap()
}

pub fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}
