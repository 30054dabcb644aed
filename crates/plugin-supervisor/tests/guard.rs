//! The guard alone, spoken to as a supervisor that is mistaken, hostile or dead would: its own judgement is what
//! counts.
#![allow(
    clippy::disallowed_methods,
    reason = "a test of real threads and processes waits and measures in real time"
)]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::{PATIENCE, is_alive};
use failover_core::BootTime;
use nix::sys::socket::{MsgFlags, recv, send, setsockopt, sockopt};
use rustix::event::Timespec;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use serde_json::{Value, json};
use service_kit::Clock;

struct Guard {
    child: Child,
    socket: Option<OwnedFd>,
    timer: OwnedFd,
}

impl Guard {
    fn start() -> Self {
        Self::start_by(&[])
    }

    /// Started by another program, which becomes the guard.
    fn start_by(starter: &[&str]) -> Self {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let seconds = i64::try_from(PATIENCE.as_secs()).unwrap();
        setsockopt(&ours, sockopt::ReceiveTimeout, &nix::sys::time::TimeVal::new(seconds, 0)).unwrap();
        setsockopt(&ours, sockopt::SndBuf, &1_000_000).unwrap();
        let own = env!("CARGO_BIN_EXE_guard-for-tests");
        let mut words = starter.iter().copied().chain([own, "guard", "run", own, "guard"]);
        let child = Command::new(words.next().unwrap()).args(words).stdin(theirs).spawn().unwrap();
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags).unwrap();
        let guard = Self { child, socket: Some(ours), timer };
        assert_eq!(guard.hear(), json!("Ready"));
        guard.configure();
        guard
    }

    /// Shares the timer of the lease.
    fn configure(&self) {
        let message = json!({ "Configure": { "cgroup": null } }).to_string();
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut room);
        let timer = [self.timer.as_fd()];
        assert!(beside.push(SendAncillaryMessage::ScmRights(&timer)));
        let socket = self.socket.as_ref().unwrap();
        let bytes = [IoSlice::new(message.as_bytes())];
        assert_eq!(sendmsg(socket, &bytes, &mut beside, SendFlags::empty()).unwrap(), message.len());
    }

    fn say(&self, message: &Value) {
        self.say_bytes(message.to_string().as_bytes());
    }

    fn say_bytes(&self, bytes: &[u8]) {
        use std::os::fd::AsRawFd;
        let socket = self.socket.as_ref().unwrap().as_raw_fd();
        assert_eq!(send(socket, bytes, MsgFlags::MSG_NOSIGNAL).unwrap(), bytes.len());
    }

    fn hear(&self) -> Value {
        use std::os::fd::AsRawFd;
        let mut bytes = vec![0; 200_000];
        let socket = self.socket.as_ref().unwrap().as_raw_fd();
        let read = recv(socket, &mut bytes, MsgFlags::empty()).expect("the guard says nothing");
        assert!(read > 0, "the guard has gone");
        serde_json::from_slice(&bytes[..read]).unwrap()
    }

    /// Hears on until this is said; gives what is in it.
    fn hear_of(&self, what: &str) -> Value {
        loop {
            if let Some(content) = self.hear().get(what) {
                return content.clone();
            }
        }
    }

    /// Gives the deadline.
    fn lease(&self, epoch: u64, span: Duration) -> BootTime {
        let hold_until = Clock::real().boot() + span;
        self.renew(hold_until);
        self.say(&json!({ "Lease": { "epoch": epoch } }));
        hold_until
    }

    /// Without a word to the guard.
    fn renew(&self, hold_until: BootTime) {
        let it_value = Timespec::try_from(Duration::from_nanos(hold_until.as_nanos())).unwrap();
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec { it_interval, it_value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once).unwrap();
    }

    fn start_job(&self, job: u64, epoch: Option<u64>, command: &[&str]) {
        let spec = json!({
            "command": command, "env": { "PATH": "/usr/bin:/bin" }, "dir": null, "user": null, "group": null,
        });
        self.say(&json!({ "Start": { "job": job, "epoch": epoch, "spec": spec } }));
    }

    fn wait_exit(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "the guard does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn garbage_is_refused_and_the_guard_goes_on() {
    let guard = Guard::start();
    for garbage in [
        &b"\x00\xff\xfe"[..],
        b"{",
        b"[]",
        b"{\"Lease\":{}}",
        b"{\"Lease\":{\"epoch\":-1}}",
        b"{\"Shutdown\":null}",
        b"{\"Signal\":{\"job\":1,\"signal\":9,\"job\":2}}",
        &[b'['; 60_000],
        &[b' '; 140_000],
    ] {
        guard.say_bytes(garbage);
        let refused = guard.hear();
        assert!(refused.get("Refused").is_some(), "{refused}");
    }
    guard.lease(4, HOUR);
    guard.hear_of("Held");
    guard.start_job(1, Some(4), &["sleep", "300"]);
    guard.hear_of("Started");
    guard.say(&json!({ "Signal": { "job": 1, "signal": 12345 } }));
    assert_eq!(guard.hear_of("Refused")["why"], "there is no signal 12345");
    // A job that does not exist is one that has ended: nothing to signal, nothing to refuse.
    guard.say(&json!({ "Signal": { "job": 99, "signal": 9 } }));
    guard.say(&json!({ "EndAll": { "token": 7 } }));
    assert_eq!(guard.hear_of("Exited")["end"], json!({ "Signal": 9 }));
    assert_eq!(guard.hear_of("Empty")["token"], 7);
}

