//! Starting, watching and stopping the plugins of a duty, in order: a plugin is started when those it comes after
//! are ready, and asked to stop when those that come after it have stopped.

use std::time::Duration;

use failover_core::Input;
use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::core::{Core, Internal, Purpose};
use crate::definition::{OnNewEpoch, Readiness};
use crate::duty::Phase;
use crate::life::{Consequence, Life, Step};
use crate::readiness::{Target, wait_for_http, wait_for_tcp};
use crate::timers::Timer;
use crate::wire::{Command, End, JobId};

/// Between two runs of a readiness command.
const PROBE_AGAIN: Duration = Duration::from_millis(100);
/// A plugin that survives SIGKILL for this long is stuck.
pub(crate) const KILLED: Duration = Duration::from_secs(5);

impl Core {
    /// Moves a plugin to another step.
    pub(crate) fn step(&mut self, at: usize, step: Step, reason: String) {
        let now = self.context.clock.unix_millis();
        let Some(life) = self.lives.get_mut(at) else { return };
        let before = life.state();
        life.step = step;
        if life.job().is_none() {
            life.pid = None;
        }
        if life.state() != before {
            life.since_unix_ms = now;
        }
        life.reason = reason;
        self.dirty = true;
    }

    /// Starts every plugin whose turn has come.
    pub(crate) fn start_due(&mut self) {
        if !matches!(self.phase, Phase::Running { open: true, .. }) {
            return;
        }
        for at in 0..self.lives.len() {
            let due = self.lives.get(at).is_some_and(|life| {
                let settled = |other: &usize| self.lives.get(*other).is_none_or(|other| other.settled);
                life.step == Step::Waiting && life.after.iter().all(settled)
            });
            if due {
                self.start(at);
            }
        }
    }

    fn start(&mut self, at: usize) {
        let Phase::Running { epoch, .. } = self.phase else { return };
        let Some((plugin, name)) = self.lives.get(at).map(|life| (life.plugin.clone(), life.name.clone()))
        else {
            return;
        };
        let Some(spec) = self.spec(at, &plugin.command, Some(epoch)) else { return };
        let job = self.number();
        let output = self.output.pipes(&name).unwrap_or_else(|error| {
            tracing::warn!(plugin = %name, %error, "the plugin's output cannot be captured");
            Vec::new()
        });
        self.jobs.insert(job, Purpose::Plugin(at));
        self.step(at, Step::Starting(job), String::new());
        self.timers.after(plugin.ready_within, Timer::ReadyDeadline(job));
        let command = Command::Start { job, epoch: Some(epoch.0), spec: Box::new(spec) };
        if let Err(why) = self.command(&command, output) {
            self.start_failed(job, format!("cannot be handed to the guard: {why}"));
        }
    }

    /// Its program runs: now it is asked whether it is ready.
    pub(crate) fn started(&mut self, job: JobId, pid: Option<i32>) {
        let Some(at) = self.plugin_of(job) else { return };
        let Some(life) = self.lives.get_mut(at) else { return };
        life.pid = pid;
        self.dirty = true;
        let note = format!("onduty: started as process {}, restart {}", pid.unwrap_or(0), life.restarts);
        let (name, is_awaited) = (life.name.clone(), life.step == Step::Starting(job));
        let ready = life.plugin.ready.clone();
        self.output.note(&name, note);
        if !is_awaited {
            return;
        }
        match ready {
            Readiness::StaysUp(span) => self.timers.after(span, Timer::StaysUp(job)),
            Readiness::Tcp(address) => self.watch(at, job, wait_for_tcp(address)),
            Readiness::Http(url) => {
                // Checked when the supervisor was built.
                if let Ok(target) = Target::parse(&url) {
                    self.watch(at, job, wait_for_http(target));
                }
            }
            Readiness::Command(_) => self.probe(job),
        }
    }

    /// Lets a task wait until the plugin answers.
    fn watch(&mut self, at: usize, job: JobId, answer: impl Future<Output = ()> + Send + 'static) {
        let internals = self.internals.clone();
        let task = tokio::spawn(async move {
            answer.await;
            // Nobody listens any more once the supervisor ends.
            let _ = internals.send(Internal::Answers(job)).await;
        });
        if let Some(life) = self.lives.get_mut(at) {
            life.watcher = Some(task.abort_handle());
        }
    }

    /// Runs the readiness command of the plugin with this job.
    pub(crate) fn probe(&mut self, job: JobId) {
        let Some(at) = self.plugin_of(job) else { return };
        let Some(life) = self.lives.get(at).filter(|life| life.step == Step::Starting(job)) else { return };
        let Readiness::Command(words) = life.plugin.ready.clone() else { return };
        let Phase::Running { epoch, .. } = self.phase else { return };
        let Some(spec) = self.spec(at, &words, Some(epoch)) else { return };
        let probe = self.number();
        self.jobs.insert(probe, Purpose::Probe(job));
        let command = Command::Start { job: probe, epoch: Some(epoch.0), spec: Box::new(spec) };
        if self.command(&command, Vec::new()).is_err() {
            self.jobs.remove(&probe);
        }
    }

