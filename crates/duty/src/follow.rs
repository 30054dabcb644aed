//! The driver's way to a supervisor that runs in another process: it stands at the supervisor's ends of the channels and
//! carries orders and reports over `FollowDuty`, over every supervisor that comes and goes.
//!
//! ```text
//!   driver ══ the same channels as in one process ══ Follower ── FollowDuty, unix socket ──► supervisor
//!                                                       └─────── listening socket ─────────► (for the tombstone)
//!                                                       └─────── a line ───────────────────► guard
//! ```
//!
//! While the supervisor is away the node is unfit, and orders are answered by what is certain:
//!
//! - An epoch that was never put on any stream: no supervisor can have begun it. A run has failed; a stop is done.
//! - One that was: its plugins may live until the last lease that went out, so nothing is said before that; then the guard
//!   has fired. That they are *gone* is said by the next supervisor, which ends leftovers before it answers; by whoever
//!   makes sure that the last one is dead and ends its leftovers (`NothingLives`); or by the guard itself, over its line.
//!
//! A supervisor that stands still renews no lease: the guard ends the plugins and says so. When the supervisor has not said
//! the same a moment later, it counts as away, so that the other node can take over while this one's guard is all that moves.
//!
//! (`follow/doubt.rs` keeps this apart from the connection; `follow/away.rs` is what is done while there is none;
//! `follow/lend.rs` is what a supervisor is given.)
//!
//! A supervisor that comes back without the epoch is a new one. The epoch is never run again there, because a tombstone
//! may have been shown for it. One that has an epoch of a driver before this one ends it first; meanwhile it counts as away.

mod away;
mod doubt;
mod lend;
mod overdue;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use failover_core::{DutyOrder, Epoch, Input};
use onduty_api::failover::PluginStatus;
use onduty_api::plugin::{SupervisorNews, SupervisorOrder, news};
use onduty_api::unix_channel;
use onduty_api::wire::plugin::v1::plugin_supervisor_service_client::PluginSupervisorServiceClient;
use onduty_api::wire::plugin::v1::{FollowDutyRequest, FollowDutyResponse};
use service_kit::Clock;
use service_kit::guard_line::DriverEnd;
use service_kit::ports::SupervisorPort;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use doubt::Doubt;
use overdue::Overdue;

/// Orders on their way. The newest replaces the one before until one of these is free, so a supervisor that does not read
/// gets few old ones.
const ORDERS: usize = 4;
/// A supervisor that lives answers at once.
const ANSWER: Duration = Duration::from_secs(3);
/// The first wait after a supervisor went away; doubles.
const FIRST_WAIT: Duration = Duration::from_millis(5);
/// The longest: a supervisor that starts is found within this.
const LONGEST_WAIT: Duration = Duration::from_millis(320);

/// How long a connection is waited for before orders are answered without it: the socket of one that stands still takes it.
const HEAD_START: Duration = Duration::from_millis(300);
/// Between two tries to lend the line to a supervisor whose plugins run.
const LEND_AGAIN: Duration = Duration::from_secs(1);
/// How long a guard that is asked may take: as long as killing takes, and some more.
const GUARD_ANSWER: Duration = Duration::from_millis(200);

/// Makes sure that no supervisor runs and that nothing lives of the last one; `false` when that is not certain. May take
/// seconds; called again and again while the supervisor is away and something of it may live.
pub type NothingLives = Arc<dyn Fn() -> bool + Send + Sync>;

/// What a follower needs.
pub struct FollowOptions {
    /// The supervisor's socket.
    pub socket: PathBuf,
    /// The socket on which the listening socket is lent.
    pub listener_socket: PathBuf,
    /// The listening socket, for the tombstone; none without a link.
    pub listener: Option<OwnedFd>,
    /// The supervisor's ends of the channels to the driver.
    pub port: SupervisorPort,
    /// Looks after what a dead supervisor left.
    pub nothing_lives: NothingLives,
    /// The clock.
    pub clock: Clock,
}

/// Carries orders and reports between the driver and a supervisor elsewhere.
pub struct Follower {
    options: FollowOptions,
    plugins: watch::Sender<Arc<Vec<PluginStatus>>>,
    doubt: Doubt,
    /// The supervisor's word on fitness, kept back until everything is settled with it.
    fitness: Option<Input>,
    settled: bool,
    /// To the guard of the newest supervisor.
    line: Option<DriverEnd>,
    /// The newest epoch of which the guard has said that it is gone.
    gone: Option<Epoch>,
    /// The guard has said that nothing lives, and the supervisor nothing since.
    empty: bool,
    /// Leftovers were looked for since a supervisor was followed.
    swept: bool,
}

