//! The model of the plugin supervisor: follows the standing order with the manners of the real one, and lets the guard
//! start and end the plugins.

use std::time::Duration;

use failover_core::{DutyOrder, Epoch, Input};
use service_kit::ports::SupervisorPort;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::guard::{Command, News};
use crate::world::{Secret, Shared};

/// What the plugins do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Running { epoch: Epoch },
    Stopping { epoch: Epoch },
    Ending { epoch: Epoch, fired: bool },
}

/// The supervisor of one node.
pub struct Supervisor {
    shared: Shared,
    node: usize,
    port: SupervisorPort,
    guard: mpsc::Sender<Command>,
    news: mpsc::Receiver<News>,
    phase: Phase,
    order: Option<DutyOrder>,
    answered: Option<Epoch>,
    fired: Option<Epoch>,
    /// When the plugins are ready (or have failed).
    ready_at: Option<Instant>,
}

impl Supervisor {
    /// A supervisor with nothing to do yet.
    #[must_use]
    pub const fn new(
        shared: Shared,
        node: usize,
        port: SupervisorPort,
        guard: mpsc::Sender<Command>,
        news: mpsc::Receiver<News>,
    ) -> Self {
        Self {
            shared,
            node,
            port,
            guard,
            news,
            phase: Phase::Idle,
            order: None,
            answered: None,
            fired: None,
            ready_at: None,
        }
    }