    pub(crate) fn became_ready(&mut self, job: JobId) {
        let Some(at) = self.plugin_of(job) else { return };
        let awaited = |life: &&mut Life| life.step == Step::Starting(job) && life.doomed.is_none();
        let Some(life) = self.lives.get_mut(at).filter(awaited) else { return };
        life.stop_watching();
        life.settled = true;
        self.step(at, Step::Ready(job), String::new());
        self.start_due();
        self.announce();
    }

    pub(crate) fn was_not_ready_in_time(&mut self, job: JobId) {
        let Some(at) = self.plugin_of(job) else { return };
        let Some(life) = self.lives.get_mut(at).filter(|life| life.step == Step::Starting(job)) else {
            return;
        };
        life.stop_watching();
        life.doomed = Some(format!("was not ready within {:?}", life.plugin.ready_within));
        self.signal(job, Signal::SIGKILL);
        self.timers.after(KILLED, Timer::KilledJob(job));
    }

    /// Reports "ready" once every critical plugin is, and every other one has had its first chance.
    pub(crate) fn announce(&mut self) {
        let Phase::Running { epoch, open: true, announced } = &mut self.phase else { return };
        let done = |life: &Life| {
            if life.plugin.critical { matches!(life.step, Step::Ready(_)) } else { life.settled }
        };
        if !*announced && self.lives.iter().all(done) {
            *announced = true;
            let epoch = *epoch;
            self.report(Input::PluginsReady { epoch });
        }
    }

    pub(crate) fn start_failed(&mut self, job: JobId, why: String) {
        match self.jobs.remove(&job) {
            Some(Purpose::Plugin(at)) => {
                let Some(life) = self.lives.get_mut(at).filter(|life| life.job() == Some(job)) else {
                    return;
                };
                life.stop_watching();
                match self.phase {
                    // What cannot be executed will not be executable a second later.
                    Phase::Running { .. } => self.fail(at, why),
                    Phase::Idle | Phase::Stopping { .. } | Phase::Ending { .. } => self.stopped(at),
                }
            }
            Some(Purpose::Probe(plugin_job)) => self.timers.after(PROBE_AGAIN, Timer::ProbeAgain(plugin_job)),
            Some(Purpose::Preflight(at)) => self.preflight_ended(job, at, Err(why)),
            None => {}
        }
    }

    pub(crate) fn exited(&mut self, job: JobId, end: End) {
        match self.jobs.remove(&job) {
            Some(Purpose::Plugin(at)) => self.plugin_ended(at, job, end),
            Some(Purpose::Probe(plugin_job)) if end == End::Status(0) => self.became_ready(plugin_job),
            Some(Purpose::Probe(plugin_job)) => self.timers.after(PROBE_AGAIN, Timer::ProbeAgain(plugin_job)),
            Some(Purpose::Preflight(at)) => {
                let outcome = if end == End::Status(0) { Ok(()) } else { Err(end.to_string()) };
                self.preflight_ended(job, at, outcome);
            }
            None => {}
        }
    }

    /// Its readiness command, should one run, has nothing to ask any more.
    fn end_probe(&mut self, of: JobId) {
        let probes = self.jobs.iter().filter(|(_, purpose)| **purpose == Purpose::Probe(of));
        let probes: Vec<JobId> = probes.map(|(probe, _)| *probe).collect();
        for probe in probes {
            self.signal(probe, Signal::SIGKILL);
        }
    }

    fn plugin_ended(&mut self, at: usize, job: JobId, end: End) {
        self.end_probe(job);
        let Some(life) = self.lives.get_mut(at).filter(|life| life.job() == Some(job)) else { return };
        life.stop_watching();
        let name = life.name.clone();
        let step = life.step;
        self.output.note(&name, format!("onduty: {end}"));
        match (step, self.phase) {
            (Step::Stopping { again: true, .. }, Phase::Running { .. }) => {
                self.step(at, Step::Waiting, "is started again for the new epoch".to_owned());
                self.start_due();
            }
            (Step::Starting(_) | Step::Ready(_), Phase::Running { .. }) => self.ended_by_itself(at, end),
            (_, _) => self.stopped(at),
        }
    }

    fn ended_by_itself(&mut self, at: usize, end: End) {
        let turn = self.number();
        let Some(life) = self.lives.get_mut(at) else { return };
        let name = life.name.clone();
        match life.ended(end, Instant::now()) {
            Consequence::Rest => self.step(at, Step::Stopped, format!("{end} by itself")),
            Consequence::Again(after) => {
                // Those after a plugin that is not critical do not wait for its second attempt.
                life.settled |= !life.plugin.critical;
                let reason = format!("{end}; is started again in {after:?}");
                tracing::warn!(plugin = %name, %reason, "a plugin ended");
                self.step(at, Step::BackingOff { turn }, reason);
                self.timers.after(after, Timer::Backoff { plugin: at, turn });
                self.start_due();
                self.announce();
            }
            Consequence::Failed(why) => self.fail(at, why),
        }
    }

