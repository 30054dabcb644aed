//! The supervisor's task: one loop that takes orders, listens to the guard and waits for the next time something is
//! due. It never waits for a disk, a plugin or the driver; what could take long is done elsewhere and comes back as
//! an [`Internal`].
//!
//! ```text
//!   orders ─────────┐                         ┌─► guard (lease first, then the rest)
//!   guard's events ─┼─► duty.rs, plugins.rs ──┼─► outbox ─► driver
//!   timers ─────────┤                         └─► statuses
//!   internals ──────┘
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use failover_core::{Containment, DutyOrder, Epoch, Input, Summary};
use service_kit::Clock;
use service_kit::ports::{SupervisorPort, TombstoneSecret};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::duty::Phase;
use crate::epoch_file::EpochFile;
use crate::guard_keeper::{Job, Keeper};
use crate::guard_process::{GuardProcess, GuardStarter};
use crate::guard_watch::Owes;
use crate::life::{Life, PluginStatus};
use crate::link::{Link, Sign};
use crate::output::Output;
use crate::preflight::Preflight;
use crate::timers::{Timer, Timers};
use crate::wire::{Command, JobId};

/// What tasks and threads bring back. Few are ever under way: a watcher for each plugin, the files of one preflight,
/// one guard being replaced; when full they wait, and nobody waits for them.
const INTERNALS: usize = 64;
/// The first wait before another guard is started after one could not be; doubles.
const RESPAWN: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST_RESPAWN: Duration = Duration::from_secs(60);

/// What does not change while the supervisor runs.
pub(crate) struct Context {
    pub(crate) data_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) node: String,
    pub(crate) role: String,
    pub(crate) peer: Option<String>,
    pub(crate) project: String,
    pub(crate) tombstone_for: Duration,
    pub(crate) clock: Clock,
}

/// What the driver's process lends to the guard.
pub(crate) struct Lent {
    /// The listening socket, for the tombstone.
    pub(crate) listener: watch::Receiver<Option<Arc<OwnedFd>>>,
    /// An end of a line to that process, when it is another one.
    pub(crate) line: watch::Receiver<Option<Arc<OwnedFd>>>,
}

/// What was done elsewhere.
pub(crate) enum Internal {
    /// A plugin answers.
    Answers(JobId),
    /// The epoch file was written, or could not be.
    EpochWritten(Epoch),
    /// The files of the preflight were looked at; the problems.
    FilesChecked(Vec<String>),
    /// Nothing of the dead guard lives.
    GuardGone,
    /// What still lives of it.
    GuardRemains(String),
    /// Another guard, or why there is none.
    GuardStarted(Result<Box<GuardProcess>, String>),
}

/// What a process started by the guard is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It is this plugin.
    Plugin(usize),
    /// It looks whether the plugin of that job is ready.
    Probe(JobId),
    /// It is the preflight of this plugin.
    Preflight(usize),
}

/// Everything the task knows.
pub(crate) struct Core {
    pub(crate) context: Context,
    pub(crate) lives: Vec<Life>,
    /// `None` while there is no guard; the text says why.
    pub(crate) link: Option<Link>,
    pub(crate) guard_trouble: Option<String>,
    pub(crate) keeper: Keeper,
    pub(crate) respawn_after: Duration,
    pub(crate) phase: Phase,
    pub(crate) order: Option<DutyOrder>,
    /// The last stop or kill that was answered with "reaped".
    pub(crate) answered: Option<Epoch>,
    /// The highest epoch that was ended by force: it never comes back.
    pub(crate) fired: Option<Epoch>,
    /// Renewals since the guard last showed that it runs.
    pub(crate) unproved_renewals: u32,
    pub(crate) owes: Owes,
    /// The first epoch of what runs, or ran last.
    pub(crate) begun: Epoch,
    /// Running plugins are to be told of a new epoch as soon as the file holds it.
    pub(crate) reload_due: bool,
    /// What the guard last said survives.
    pub(crate) surviving: Option<String>,
    pub(crate) jobs: BTreeMap<JobId, Purpose>,
    pub(crate) last_number: u64,
    pub(crate) timers: Timers,
    pub(crate) preflight: Preflight,
    pub(crate) output: Output,
    pub(crate) epoch_file: EpochFile,
    pub(crate) internals: mpsc::Sender<Internal>,
    pub(crate) base_env: BTreeMap<String, String>,
    /// Promises of secrets sent to the guard and not yet confirmed, oldest first.
    pub(crate) burying: VecDeque<(u64, [u8; 32])>,
    listener: Option<Arc<OwnedFd>>,
    line: Option<Arc<OwnedFd>>,
    /// Kept, so that another listener can be lent later.
    secret: Option<TombstoneSecret>,
    /// Reports for the driver. Short by nature: news of plugins replace older ones, an epoch has few others.
    outbox: VecDeque<Input>,
    statuses: watch::Sender<Arc<Vec<PluginStatus>>>,
    containment: watch::Sender<Containment>,
    summary: Option<Summary>,
    pub(crate) dirty: bool,
}