/// Why a supervisor is not followed any more.
enum Gone {
    /// It went, or never answered.
    Away(String),
    /// The driver has ended.
    Driver,
}

impl Follower {
    /// A follower, and the plugins as the newest supervisor shows them.
    #[must_use]
    pub fn new(options: FollowOptions) -> (Self, watch::Receiver<Arc<Vec<PluginStatus>>>) {
        let (plugins, seen) = watch::channel(Arc::default());
        let follower = Self {
            options,
            plugins,
            doubt: Doubt::default(),
            fitness: None,
            settled: false,
            line: None,
            gone: None,
            empty: false,
            swept: false,
        };
        (follower, seen)
    }

    /// Follows until `stop`, or until the driver has ended.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut wait = FIRST_WAIT;
        let following = async {
            // Nothing is said before the first try: a node that starts would be passed over for an instant's sake.
            loop {
                let Gone::Away(why) = self.follow(&mut wait).await else { return None::<()> };
                tracing::debug!(why, "the plugin supervisor is away");
                // Unfit first: a node whose plugins are gone is not to begin again here.
                self.report_away(&why).await?;
                self.show_nothing();
                let asked = self.look_after_leftovers().await?;
                let pause = if asked { wait.max(GUARD_ANSWER) } else { wait };
                self.while_away(tokio::time::sleep(pause)).await?;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        };
        // Cancel-safe: at the end nothing is carried any more.
        tokio::select! {
            () = stop.cancelled() => {}
            _ended = following => {}
        }
    }

    /// `None` when the driver has ended.
    async fn report(&self, report: Input) -> Option<()> {
        self.options.port.reports.send(report).await.ok()
    }

    async fn report_away(&self, why: &str) -> Option<()> {
        self.report_unfit(format!("the plugin supervisor is away: {why}")).await
    }

    async fn report_unfit(&self, why: String) -> Option<()> {
        self.report(Input::PreflightChanged { unfit: Some(why) }).await
    }

    /// Nobody knows what the plugins do.
    fn show_nothing(&self) {
        self.plugins.send_if_modified(|plugins| {
            let unknown = |plugin: &PluginStatus| PluginStatus {
                state: "unknown".to_owned(),
                reason: "the plugin supervisor is away".to_owned(),
                pid: None,
                ..plugin.clone()
            };
            *plugins = Arc::new(plugins.iter().map(unknown).collect());
            true
        });
    }

    // ------------------------------------------------------------------------------------ following

    async fn follow(&mut self, wait: &mut Duration) -> Gone {
        (self.fitness, self.settled) = (None, false);
        let (orders, requests) = mpsc::channel(ORDERS);
        let connecting = connect(self.options.socket.clone(), requests);
        tokio::pin!(connecting);
        let connected = match timeout(HEAD_START, &mut connecting).await {
            Ok(connected) => Some(connected),
            Err(_elapsed) => match self.report_away("it does not answer").await {
                Some(()) => self.while_away(connecting).await,
                None => None,
            },
        };
        let mut answers = match connected {
            Some(Ok(answers)) => answers,
            Some(Err(why)) => return Gone::Away(why),
            None => return Gone::Driver,
        };
        let standing = match self.hear_truth(&mut answers).await {
            Ok(standing) => standing,
            Err(gone) => return gone,
        };
        *wait = FIRST_WAIT;
        // What the guard said belongs to the time before; and where the supervisor does not know what was sent, it is another
        // one, whose guard the line does not lead to.
        (self.gone, self.empty, self.swept) = (None, false, false);
        if standing.is_none() || standing != self.doubt.sent {
            self.line = None;
        }
        tracing::info!("following the plugin supervisor");
        if let Err(gone) = self.settle(standing, &orders, &mut answers).await {
            return gone;
        }
        self.settled = true;
        if let Some(fitness) = self.fitness.take()
            && self.report(fitness).await.is_none()
        {
            return Gone::Driver;
        }
        self.carry(&orders, &mut answers).await
    }

