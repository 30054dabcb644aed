//! The guard's loop: one thread, one `poll`, and nothing in it that waits for a disk, a plugin or the manager.
//!
//! ```text
//!   socket ──► lease at once; everything else in turn      lease over, or socket closed
//!   SIGCHLD ─► reap, tell                                        │
//!   timer ───► the lease is over                                 ▼
//!   shims ───► a program has begun                      kill, reap, until nothing lives
//!   line ────► the driver ends an epoch itself                   │ manager dead
//!                                                                ▼
//!                                                       tombstone, then the end
//! ```
//!
//! The lease is judged by its deadline alone, first thing in every turn: neither the number of waiting messages nor
//! a flood of dying children comes before it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use failover_core::Epoch;
use nix::sys::signalfd::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec};

use service_kit::guard_line::{self, Heard, Word};

use super::jobs::{Jobs, News};
use super::kill::{Ending, cgroup_is_empty, is_first_process};
use super::tombstone::{self, Grave};
use super::{Again, enter, signals};
use crate::lease_timer::LeaseTimer;
use crate::wire::{self, Command, Event, JobId, Received, Spec};

/// Starts that wait for their turn. More than plugins can be configured; beyond it a start is refused.
const WAITING_STARTS: usize = 256;
/// Events the manager has not taken. It is written to without waiting; a manager that leaves this many unread for
/// its whole lease is as good as dead, and is treated so.
const WAITING_EVENTS: usize = 2048;

struct Start {
    job: JobId,
    epoch: Option<u64>,
    spec: Spec,
    output: Vec<OwnedFd>,
}

struct Guard {
    socket: OwnedFd,
    deaths: SignalFd,
    /// Of the lease. The manager sets it.
    timer: LeaseTimer,
    jobs: Jobs,
    /// The other end of the socket is there, and has not said goodbye.
    managed: bool,
    /// The epoch of the lease that is in force.
    lease: Option<u64>,
    /// The highest epoch whose lease ran out: it never comes back.
    fired: Option<u64>,
    ending: Option<Ending>,
    starts: VecDeque<Start>,
    events: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    grave: Option<Grave>,
    /// To the driver's process, when it is not the manager.
    line: Option<OwnedFd>,
    /// The epoch of which the driver is to hear that it is gone.
    owed: Option<u64>,
    buffer: Vec<u8>,
}

/// Runs the guard until the manager has gone and nothing lives.
pub(super) fn main(socket: OwnedFd, again: Again) -> io::Result<()> {
    // Not in the manager's session: what a terminal sends to the manager's group does not hit the guard.
    let _ = nix::unistd::setsid();
    nix::sys::prctl::set_child_subreaper(true)?;
    if is_first_process() {
        enter::settle_in();
    }
    let mut guard = Guard {
        socket,
        deaths: signals::set_up()?,
        timer: LeaseTimer::create()?,
        jobs: Jobs::new(again),
        managed: true,
        lease: None,
        fired: None,
        ending: None,
        starts: VecDeque::new(),
        events: VecDeque::new(),
        grave: None,
        line: None,
        owed: None,
        buffer: Vec::new(),
    };
    guard.tell(&Event::Ready, None);
    guard.watch()?;
    guard.grave.take().map_or(Ok(()), tombstone::serve)
}

impl Guard {
    fn watch(&mut self) -> io::Result<()> {
        loop {
            self.judge_lease();
            let news = self.jobs.begun();
            self.tell_all(news);
            let (news, anything_lives) = self.jobs.reap();
            self.tell_all(news);
            self.go_on_ending(anything_lives);
            if !self.managed && self.ending.is_none() {
                return Ok(());
            }
            self.start_one();
            self.flush();
            self.wait()?;
            self.listen();
            self.hear_driver();
        }
    }

    /// The lease ran out and nothing has renewed it: nothing of its epoch may live, and nothing of it may start again.
    fn judge_lease(&mut self) {
        let Some(epoch) = self.lease.filter(|_| self.timer.is_over()) else { return };
        self.fire(epoch);
    }