impl Core {
    pub(crate) fn new(
        context: Context,
        lives: Vec<Life>,
        starter: GuardStarter,
        guard: GuardProcess,
        output: Output,
        statuses: watch::Sender<Arc<Vec<PluginStatus>>>,
        containment: watch::Sender<Containment>,
    ) -> io::Result<(Self, mpsc::Receiver<Internal>)> {
        let (internals, inbox) = mpsc::channel(INTERNALS);
        let epoch_file = EpochFile::start(context.run_dir.join("epoch"), internals.clone())?;
        let keeper = Keeper::start(starter, internals.clone())?;
        let core = Self {
            base_env: crate::environment::allowed(std::env::vars_os()),
            link: Some(Link::new(guard)?),
            guard_trouble: None,
            keeper,
            respawn_after: RESPAWN,
            phase: Phase::Idle,
            order: None,
            answered: None,
            fired: None,
            unproved_renewals: 0,
            owes: Owes::Nothing,
            begun: Epoch(0),
            reload_due: false,
            surviving: None,
            jobs: BTreeMap::new(),
            last_number: 0,
            timers: Timers::default(),
            preflight: Preflight::default(),
            burying: VecDeque::new(),
            listener: None,
            line: None,
            secret: None,
            outbox: VecDeque::new(),
            summary: None,
            dirty: true,
            context,
            lives,
            output,
            epoch_file,
            internals,
            statuses,
            containment,
        };
        Ok((core, inbox))
    }