    /// Hands on what the supervisor knows, and returns the epoch of which something may live.
    async fn hear_truth(
        &mut self,
        answers: &mut Streaming<FollowDutyResponse>,
    ) -> Result<Option<Epoch>, Gone> {
        let hearing = async {
            loop {
                match next(answers).await? {
                    SupervisorNews::Standing { epoch } => return Ok(epoch),
                    other @ (SupervisorNews::Report(_) | SupervisorNews::Plugins(_)) => {
                        self.hand_on(other).await?
                    }
                }
            }
        };
        timeout(ANSWER, hearing)
            .await
            .unwrap_or_else(|_elapsed| Err(Gone::Away("it does not say what stands".to_owned())))
    }

    async fn hand_on(&mut self, news: SupervisorNews) -> Result<(), Gone> {
        match news {
            SupervisorNews::Report(fitness @ Input::PreflightChanged { .. }) if !self.settled => {
                self.fitness = Some(fitness);
                Ok(())
            }
            SupervisorNews::Report(report) => {
                if let Input::PluginsReaped { epoch } = &report {
                    self.doubt.reaped(*epoch);
                }
                self.report(report).await.ok_or(Gone::Driver)
            }
            SupervisorNews::Plugins(plugins) => {
                self.plugins.send_replace(Arc::new(plugins));
                Ok(())
            }
            SupervisorNews::Standing { .. } => Err(Gone::Away("it says twice what stands".to_owned())),
        }
    }

    /// Brings what this driver believes and what the supervisor knows together, before any order goes out.
    async fn settle(
        &mut self,
        standing: Option<Epoch>,
        orders: &mpsc::Sender<FollowDutyRequest>,
        answers: &mut Streaming<FollowDutyResponse>,
    ) -> Result<(), Gone> {
        if let Some(epoch) = standing.filter(|epoch| self.doubt.sent != Some(*epoch)) {
            // Of a driver before this one: it ends before anything else.
            tracing::warn!(%epoch, "an earlier run has left plugins behind: they are killed");
            let kill = SupervisorOrder::Standing(DutyOrder::Kill { epoch });
            orders.try_send(kill.into()).map_err(|_full| Gone::Away("it takes no orders".to_owned()))?;
            self.doubt.inherits(epoch);
            self.await_reaped(epoch, answers).await?;
        }
        let order = *self.options.port.orders.borrow();
        if let Some(epoch) = order.and_then(|order| self.doubt.lost(order, standing)) {
            let why = "the plugin supervisor was replaced; the guard of the one before has ended the plugins";
            self.report(Input::GuardFired { epoch, why: why.to_owned() }).await.ok_or(Gone::Driver)?;
        }
        Ok(())
    }

    /// An earlier run's plugins may not die: the duty is not to come to this node meanwhile.
    async fn await_reaped(
        &mut self,
        epoch: Epoch,
        answers: &mut Streaming<FollowDutyResponse>,
    ) -> Result<(), Gone> {
        let (patient_until, mut patient) = (Instant::now() + HEAD_START, true);
        loop {
            let news = if patient {
                match timeout_at(patient_until, next(answers)).await {
                    Ok(news) => news?,
                    Err(_elapsed) => {
                        patient = false;
                        let why = "the plugin supervisor still ends the plugins of an earlier run".to_owned();
                        self.report_unfit(why).await.ok_or(Gone::Driver)?;
                        continue;
                    }
                }
            } else {
                self.while_away(next(answers)).await.ok_or(Gone::Driver)??
            };
            let reaped = matches!(&news, SupervisorNews::Report(Input::PluginsReaped { epoch: gone }) if *gone == epoch);
            self.hand_on(news).await?;
            if reaped {
                return Ok(());
            }
        }
    }

    /// Whether the order is to run what was never sent.
    fn begins(&self) -> bool {
        let order = *self.options.port.orders.borrow();
        matches!(order, Some(DutyOrder::Run { epoch, .. }) if self.doubt.sent != Some(epoch))
    }

    /// The supervisor moves, whatever it says: only where a lease has ended the plugins it has to say more.
    async fn take_in(
        &mut self,
        news: Result<SupervisorNews, Gone>,
        overdue: &mut Overdue,
    ) -> Result<(), Gone> {
        self.empty = false;
        if self.gone.is_none() {
            overdue.ends();
        }
        self.hand_on(news?).await
    }

    /// Whether the guard has ended what was sent, and the supervisor has not said so.
    fn ended_past_the_supervisor(&self) -> bool {
        let living = self.doubt.in_doubt();
        living.is_some() && (self.empty || self.gone >= living)
    }