    /// Told before what is refused because of it.
    fn fire(&mut self, epoch: u64) {
        self.lease = None;
        self.forbid(epoch);
        self.tell(&Event::Fired { epoch }, None);
        self.end_everything();
    }

    /// Nothing of this epoch runs again under this guard; the driver hears when nothing lives.
    fn forbid(&mut self, epoch: u64) {
        self.fired = self.fired.max(Some(epoch));
        self.owed = self.owed.max(Some(epoch));
    }

    /// The driver ends an epoch past the manager, which may stand still. One that a newer lease has replaced is over already,
    /// and what lives belongs to the newer one.
    fn hear_driver(&mut self) {
        while let Some(line) = &self.line {
            match guard_line::hear(line) {
                Heard::Word(Word::End(epoch)) => {
                    if self.lease.is_none_or(|held| held <= epoch.0) {
                        self.fire(epoch.0);
                    }
                }
                Heard::Word(Word::Gone(_) | Word::Empty) | Heard::Garbage => {}
                Heard::Nothing => return,
                Heard::Closed => self.line = None,
            }
        }
    }

    /// Kills at once; the answer comes when nothing lives.
    fn end_everything(&mut self) -> &mut Ending {
        for start in std::mem::take(&mut self.starts) {
            let why = "everything is being ended".to_owned();
            self.tell(&Event::StartFailed { job: start.job, why }, None);
        }
        let ending = self.ending.get_or_insert_with(Ending::begin);
        ending.strike(&self.jobs);
        ending
    }

    /// Without a manager nothing starts again, of whatever epoch, and there is nobody to tell but the driver.
    fn end_for_good(&mut self) {
        self.managed = false;
        self.events.clear();
        self.lease = None;
        self.owed = Some(u64::MAX);
        self.end_everything();
    }

    fn go_on_ending(&mut self, anything_lives: bool) {
        let Some(ending) = &mut self.ending else { return };
        if anything_lives || self.jobs.cgroup.as_deref().is_some_and(|cgroup| !cgroup_is_empty(cgroup)) {
            ending.strike(&self.jobs);
            if let Some(what) = ending.survivors() {
                self.tell(&Event::Surviving { what }, None);
            }
            return;
        }
        let tokens = std::mem::take(&mut ending.tokens);
        self.ending = None;
        let owed = self.owed.take();
        if let Some(line) = &self.line {
            // Before the manager hears it: what the manager then says comes after this word.
            let word = owed.map_or(Word::Empty, |epoch| Word::Gone(Epoch(epoch)));
            let _ = guard_line::say(line, word);
        }
        for token in tokens {
            self.tell(&Event::Empty { token }, None);
        }
    }

    fn start_one(&mut self) {
        let Some(start) = self.starts.pop_front() else { return };
        // Looked at anew: it may have ended within this turn.
        let held = self.lease.filter(|_| !self.timer.is_over());
        let outcome = match start.epoch {
            Some(epoch) if held.is_none_or(|held| epoch > held) => {
                Err(format!("no lease for epoch {epoch} is in force"))
            }
            _ if self.ending.is_some() => Err("everything is being ended".to_owned()),
            _ => {
                self.jobs.start(start.job, start.spec, start.output).map_err(|e| format!("cannot start: {e}"))
            }
        };
        if let Err(why) = outcome {
            self.tell(&Event::StartFailed { job: start.job, why }, None);
        }
    }