    /// Follows orders until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let preflight = std::sync::Arc::clone(&self.shared.lock().hosts[self.node].preflight);
        let plugin_died = std::sync::Arc::clone(&self.shared.lock().hosts[self.node].plugin_died);
        self.tell_preflight().await;
        loop {
            let ready_at = self.ready_at;
            let ready = async {
                match ready_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                news = self.news.recv() => match news {
                    Some(news) => self.hear(news).await,
                    None => return,
                },
                changed = self.port.orders.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.order = *self.port.orders.borrow_and_update();
                    self.renew().await;
                    self.reconcile().await;
                }
                Some(secret) = self.port.secrets.recv() => {
                    let secret = Secret { epoch: secret.epoch, bytes: *secret.secret };
                    self.command(Command::Bury(secret)).await;
                }
                () = ready => self.started().await,
                () = preflight.notified() => self.tell_preflight().await,
                () = plugin_died.notified() => self.plugin_died().await,
            }
        }
    }

    async fn tell_preflight(&mut self) {
        let unfit = self.shared.lock().hosts[self.node].unfit.clone();
        self.report(Input::PreflightChanged { unfit }).await;
    }

    async fn report(&self, input: Input) {
        // Err: the driver has ended, and so will this.
        let _ = self.port.reports.send(input).await;
    }

    async fn command(&self, command: Command) {
        let _ = self.guard.send(command).await;
    }

    /// The lease goes on for what lives, also during a stop; never for what has been fired.
    async fn renew(&self) {
        let Some((epoch, hold_until)) =
            self.order.and_then(|order| Some((order.epoch(), order.hold_until()?)))
        else {
            return;
        };
        let lives = match self.phase {
            Phase::Running { epoch: current } | Phase::Stopping { epoch: current } => epoch >= current,
            Phase::Idle | Phase::Ending { .. } => false,
        };
        if lives {
            self.command(Command::Renew(hold_until)).await;
        }
    }

    async fn reconcile(&mut self) {
        let Some(order) = self.order else { return };
        match (self.phase, order) {
            (Phase::Idle, DutyOrder::Run { epoch, hold_until }) => {
                if self.fired.is_none_or(|fired| epoch > fired) {
                    self.answered = None;
                    self.phase = Phase::Running { epoch };
                    self.ready_at = Some(Instant::now() + self.start_takes());
                    self.command(Command::Start { epoch, hold_until }).await;
                }
            }
            (Phase::Idle, DutyOrder::Stop { epoch, .. } | DutyOrder::Kill { epoch }) => {
                if self.answered != Some(epoch) {
                    self.answered = Some(epoch);
                    self.report(Input::PluginsReaped { epoch }).await;
                }
            }
            (Phase::Running { epoch: current }, DutyOrder::Run { epoch, .. }) => {
                if epoch > current {
                    self.phase = Phase::Running { epoch };
                    let soon = Instant::now() + Duration::from_millis(2);
                    self.ready_at = Some(self.ready_at.map_or(soon, |at| at.max(soon)));
                    self.command(Command::Renumber(epoch)).await;
                }
            }
            (Phase::Running { epoch }, DutyOrder::Stop { .. }) => {
                self.phase = Phase::Stopping { epoch };
                self.ready_at = None;
                self.command(Command::Stop).await;
            }
            (Phase::Running { epoch } | Phase::Stopping { epoch }, DutyOrder::Kill { .. }) => {
                self.phase = Phase::Ending { epoch, fired: false };
                self.ready_at = None;
                self.command(Command::Kill).await;
            }
            // A run that comes during a stop waits for its end.
            (Phase::Stopping { .. }, DutyOrder::Run { .. } | DutyOrder::Stop { .. })
            | (Phase::Ending { .. }, _) => {}
        }
    }

    fn start_takes(&self) -> Duration {
        self.shared.lock().hosts[self.node].start_takes
    }

    async fn started(&mut self) {
        self.ready_at = None;
        let Phase::Running { epoch } = self.phase else { return };
        let fails = {
            let mut world = self.shared.lock();
            let host = &mut world.hosts[self.node];
            let fails = host.failing_starts > 0;
            host.failing_starts = host.failing_starts.saturating_sub(1);
            host.failed_in_a_row = if fails { host.failed_in_a_row + 1 } else { 0 };
            fails
        };
        if fails {
            let why = "bridge ended with status 1".to_owned();
            self.report(Input::PluginsFailed { epoch, why }).await;
        } else {
            self.report(Input::PluginsReady { epoch }).await;
        }
    }

    /// One that was ready has ended, and may not be started again by itself.
    async fn plugin_died(&mut self) {
        if let (Phase::Running { epoch }, None) = (self.phase, self.ready_at) {
            self.shared.lock().hosts[self.node].failed_in_a_row += 1;
            self.report(Input::PluginsFailed { epoch, why: "bridge ended with status 1".to_owned() }).await;
        }
    }

    async fn hear(&mut self, news: News) {
        match news {
            News::Fired(epoch) => {
                self.fired = self.fired.max(Some(epoch));
                if let Phase::Running { epoch } | Phase::Stopping { epoch } = self.phase {
                    self.fired = self.fired.max(Some(epoch));
                    self.phase = Phase::Ending { epoch, fired: true };
                    self.ready_at = None;
                    let why = "the duty lease ran out before it was renewed".to_owned();
                    self.report(Input::GuardFired { epoch, why }).await;
                }
            }
            News::Empty(_) => self.empty().await,
            News::Buried(secret) => {
                let sha256 = Sha256::digest(secret.bytes).into();
                self.report(Input::TombstoneArmed { epoch: secret.epoch, sha256 }).await;
            }
        }
    }

    /// Nothing lives: says so, and looks at the order again.
    async fn empty(&mut self) {
        let (epoch, fired) = match self.phase {
            Phase::Stopping { epoch } => (epoch, false),
            Phase::Ending { epoch, fired } => (epoch, fired),
            Phase::Running { .. } | Phase::Idle => return,
        };
        self.phase = Phase::Idle;
        let goes_on = matches!(self.order, Some(DutyOrder::Run { epoch: wanted, .. }) if wanted == epoch);
        if fired || !goes_on {
            self.report(Input::PluginsReaped { epoch }).await;
        }
        if matches!(self.order, Some(order) if order.epoch() == epoch && !goes_on) {
            self.answered = Some(epoch);
        }
        self.reconcile().await;
    }
}