    /// Carries orders out and reports in, until either side ends.
    async fn carry(
        &mut self,
        orders: &mpsc::Sender<FollowDutyRequest>,
        answers: &mut Streaming<FollowDutyResponse>,
    ) -> Gone {
        self.options.port.orders.mark_changed();
        let (mut due, mut secrets_come) = (false, true);
        // Beside the orders: a lease that has to be renewed waits for nothing that may be slow.
        let line = lend::line(&self.options, Duration::ZERO);
        let listener = lend::listener(&self.options);
        tokio::pin!(line, listener);
        let (mut has_line, mut has_listener) = (false, false);
        let mut overdue = Overdue::default();
        loop {
            // Cancel-safe: a permit that is not used is given back, and a stream's message is taken whole or not at all. The
            // guard's word comes before what the supervisor makes of it.
            tokio::select! {
                biased;
                changed = self.options.port.orders.changed() => match changed {
                    Ok(()) => due = true,
                    Err(_) => return Gone::Driver,
                },
                permit = orders.reserve(), if due && (has_line || !self.begins()) => {
                    let Ok(permit) = permit else { return Gone::Away("its stream broke".to_owned()) };
                    due = false;
                    let order = *self.options.port.orders.borrow_and_update();
                    if let Some(order) = order.filter(|order| self.doubt.may_go(*order)) {
                        self.doubt.goes(order);
                        permit.send(SupervisorOrder::Standing(order).into());
                    }
                }
                word = word(self.line.as_ref()) => {
                    self.note(word);
                    overdue.hears(word);
                }
                news = next(answers) => if let Err(gone) = self.take_in(news, &mut overdue).await {
                    return gone;
                },
                lent = &mut line, if !has_line => match lent {
                    Ok(line) => (has_line, self.line) = (true, Some(line)),
                    Err(why) if self.begins() => {
                        return Gone::Away(format!("it takes no line to its guard: {why}"));
                    }
                    Err(why) => {
                        tracing::warn!(why, "the plugin supervisor takes no line to its guard yet");
                        line.set(lend::line(&self.options, LEND_AGAIN));
                    }
                },
                () = &mut listener, if has_line && !has_listener => has_listener = true,
                () = overdue.comes(), if overdue.is_set() => {
                    if overdue.is_over() && self.ended_past_the_supervisor() {
                        return Gone::Away("it stands still, and its guard has ended the plugins".to_owned());
                    }
                }
                secret = self.options.port.secrets.recv(), if secrets_come => match secret {
                    // Without room the peer goes by silence: slower, not less safe.
                    Some(secret) => {
                        let (epoch, secret) = (secret.epoch, *secret.secret);
                        drop(orders.try_send(SupervisorOrder::ArmTombstone { epoch, secret }.into()));
                    }
                    None => secrets_come = false,
                },
            }
        }
    }
}

async fn connect(
    socket: PathBuf,
    requests: mpsc::Receiver<FollowDutyRequest>,
) -> Result<Streaming<FollowDutyResponse>, String> {
    let connecting = async {
        let channel = unix_channel::connect(&socket).await.map_err(|error| told(&error))?;
        let answered = PluginSupervisorServiceClient::new(channel)
            .follow_duty(ReceiverStream::new(requests))
            .await
            .map_err(|status| status.message().to_owned())?;
        Ok(answered.into_inner())
    };
    timeout(ANSWER, connecting).await.unwrap_or_else(|_elapsed| Err("it does not answer".to_owned()))
}

/// What the guard says next ([`DriverEnd::word`]); for ever silent without a line. Cancel-safe.
async fn word(line: Option<&DriverEnd>) -> Option<Epoch> {
    match line {
        Some(line) => line.word().await,
        None => std::future::pending().await,
    }
}

/// The next of the supervisor's news. Cancel-safe.
async fn next(answers: &mut Streaming<FollowDutyResponse>) -> Result<SupervisorNews, Gone> {
    match answers.message().await {
        Ok(Some(answer)) => {
            news(answer).map_err(|invalid| Gone::Away(format!("it says what makes no sense: {invalid}")))
        }
        Ok(None) => Err(Gone::Away("it has ended the stream".to_owned())),
        Err(status) => Err(Gone::Away(status.message().to_owned())),
    }
}

/// The innermost cause: the layers above it only say that there is one.
fn told(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    format!("its socket does not answer ({innermost})")
}