    /// Waits until there is something to do.
    fn wait(&mut self) -> io::Result<()> {
        let pause = match &self.ending {
            _ if !self.starts.is_empty() || self.jobs.behind => Some(Duration::ZERO),
            Some(ending) => Some(ending.pause()),
            None => None,
        };
        let pause = pause.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        let mut interest = PollFlags::IN;
        if !self.events.is_empty() {
            interest |= PollFlags::OUT;
        }
        let mut fds = vec![PollFd::new(&self.deaths, PollFlags::IN)];
        if self.lease.is_some() {
            fds.push(PollFd::new(&self.timer, PollFlags::IN));
        }
        if self.managed {
            fds.push(PollFd::new(&self.socket, interest));
        }
        fds.extend(self.line.iter().map(|line| PollFd::new(line, PollFlags::IN)));
        fds.extend(self.jobs.shims().map(|shim| PollFd::new(shim, PollFlags::IN)));
        match rustix::event::poll(&mut fds, pause.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        while let Ok(Some(_)) = self.deaths.read_signal() {}
        Ok(())
    }

    /// Takes every waiting message: a lease never waits behind a start.
    fn listen(&mut self) {
        while self.managed {
            match wire::receive::<Command>(&self.socket, &mut self.buffer) {
                Received::Nothing => return,
                Received::Closed => self.end_for_good(),
                Received::Garbage(why) => self.tell(&Event::Refused { why }, None),
                Received::Message(command, passed) => self.obey(command, passed),
            }
        }
    }

    fn obey(&mut self, command: Command, passed: Vec<OwnedFd>) {
        match command {
            Command::Configure { cgroup } => {
                self.jobs.cgroup = cgroup;
                if let Some(timer) = passed.into_iter().next() {
                    self.timer = LeaseTimer::of(timer);
                }
            }
            Command::Lease { epoch } => self.take_lease(epoch),
            Command::Start { job, epoch, spec } => {
                if self.starts.len() >= WAITING_STARTS {
                    let why = format!("{WAITING_STARTS} starts are waiting already");
                    self.tell(&Event::StartFailed { job, why }, None);
                } else {
                    self.starts.push_back(Start { job, epoch, spec: *spec, output: passed });
                }
            }
            Command::Signal { job, signal } => {
                // What still waits for its start begins first, in its turn: a signal is for something that runs.
                while self.starts.iter().any(|start| start.job == job) {
                    self.start_one();
                }
                if let Err(why) = self.jobs.signal(job, signal) {
                    self.tell(&Event::Refused { why }, None);
                }
            }
            Command::Ask => self.tell(&Event::Here, None),
            Command::EndAll { token } => {
                self.lease = None;
                self.end_everything().tokens.push(token);
                self.tell(&Event::Ending { token }, None);
            }
            Command::Bury { epoch, secret, serve } => {
                self.grave = Some(Grave { epoch, secret, serve, listener: passed.into_iter().next() });
                self.tell(&Event::Buried { epoch }, None);
            }
            Command::Unbury => self.grave = None,
            Command::Line => self.line = passed.into_iter().next(),
            Command::Leave => {
                self.grave = None;
                self.end_for_good();
            }
        }
    }

    fn take_lease(&mut self, epoch: u64) {
        if self.fired.is_some_and(|fired| epoch <= fired) || self.lease.is_some_and(|held| epoch < held) {
            let why = format!("a lease for epoch {epoch}, which is over");
            self.tell(&Event::Refused { why }, None);
            return;
        }
        self.lease = Some(epoch);
        self.tell(&Event::Held { epoch }, None);
    }

    fn tell_all(&mut self, news: News) {
        for (event, descriptor) in news {
            self.tell(&event, descriptor);
        }
    }

    fn tell(&mut self, event: &Event, descriptor: Option<OwnedFd>) {
        if !self.managed {
            return;
        }
        if self.events.len() >= WAITING_EVENTS {
            // It may live, and then no tombstone may speak for it.
            self.grave = None;
            self.end_for_good();
        } else if let Ok(bytes) = wire::encode(event) {
            self.events.push_back((bytes, descriptor));
        }
    }

    fn flush(&mut self) {
        while let Some((bytes, descriptor)) = self.events.front() {
            let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
            match wire::send(self.socket.as_fd(), bytes, &descriptors) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Sent, or the manager is gone, which reading will tell.
                Ok(()) | Err(_) => drop(self.events.pop_front()),
            }
        }
    }
}