#[test]
fn nothing_starts_without_its_lease_and_a_lease_that_ran_out_never_comes_back() {
    let guard = Guard::start();
    guard.start_job(1, Some(4), &["sleep", "300"]);
    assert_eq!(guard.hear_of("StartFailed")["why"], "no lease for epoch 4 is in force");
    guard.lease(4, Duration::from_millis(100));
    guard.hear_of("Held");
    guard.start_job(2, Some(6), &["sleep", "300"]);
    assert_eq!(guard.hear_of("StartFailed")["why"], "no lease for epoch 6 is in force");
    assert_eq!(guard.hear_of("Fired")["epoch"], 4);
    guard.lease(4, HOUR);
    assert_eq!(guard.hear_of("Refused")["why"], "a lease for epoch 4, which is over");
    guard.start_job(3, Some(4), &["sleep", "300"]);
    guard.hear_of("StartFailed");
    guard.lease(6, HOUR);
    assert_eq!(guard.hear_of("Held")["epoch"], 6);
    guard.start_job(4, Some(6), &["sleep", "300"]);
    guard.hear_of("Started");
    // The lease of an older epoch is none any more.
    guard.say(&json!({ "Lease": { "epoch": 5 } }));
    guard.hear_of("Refused");
    // A renewal in the past is a deadline that has come.
    guard.renew(BootTime::from_nanos(1));
    assert_eq!(guard.hear_of("Fired")["epoch"], 6);
    guard.hear_of("Exited");
}