    pub(crate) fn backed_off(&mut self, at: usize, turn: u64) {
        if self.lives.get(at).is_some_and(|life| life.step == Step::BackingOff { turn }) {
            self.step(at, Step::Waiting, String::new());
            self.start_due();
        }
    }

    /// A plugin will not run any more under this duty.
    pub(crate) fn fail(&mut self, at: usize, why: String) {
        let Some(life) = self.lives.get_mut(at) else { return };
        life.settled |= !life.plugin.critical;
        let (name, critical) = (life.name.clone(), life.plugin.critical);
        tracing::error!(plugin = %name, %why, critical, "a plugin failed");
        self.step(at, Step::Failed, why.clone());
        if let (Phase::Running { epoch, .. }, true) = (self.phase, critical) {
            self.report(Input::PluginsFailed { epoch, why: format!("plugin `{name}`: {why}") });
        }
        self.start_due();
        self.announce();
    }

    fn stopped(&mut self, at: usize) {
        self.step(at, Step::Stopped, String::new());
        self.stop_due();
    }

    /// During a stop: asks every plugin whose turn has come; when none is left, ends what remains of them.
    pub(crate) fn stop_due(&mut self) {
        let Phase::Stopping { epoch } = self.phase else { return };
        let mut any = false;
        for at in 0..self.lives.len() {
            let Some(life) = self.lives.get(at) else { continue };
            let Some(job) = life.job() else { continue };
            any = true;
            let asked = matches!(life.step, Step::Stopping { .. });
            let needed = self.lives.iter().any(|other| other.job().is_some() && other.after.contains(&at));
            if !asked && !needed {
                self.ask_to_stop(at, job, false);
            }
        }
        if !any {
            self.end_all(epoch, false);
        }
    }

    fn ask_to_stop(&mut self, at: usize, job: JobId, again: bool) {
        let Some(life) = self.lives.get_mut(at) else { return };
        life.stop_watching();
        let plugin = life.plugin.clone();
        self.step(at, Step::Stopping { job, again }, String::new());
        self.signal(job, plugin.stop_signal);
        self.timers.after(plugin.stop_grace, Timer::Grace(job));
    }

    pub(crate) fn grace_is_over(&mut self, job: JobId) {
        let Some(at) = self.plugin_of(job) else { return };
        let Some(life) = self.lives.get(at) else { return };
        if let Step::Stopping { job: stopping, .. } = life.step
            && stopping == job
        {
            let reason = format!("did not stop within {:?} and is killed", life.plugin.stop_grace);
            tracing::warn!(plugin = %life.name, %reason, "a plugin is killed");
            self.step(at, life.step, reason);
            self.signal(job, Signal::SIGKILL);
            self.timers.after(KILLED, Timer::KilledJob(job));
        }
    }

    /// Restarts the plugins that want it because the epoch is a new one. Also those that want a signal, but have not begun:
    /// it would meet a program that cannot know it yet.
    pub(crate) fn restart_for_epoch(&mut self) {
        for at in 0..self.lives.len() {
            let Some(life) = self.lives.get(at) else { continue };
            let (Step::Starting(job) | Step::Ready(job)) = life.step else { continue };
            let restarts = match life.plugin.reload_signal {
                Some(_) => life.pid.is_none(),
                None => life.plugin.on_new_epoch == OnNewEpoch::Restart,
            };
            if restarts {
                self.ask_to_stop(at, job, true);
            }
        }
    }

    /// Sends the reload signals, once the file holds the new epoch: to those that began before it did.
    pub(crate) fn reload(&mut self) {
        let running = self.lives.iter().filter_map(|life| match life.step {
            Step::Starting(job) | Step::Ready(job) => Some((job, life.plugin.reload_signal?)),
            Step::Stopped
            | Step::Waiting
            | Step::Stopping { .. }
            | Step::BackingOff { .. }
            | Step::Failed => None,
        });
        let running: Vec<(JobId, Signal)> = running.collect();
        for (job, signal) in running {
            self.signal(job, signal);
        }
    }

    /// Signals the group of a job. If there is no guard, nothing lives that could take it.
    fn signal(&mut self, job: JobId, signal: Signal) {
        let _ = self.command(&Command::Signal { job, signal: signal as i32 }, Vec::new());
    }

    fn plugin_of(&self, job: JobId) -> Option<usize> {
        match self.jobs.get(&job) {
            Some(Purpose::Plugin(at)) => Some(*at),
            Some(Purpose::Probe(_) | Purpose::Preflight(_)) | None => None,
        }
    }
}