    /// Every branch of the `select!` is cancel-safe: watch, channel and socket lose nothing when dropped.
    pub(crate) async fn run(
        mut self,
        port: SupervisorPort,
        mut inbox: mpsc::Receiver<Internal>,
        lent: Lent,
        stop: CancellationToken,
    ) {
        let SupervisorPort { mut orders, mut secrets, reports } = port;
        let Lent { mut listener, mut line } = lent;
        let (mut driver_lives, mut secrets_come, mut listener_comes, mut line_comes) =
            (true, true, true, true);
        listener.mark_changed();
        self.begin_preflight();
        loop {
            self.publish();
            let due = self.timers.next();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = orders.changed(), if driver_lives => match changed {
                    Ok(()) => {
                        let order = *orders.borrow_and_update();
                        self.obey(order);
                    }
                    Err(_) => {
                        driver_lives = false;
                        self.lose_driver();
                    }
                },
                sign = hear(&mut self.link) => self.see(sign),
                Some(internal) = inbox.recv() => self.take_in(internal),
                secret = secrets.recv(), if secrets_come => match secret {
                    Some(secret) => {
                        self.secret = Some(secret);
                        self.bury();
                    }
                    None => secrets_come = false,
                },
                changed = listener.changed(), if listener_comes => match changed {
                    Ok(()) => {
                        let lent = listener.borrow_and_update().clone();
                        self.hold_listener(lent);
                    }
                    Err(_) => listener_comes = false,
                },
                changed = line.changed(), if line_comes => match changed {
                    Ok(()) => {
                        self.line = line.borrow_and_update().clone();
                        self.pass_line();
                    }
                    Err(_) => line_comes = false,
                },
                permit = reports.reserve(), if driver_lives && !self.outbox.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(report) = self.outbox.pop_front() {
                            permit.send(report);
                        }
                    }
                    Err(_) => {
                        driver_lives = false;
                        self.lose_driver();
                    }
                },
                () = until(due) => self.fire_timers(),
            }
        }
        // Nobody reads it any more, and nobody may wait for that.
        drop(inbox);
        self.leave().await;
    }

    fn fire_timers(&mut self) {
        while let Some(timer) = self.timers.take_due() {
            match timer {
                Timer::StaysUp(job) => self.became_ready(job),
                Timer::ReadyDeadline(job) => self.was_not_ready_in_time(job),
                Timer::ProbeAgain(job) => self.probe(job),
                Timer::Grace(job) => self.grace_is_over(job),
                Timer::KilledJob(job) => self.survived_its_killing(job),
                Timer::Backoff { plugin, turn } => self.backed_off(plugin, turn),
                Timer::Stuck { token } => self.ending_is_stuck(token),
                Timer::EpochFile(epoch) => self.start_without_waiting(epoch),
                Timer::GuardSilent { last_chance } => self.check_silence(last_chance),
                Timer::GuardRespawn => self.start_guard(),
                Timer::Preflight { turn } => self.preflight_is_due(turn),
                Timer::PreflightLimit(job) => self.preflight_took_too_long(job),
            }
        }
    }

    fn take_in(&mut self, internal: Internal) {
        match internal {
            Internal::Answers(job) => self.became_ready(job),
            Internal::EpochWritten(epoch) => self.epoch_file_is_there(epoch),
            Internal::FilesChecked(problems) => self.files_checked(problems),
            Internal::GuardGone => self.guard_is_gone(),
            Internal::GuardRemains(what) => self.report_stuck(what),
            Internal::GuardStarted(outcome) => self.guard_started(outcome),
        }
    }

    /// Sends a command to the guard. A refusal means it is dead or stuck, which is noticed elsewhere.
    pub(crate) fn command(&mut self, command: &Command, descriptors: Vec<OwnedFd>) -> Result<(), String> {
        let link = self.link.as_mut().ok_or("there is no guard")?;
        link.send(command, descriptors).map_err(|error| error.to_string())
    }

    /// A number that was never used.
    pub(crate) const fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Puts a report into the outbox; of some only the newest matters.
    pub(crate) fn report(&mut self, report: Input) {
        let replaces = |old: &Input| {
            matches!(
                (old, &report),
                (Input::SummaryChanged(_), Input::SummaryChanged(_))
                    | (Input::PreflightChanged { .. }, Input::PreflightChanged { .. })
            )
        };
        self.outbox.retain(|old| !replaces(old));
        self.outbox.push_back(report);
    }

    /// Another listener, or none any more: then the guard lets go of its copy, and the secret means nothing.
    fn hold_listener(&mut self, lent: Option<Arc<OwnedFd>>) {
        let had_one = self.listener.is_some();
        self.listener = lent;
        if self.listener.is_some() {
            self.bury();
        } else if had_one {
            self.secret = None;
            let _ = self.command(&Command::Unbury, Vec::new());
        }
    }

    /// Gives the line to the guard: to each guard anew.
    pub(crate) fn pass_line(&mut self) {
        if let Some(line) = self.line.as_ref().and_then(|line| line.try_clone().ok()) {
            let _ = self.command(&Command::Line, vec![line]);
        }
    }

    /// Gives the newest secret to the guard, once there is a listener to show it on.
    fn bury(&mut self) {
        let (Some(secret), Some(listener), Some(_)) = (&self.secret, &self.listener, &self.link) else {
            return;
        };
        let Ok(listener) = listener.try_clone() else { return };
        let epoch = secret.epoch.0;
        let sha256 = Sha256::digest(secret.secret.as_slice()).into();
        let command = Command::Bury { epoch, secret: *secret.secret, serve: self.context.tombstone_for };
        if self.command(&command, vec![listener]).is_ok() {
            self.burying.push_back((epoch, sha256));
        }
    }

    /// Tells the watchers what has changed.
    fn publish(&mut self) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let statuses: Vec<PluginStatus> = self.lives.iter().map(Life::status).collect();
        let level = self.link.as_ref().map(Link::level);
        let plugins = statuses.iter().map(|s| (s.name.clone(), s.state.word().to_owned())).collect();
        let summary = Summary {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            project: self.context.project.clone(),
            containment: level,
            plugins,
        };
        if self.summary.as_ref() != Some(&summary) {
            self.summary = Some(summary.clone());
            self.report(Input::SummaryChanged(Box::new(summary)));
        }
        self.statuses.send_if_modified(|old| {
            let changed = **old != statuses;
            *old = Arc::new(statuses);
            changed
        });
        if let Some(level) = level {
            self.containment.send_if_modified(|old| std::mem::replace(old, level) != level);
        }
    }

    /// A planned end: the guard kills what lives and goes, without a tombstone.
    async fn leave(mut self) {
        for life in &mut self.lives {
            life.stop_watching();
        }
        let _ = self.command(&Command::Leave, Vec::new());
        if let Some(link) = self.link.take()
            && !self.keeper.give(Job::Leave(Box::new(link.into_process())))
        {
            tracing::error!("the thread that waits for the guard has ended: the guard goes by itself");
        }
        // Also for what a guard has left that died just before.
        self.keeper.finish().await;
        for life in &mut self.lives {
            life.step = crate::life::Step::Stopped;
            life.pid = None;
        }
        self.dirty = true;
        self.publish();
    }

    pub(crate) fn grow_respawn(&mut self) -> Duration {
        let now = self.respawn_after;
        self.respawn_after = (now * 2).min(LONGEST_RESPAWN);
        now
    }

    pub(crate) const fn reset_respawn(&mut self) {
        self.respawn_after = RESPAWN;
    }
}

/// What comes next from the guard's side; nothing ever when there is no guard.
async fn hear(link: &mut Option<Link>) -> Sign {
    match link {
        Some(link) => link.next().await,
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