#[test]
fn a_renewal_without_a_word_keeps_the_lease_and_the_last_one_ends_it() {
    let guard = Guard::start();
    guard.lease(4, Duration::from_millis(200));
    guard.hear_of("Held");
    guard.start_job(1, Some(4), &["sleep", "300"]);
    guard.hear_of("Started");
    let mut deadline = BootTime::ZERO;
    for _ in 0..40 {
        deadline = Clock::real().boot() + Duration::from_millis(200);
        guard.renew(deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(guard.hear_of("Fired")["epoch"], 4);
    assert!(deadline <= Clock::real().boot(), "it fired although the lease was renewed");
    guard.hear_of("Exited");
}

#[test]
fn a_plugin_ignores_no_signal_that_the_manager_was_started_to_ignore() {
    // As `nohup onduty up &` in a script does.
    let guard = Guard::start_by(&["sh", "-c", "trap '' HUP INT QUIT CHLD; exec \"$0\" \"$@\""]);
    guard.lease(4, HOUR);
    guard.start_job(1, Some(4), &["sh", "-c", "trap 'exit 7' HUP; kill -HUP $$; exit 8"]);
    assert_eq!(guard.hear_of("Exited"), json!({ "job": 1, "end": { "Status": 7 } }));
    guard.start_job(2, Some(4), &["sh", "-c", "kill -INT $$; exit 8"]);
    assert_eq!(guard.hear_of("Exited"), json!({ "job": 2, "end": { "Signal": 2 } }));
    // None of the 31 that have names; of those above, the C library keeps two for itself.
    guard.start_job(3, Some(4), &["grep", "-qE", "SigIgn:.{9}[08]0000000$", "/proc/self/status"]);
    assert_eq!(guard.hear_of("Exited"), json!({ "job": 3, "end": { "Status": 0 } }));
}

#[test]
fn a_renewal_overtakes_the_starts_before_it() {
    let guard = Guard::start();
    guard.lease(4, HOUR);
    guard.hear_of("Held");
    // Stopped, so that everything waits in the socket together.
    let pid = i32::try_from(guard.child.id()).unwrap();
    common::signal(pid, nix::sys::signal::Signal::SIGSTOP);
    for job in 0..100 {
        guard.start_job(job, Some(4), &["true"]);
    }
    guard.lease(4, HOUR);
    common::signal(pid, nix::sys::signal::Signal::SIGCONT);
    let mut started = 0;
    while let heard = guard.hear()
        && heard.get("Held").is_none()
    {
        started += usize::from(heard.get("Started").is_some());
    }
    assert!(started < 5, "it waited behind {started} starts");
}

#[test]
fn the_deadline_is_kept_to_the_millisecond_and_never_early() {
    let mut late = Vec::new();
    for epoch in 1..=7 {
        let guard = Guard::start();
        let span = Duration::from_millis(150);
        let deadline = guard.lease(epoch, span);
        guard.start_job(1, Some(epoch), &["sh", "-c", "trap '' TERM; sleep 300 & sleep 300"]);
        let pid = i32::try_from(guard.hear_of("Started")["pid"].as_i64().unwrap()).unwrap();
        while is_alive(pid) {
            std::thread::sleep(Duration::from_micros(500));
        }
        let gone = Clock::real().boot();
        assert!(gone >= deadline, "too early");
        late.push(gone.since(deadline));
        guard.hear_of("Fired");
    }
    late.sort_unstable();
    eprintln!("killed this long after the deadline: {late:?}");
    // The machine may be loaded: the best of seven is the guard's own time.
    assert!(late[0] < Duration::from_millis(50), "{late:?}");
}

#[test]
fn the_guard_ends_with_its_manager_and_takes_everything_along() {
    let mut guard = Guard::start();
    guard.lease(4, HOUR);
    guard.start_job(1, Some(4), &["sh", "-c", "trap '' TERM; setsid sleep 300 & sleep 300"]);
    let pid = i32::try_from(guard.hear_of("Started")["pid"].as_i64().unwrap()).unwrap();
    // What a terminal or a service manager sends to the whole group does not end the guard before its manager.
    let own = i32::try_from(guard.child.id()).unwrap();
    common::signal(own, nix::sys::signal::Signal::SIGTERM);
    common::signal(own, nix::sys::signal::Signal::SIGINT);
    guard.lease(4, HOUR);
    guard.hear_of("Held");
    assert!(is_alive(pid));
    guard.socket = None;
    guard.wait_exit();
    assert!(!is_alive(pid));
}

/// Both come in one turn of the guard, which starts one job at a time.
#[test]
fn a_signal_for_a_job_that_still_waits_for_its_start_is_not_lost() {
    let guard = Guard::start();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(guard.child.id()).unwrap());
    guard.lease(4, HOUR);
    guard.hear_of("Held");
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    for job in 1..=3 {
        guard.start_job(job, Some(4), &["sleep", "300"]);
    }
    guard.say(&json!({ "Signal": { "job": 3, "signal": 15 } }));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    let exited = guard.hear_of("Exited");
    assert_eq!(exited, json!({ "job": 3, "end": { "Signal": 15 } }));
}

/// However its messages lie in the queue of a guard that has stood still meanwhile.
#[test]
fn nothing_is_started_after_the_end_of_the_lease_not_even_for_a_signal() {
    let guard = Guard::start();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(guard.child.id()).unwrap());
    guard.lease(4, Duration::from_millis(200));
    guard.hear_of("Held");
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    for job in 1..=3 {
        guard.start_job(job, Some(4), &["sleep", "300"]);
    }
    guard.say(&json!({ "Signal": { "job": 2, "signal": 15 } }));
    std::thread::sleep(Duration::from_millis(300));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    let mut fired = false;
    for _ in 0..4 {
        let event = guard.hear();
        fired |= event.get("Fired").is_some();
        let refused = event["StartFailed"]["job"].as_u64();
        assert!(refused.is_some() || event.get("Fired").is_some(), "{event}");
        assert!(refused != Some(3) || fired, "what was refused because of the end is told after it");
    }
}
