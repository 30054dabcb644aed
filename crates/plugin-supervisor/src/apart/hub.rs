//! The one task that stands between the drivers that come and go and the supervisor that stays: it holds the driver's ends
//! of the supervisor's channels, knows the current truth, and decides what a driver's death means.
//!
//! ```text
//!   nobody ──stream──► followed ──stream ends──► alone ──process dead──► bereft: Kill, then tombstone, then port free
//!                         ▲                        │                        │
//!                         └────────── stream ──────┴────────────────────────┘
//! ```
//!
//! Nothing here waits for a driver: one that does not read is ended and comes back to the truth of then.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use failover_core::{DutyOrder, Epoch, Input};
use onduty_api::failover::PluginStatus;
use onduty_api::plugin::{SupervisorNews, SupervisorOrder, from_news};
use onduty_api::wire::plugin::v1::FollowDutyResponse;
use service_kit::Clock;
use service_kit::ports::{DriverPort, TombstoneSecret};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use zeroize::Zeroizing;

use super::truth::Truth;
use super::{Options, tombstone};
use crate::SupervisorHandle;

/// Messages of one driver: an order is handed on at once, so few wait. When full the stream waits, and TCP's like with it.
const MESSAGES: usize = 16;

/// What reaches the hub.
pub(super) enum Message {
    /// A driver has connected; it gets its number.
    Follow { follower: Follower, number: oneshot::Sender<u64> },
    /// An order of the driver with that number.
    Order { number: u64, order: SupervisorOrder },
    /// Its stream is over, by its own fault if a status says so.
    Ended { number: u64, wrong: Option<Status> },
    /// Its process is dead.
    Dead { number: u64 },
    /// A process lends its listening socket.
    Lend { pid: Option<i32>, listener: OwnedFd, done: oneshot::Sender<bool> },
    /// A process gives the guard a line to itself.
    Line { pid: Option<i32>, line: OwnedFd, done: oneshot::Sender<bool> },
    /// A process that is about to open the port, in the place of one that is dead, asks whether nothing lives, and for what the
    /// dead one has lent to be let go.
    Release { done: oneshot::Sender<bool> },
    /// The tombstone was shown for as long as it may be.
    Shown { number: u64 },
}

/// A driver on its stream.
pub(super) struct Follower {
    pub(super) pid: Option<i32>,
    /// Holds its process, and nobody else.
    pub(super) process: Option<OwnedFd>,
    pub(super) answers: mpsc::Sender<Result<FollowDutyResponse, Status>>,
}

/// Where the newest driver is.
enum Driver {
    /// None has come yet.
    Nobody,
    /// On its stream.
    Follows(Follower),
    /// Its stream is over; its process may live.
    Away { pid: Option<i32> },
    /// Its process is dead.
    Dead {
        /// The epoch that was reaped without it.
        reaped: Option<Epoch>,
    },
}

/// The task.
pub(super) struct Hub {
    port: DriverPort,
    handle: SupervisorHandle,
    statuses: watch::Receiver<Arc<Vec<crate::PluginStatus>>>,
    clock: Clock,
    tombstone_for: Duration,
    stop_within: Duration,
    inbox: mpsc::Receiver<Message>,
    own: mpsc::WeakSender<Message>,
    driver: Driver,
    /// The newest driver's.
    number: u64,
    truth: Truth,
    listener: Option<OwnedFd>,
    secret: Option<TombstoneSecret>,
    showing: Option<AbortHandle>,
    /// When an orderly stop has taken too long.
    stop_by: Option<Instant>,
}

impl Hub {
    pub(super) fn new(options: Options) -> (Self, mpsc::Sender<Message>) {
        let Options { run_dir: _, port, handle, tombstone_for, stop_within, clock } = options;
        let (messages, inbox) = mpsc::channel(MESSAGES);
        let hub = Self {
            statuses: handle.statuses(),
            port,
            handle,
            clock,
            tombstone_for,
            stop_within,
            inbox,
            own: messages.downgrade(),
            driver: Driver::Nobody,
            number: 0,
            truth: Truth::default(),
            listener: None,
            secret: None,
            showing: None,
            stop_by: None,
        };
        (hub, messages)
    }

    /// Runs until `stop`, and then until nothing lives or an orderly stop has taken too long.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !self.is_over() {
            let stop_by = self.stop_by;
            // Every branch is cancel-safe: watch and channels lose nothing when dropped.
            tokio::select! {
                biased;
                () = stop.cancelled(), if stop_by.is_none() => self.begin_stopping(),
                () = async { if let Some(by) = stop_by { sleep_until(by).await } }, if stop_by.is_some() => break,
                report = self.port.reports.recv() => match report {
                    Some(report) => self.take_in(&report),
                    // The supervisor has ended.
                    None => break,
                },
                Some(message) = self.inbox.recv() => self.hear(message),
                Ok(()) = self.statuses.changed() => self.tell_statuses(),
            }
        }
        self.let_go();
        if let Driver::Follows(follower) = &self.driver {
            let _ = follower.answers.try_send(Err(Status::unavailable("the plugin supervisor is stopping")));
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Follow { follower, number } => self.welcome(follower, number),
            Message::Order { number, order } if number == self.number => self.obey(order),
            Message::Ended { number, wrong } if number == self.number => self.ended(wrong),
            Message::Dead { number } if number == self.number => self.bereave(),
            Message::Shown { number } if number == self.number => self.let_go(),
            // Of a driver that another one has replaced.
            Message::Order { .. } | Message::Ended { .. } | Message::Dead { .. } | Message::Shown { .. } => {}
            Message::Lend { pid, listener, done } => {
                let _ = done.send(self.borrow(pid, listener));
            }
            Message::Line { pid, line, done } => {
                let follows = self.follows(pid);
                if follows {
                    self.handle.lend_line(line);
                }
                let _ = done.send(follows);
            }
            Message::Release { done } => {
                // What still lives is being killed, because its driver is dead, or goes with its lease.
                let free = !matches!(self.driver, Driver::Follows(_)) && self.truth.living().is_none();
                if free {
                    self.let_go();
                }
                let _ = done.send(free);
            }
        }
    }

    // ------------------------------------------------------------------------------------ the driver

    /// The newest driver wins. What a dead one lent is let go before this one can give an order: while its tombstone is
    /// shown, nothing may run.
    fn welcome(&mut self, follower: Follower, number: oneshot::Sender<u64>) {
        let same = match std::mem::replace(&mut self.driver, Driver::Nobody) {
            Driver::Follows(old) => {
                let _ =
                    old.answers.try_send(Err(Status::aborted("another driver follows this supervisor now")));
                old.pid.is_some() && old.pid == follower.pid
            }
            Driver::Away { pid } => pid.is_some() && pid == follower.pid,
            Driver::Nobody | Driver::Dead { .. } => false,
        };
        if !same {
            self.let_go();
        }
        self.number += 1;
        tracing::info!(pid = follower.pid, "a driver follows");
        self.driver = Driver::Follows(follower);
        // It may have gone again meanwhile: then its stream's end tells.
        let _ = number.send(self.number);
        let told: Vec<SupervisorNews> = self.truth.told().collect();
        told.into_iter().for_each(|news| self.tell(news));
        self.tell_statuses();
    }

    fn obey(&mut self, order: SupervisorOrder) {
        match order {
            SupervisorOrder::Standing(order) => self.order(order),
            SupervisorOrder::ArmTombstone { epoch, secret } => {
                let secret = TombstoneSecret { epoch, secret: Zeroizing::new(secret) };
                self.secret = Some(secret.clone());
                if self.port.secrets.try_send(secret).is_err() {
                    tracing::warn!(%epoch, "the supervisor does not take the secret: no tombstone");
                }
            }
        }
    }

    fn order(&mut self, order: DutyOrder) {
        self.truth.ordered(order);
        let _ = self.port.orders.send_replace(Some(order));
    }

    fn ended(&mut self, wrong: Option<Status>) {
        let Driver::Follows(follower) = std::mem::replace(&mut self.driver, Driver::Nobody) else { return };
        let Follower { pid, process, answers } = follower;
        if let Some(status) = wrong {
            tracing::error!(%status, "the driver gave an order that makes no sense");
            let _ = answers.try_send(Err(status));
        }
        tracing::warn!("the driver's stream is over: its lease runs out unless it comes back");
        self.driver = Driver::Away { pid };
        let (Some(process), Some(hub)) = (process, self.own.upgrade()) else { return };
        let number = self.number;
        let _detached = tokio::spawn(async move {
            match process_ended(process).await {
                Ok(()) => drop(hub.send(Message::Dead { number }).await),
                Err(error) => tracing::warn!(%error, "waiting for the driver's end: the lease decides"),
            }
        });
    }

    /// The driver's process is dead: nobody renews its lease, so what it ran goes now.
    fn bereave(&mut self) {
        if !matches!(self.driver, Driver::Away { .. }) {
            return;
        }
        let reaped = self.secret.as_ref().map(|secret| secret.epoch).filter(|_| self.truth.reaped_alone());
        self.driver = Driver::Dead { reaped };
        match self.truth.living() {
            Some(epoch) => {
                tracing::error!(%epoch, "the driver is dead: its plugins are killed");
                self.order(DutyOrder::Kill { epoch });
            }
            None => self.mourn(),
        }
    }

    // ------------------------------------------------------------------------------------ the supervisor

    fn take_in(&mut self, report: &Input) {
        let alone = !matches!(self.driver, Driver::Follows(_));
        self.truth.note(report, alone);
        let fitness = matches!(report, Input::PreflightChanged { .. });
        if !(fitness && self.stop_by.is_some()) {
            self.tell(SupervisorNews::Report(report.clone()));
        }
        if let (Input::PluginsReaped { epoch }, Driver::Dead { reaped }) = (report, &mut self.driver) {
            *reaped = Some(*epoch);
            self.mourn();
        }
    }

    fn tell(&mut self, news: SupervisorNews) {
        let Driver::Follows(follower) = &self.driver else { return };
        let Some(answer) = from_news(news) else { return };
        if follower.answers.try_send(Ok(answer)).is_err() {
            // Dropping its answers ends the stream.
            self.ended(None);
        }
    }

    fn tell_statuses(&mut self) {
        let all = Arc::clone(&self.statuses.borrow_and_update());
        let plugins = all.iter().map(|status| self.detail(status)).collect();
        self.tell(SupervisorNews::Plugins(plugins));
    }

    fn detail(&self, status: &crate::PluginStatus) -> PluginStatus {
        let ago = self.clock.unix_millis().saturating_sub(status.since_unix_ms);
        PluginStatus {
            name: status.name.clone(),
            state: status.state.word().to_owned(),
            reason: status.reason.clone(),
            since: self.clock.boot() - Duration::from_millis(ago),
            pid: status.pid.and_then(|pid| u32::try_from(pid).ok()),
            restarts: status.restarts,
        }
    }

    // ------------------------------------------------------------------------------------ the port

    fn follows(&self, pid: Option<i32>) -> bool {
        matches!(&self.driver, Driver::Follows(follower) if follower.pid == pid)
    }

    /// Only of the driver that follows now: a dead one's listener would keep the port.
    fn borrow(&mut self, pid: Option<i32>, listener: OwnedFd) -> bool {
        let follows = self.follows(pid);
        let Some(lent) = listener.try_clone().ok().filter(|_| follows) else { return false };
        self.handle.lend_listener(lent);
        self.listener = Some(listener);
        true
    }

    /// The driver is dead and nothing of it lives: the tombstone, if the epoch it promised was reaped without it. Else the
    /// port is free at once.
    fn mourn(&mut self) {
        let Driver::Dead { reaped } = self.driver else { return };
        let promised = self.secret.clone().filter(|secret| Some(secret.epoch) == reaped);
        let (Some(secret), Some(listener), Some(hub)) = (promised, self.listener.take(), self.own.upgrade())
        else {
            self.let_go();
            return;
        };
        tracing::warn!(epoch = %secret.epoch, "every plugin of the dead driver is gone: showing the tombstone");
        let (span, number) = (self.tombstone_for, self.number);
        let showing = tokio::spawn(async move {
            tombstone::show(listener, secret, span).await;
            // A hub that has ended has closed everything.
            let _ = hub.send(Message::Shown { number }).await;
        });
        self.showing = Some(showing.abort_handle());
    }

    /// Stops showing and closes every copy of the listening socket: the port is free for the next driver.
    fn let_go(&mut self) {
        if let Some(showing) = self.showing.take() {
            showing.abort();
        }
        self.listener = None;
        self.secret = None;
        self.handle.give_listener_back();
    }

    // ------------------------------------------------------------------------------------ the end

    /// Has the driver give the duty up: what it is told is what a node hears whose plugins cannot be kept running.
    fn begin_stopping(&mut self) {
        self.stop_by = Some(Instant::now() + self.stop_within);
        let why = "the plugin supervisor is being stopped".to_owned();
        self.tell(SupervisorNews::Report(Input::PreflightChanged { unfit: Some(why.clone()) }));
        if let Some(epoch) = self.truth.living() {
            self.tell(SupervisorNews::Report(Input::PluginsFailed { epoch, why }));
        }
    }

    /// A stop was asked for, and nothing lives or nobody is there to give the duty up.
    fn is_over(&self) -> bool {
        let useless = self.truth.living().is_none() || !matches!(self.driver, Driver::Follows(_));
        self.stop_by.is_some() && useless
    }
}

/// A pidfd becomes readable when its process has ended.
async fn process_ended(process: OwnedFd) -> io::Result<()> {
    #[expect(deprecated, reason = "sound for an OwnedFd")]
    let process = AsyncFd::with_interest(process, Interest::READABLE)?;
    process.readable().await.map(drop)
}
