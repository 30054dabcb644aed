//! Ten thousand strangers with every kind of garbage, and a peer that knows the key and floods: memory, descriptors and
//! journal stay bounded, the session that stands does not notice, and one that was cut is back in time.
#![allow(clippy::print_stderr, reason = "a test tells its figures, and loudly when it is skipped")]

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use certificate_trust::Connector;
use onduty_api::wire::heartbeat::v1 as wire;
use test_support::{Pair, Pid, Signal, alone, beside_others, boot_ns, ms_between, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::attacker::{Call, Ends, Wire, key_of, local, runtime, stranger, tcp, tls};
use crate::hostile::{not_noticed, stands};
use crate::{
    PATIENCE, at_most, count_of, has_event, one_at_a_time, options, runs_again, sessions, tells, undisturbed,
};

/// How many strangers come. With ONDUTY_TEST_GARBAGE another number.
const STRANGERS: usize = 10_000;
/// Strangers at once; more than the node lets wait.
const AT_ONCE: usize = 256;
/// They come a few at a time, so that the flood lasts for some takeover times.
const A_FEW: usize = 25;
const EVERY: Duration = Duration::from_millis(10);
/// Of so many strangers, one each does what costs a TLS handshake.
const KINDS: usize = 50;
/// What the waiting connections may cost: 128 with less than 200 KiB each, and what the allocator keeps.
pub(crate) const MOST_GROWTH_KIB: u64 = 48 * 1024;
/// 128 that wait, and as many as the strangers can have open besides until the node has closed its end.
const MOST_MORE_DESCRIPTORS: usize = 450;

/// What one stranger does, and what it keeps open.
async fn visit(index: usize, connector: &Connector, to: SocketAddr) -> Option<TcpStream> {
    match index % KINDS {
        0 => {
            // TLS, then no HTTP/2.
            let (mut io, _) = tls(connector, to).await?;
            io.write_all(b"GET / HTTP/1.1\r\n\r\n and not the preface of HTTP/2 at all").await.ok()?;
            let _end = io.read(&mut [0; 64]).await;
            None
        }
        1 => {
            // HTTP/2 and the right call, then the wrong frame.
            let mut call = Call::open(connector, to).await?;
            call.send(wire::SessionRequest { frame: None }).await;
            let _why = call.end().await;
            None
        }
        2 => {
            // The beginning of a handshake, byte by byte.
            let mut io = tcp(to).await.ok()?;
            for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" {
                io.write_all(&[*byte]).await.ok()?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Some(io)
        }
        other => {
            let said: &[u8] = match other % 5 {
                0 => b"",
                1 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                2 => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                3 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
                _ => b"\xff\x00\xff\x00\xff\x00\xff\x00",
            };
            let mut io = tcp(to).await.ok()?;
            io.write_all(said).await.ok()?;
            Some(io)
        }
    }
}

/// Strangers that come until all have come; dropping it ends them.
struct Flood {
    come: Arc<AtomicUsize>,
    done: Arc<AtomicBool>,
    _runtime: Runtime,
}

impl Flood {
    fn begin(strangers: usize, to: SocketAddr) -> Self {
        let runtime = runtime();
        let (come, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let flood = Self { come: Arc::clone(&come), done: Arc::clone(&done), _runtime: runtime };
        flood._runtime.spawn(async move {
            let ends = Arc::new(Ends::new());
            let (places, open) =
                (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(std::sync::Mutex::new(VecDeque::new())));
            let mut tick = tokio::time::interval(EVERY);
            for index in 0..strangers {
                if index % A_FEW == 0 {
                    tick.tick().await;
                }
                let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
                let (ends, open, come) = (Arc::clone(&ends), Arc::clone(&open), Arc::clone(&come));
                tokio::spawn(async move {
                    let kept = visit(index, &ends.connector, to).await;
                    let mut open = open.lock().expect("no panic");
                    open.extend(kept);
                    if open.len() > AT_ONCE {
                        open.pop_front();
                    }
                    come.fetch_add(1, Ordering::Relaxed);
                    drop(place);
                });
            }
            let _all = places.acquire_many(u32::try_from(AT_ONCE).expect("few")).await;
            done.store(true, Ordering::Relaxed);
        });
        flood
    }

    fn is_over(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}

pub(crate) fn memory_kib(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

pub(crate) fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count()
}

/// Cuts the session, and asserts that it is back in time.
#[track_caller]
pub(crate) fn is_back_after_a_cut(pair: &Pair, wire: &Wire) -> f64 {
    let had = sessions(&pair.secondary);
    let cut = boot_ns();
    wire.cut();
    let back = until("a new session", PATIENCE, || (sessions(&pair.secondary) > had).then(boot_ns));
    let interval = pair.options.profile.interval().as_secs_f64() * 1000.0;
    at_most("coming back after a cut", 2.0 * interval + 200.0, cut, back);
    ms_between(cut, back)
}

#[test]
fn ten_thousand_strangers_change_nothing_and_a_cut_peer_gets_back_in_among_them() {
    let _turn = alone();
    let mut pair = Pair::prepare(options());
    let wire = Wire::to(pair.port);
    let settings = pair.secondary.settings();
    let settings = settings
        .replace(&format!("https://127.0.0.1:{}", pair.port), &format!("https://127.0.0.1:{}", wire.port));
    pair.secondary.settle(&settings);
    pair.primary.start();
    pair.secondary.start();
    pair.redundant();
    let wish = std::env::var("ONDUTY_TEST_GARBAGE").ok();
    let strangers = wish.map_or(STRANGERS, |text| text.parse().expect("ONDUTY_TEST_GARBAGE is a number"));
    let (since, stood) = (boot_ns(), stands(&pair));
    let manager = pair.primary.manager();
    let (memory, open) = (memory_kib(manager), descriptors(manager));

    // The first half: nobody notices. The second: the peer is cut again and again.
    let flood = Flood::begin(strangers, local(pair.port));
    let (mut most_open, mut most_memory) = (0, 0);
    until("half of the strangers", PATIENCE * 4, || {
        most_open = most_open.max(descriptors(manager));
        most_memory = most_memory.max(memory_kib(manager));
        (flood.come.load(Ordering::Relaxed) >= strangers / 2).then_some(())
    });
    not_noticed(&pair, &stood);
    let mut back = Vec::new();
    until("the other half", PATIENCE * 4, || {
        if back.len() < 3 {
            back.push(is_back_after_a_cut(&pair, &wire));
        }
        most_open = most_open.max(descriptors(manager));
        most_memory = most_memory.max(memory_kib(manager));
        flood.is_over().then_some(())
    });
    let took = ms_between(since, boot_ns()) / 1000.0;
    drop(flood);

    let status = pair.primary.reaches("the session", PATIENCE, |status| status.redundancy() == "ready");
    until("the strangers' descriptors", PATIENCE, || (descriptors(manager) <= open + 8).then_some(()));
    let after = memory_kib(manager);
    let told = count_of(&pair.primary, "session_rejected");
    eprintln!(
        "{strangers} strangers in {took:.1} s: memory {memory} KiB, at most {most_memory}, after {after}; descriptors \
         {open}, at most {most_open}; {told} journal entries; back after {back:.0?} ms; {}",
        status.0["rejected"]
    );
    assert!(
        most_memory.max(after) < memory + MOST_GROWTH_KIB,
        "{memory} KiB, then {most_memory}, then {after}"
    );
    assert!(most_open < open + MOST_MORE_DESCRIPTORS, "{open} descriptors, then {most_open}");
    for reason in ["garbage", "evicted"] {
        assert!(status.rejected_as(reason) > 0, "nobody was turned away as {reason}: {status:#?}");
    }
    let reasons = status.0["rejected"].as_object().map_or(0, serde_json::Map::len);
    let periods = took as usize / 10 + 2;
    assert!(told >= 1 && told <= reasons * periods, "{told} entries for {reasons} reasons in {took:.0} s");
    undisturbed(&pair, &pair.primary, since);
    one_at_a_time(&pair);
    assert!(pair.secondary.plugins().is_empty());
    for node in [&pair.primary, &pair.secondary] {
        assert_eq!(count_of(node, "peer_disconnected"), 0, "{} noticed", node.name());
    }
}

#[test]
fn a_crash_in_the_middle_of_a_flood_is_noticed_and_the_stop_of_a_flooded_node_is_a_hand_over() {
    let _turn = alone();
    let mut pair = Pair::running(options());
    let flood = Flood::begin(usize::MAX, local(pair.port));
    let come = |number| {
        until("strangers", PATIENCE, || (flood.come.load(Ordering::Relaxed) > number).then_some(()));
    };
    come(1_000);
    let killed = pair.primary.kill_manager();
    let runs = runs_again(&pair, &pair.secondary, killed);
    let tombstone = has_event(&pair.secondary, "tombstone_read");
    eprintln!("took over after {:.0} ms, tombstone read: {tombstone}", ms_between(killed, runs));
    // The guard answers strangers, too: if the peer does not get through to it, silence tells.
    at_most("a takeover in the middle of a flood", 520.0, killed, runs);
    one_at_a_time(&pair);
    pair.primary.start();
    pair.redundant();
    come(flood.come.load(Ordering::Relaxed) + 1_000);
    let stopped = pair.primary.signal(Signal::SIGTERM);
    pair.primary.ended(PATIENCE);
    runs_again(&pair, &pair.secondary, stopped);
    assert!(has_event(&pair.secondary, "handover_done"), "{}", pair.secondary.log());
    one_at_a_time(&pair);
}

#[test]
fn each_kind_of_stranger_is_turned_away_for_its_reason() {
    let _turn = beside_others();
    let pair = Pair::running(options());
    let (since, stood) = (boot_ns(), stands(&pair));
    let (ends, to) = (Ends::new(), local(pair.port));
    let attack = runtime();
    // Some say nothing more, and stay until they are shown out.
    let open: Vec<_> = attack.block_on(async {
        let mut open = Vec::new();
        for index in 0..8 {
            open.push(visit(index, &ends.connector, to).await);
        }
        open
    });
    let status = pair.primary.reaches("the reasons", PATIENCE, |status| {
        // Two that stay silent, one that stops in the middle of its handshake, and one that is slow.
        status.rejected_as("timeout") >= 3 && status.rejected_as("garbage") >= 4
    });
    assert_eq!(status.rejected_as("evicted"), 0, "{status:#?}");
    drop(open);
    undisturbed(&pair, &pair.primary, since);
    not_noticed(&pair, &stood);
}

#[test]
fn a_peer_that_knows_the_key_and_floods_holds_nothing_up() {
    const BEATS: u64 = 20_000;
    let _turn = beside_others();
    let mut pair = Pair::prepare(options());
    pair.primary.start();
    runs_again(&pair, &pair.primary, 0);
    let (since, manager) = (boot_ns(), pair.primary.manager());
    let memory = memory_kib(manager);
    let keys = key_of(&pair.key_file());
    let (ends, to) = (Ends::new(), local(pair.port));
    let attack = runtime();
    attack.block_on(async {
        let mut call = Call::open(&ends.connector, to).await.expect("a call");
        call.prove(stranger(9), &keys).await;
        call.inbox.message().await.expect("an answer").expect("the proof");
        // What it says of itself is what the node says of itself, under its own name.
        let ours: wire::SessionRequest = wire::SessionRequest {
            frame: Some(wire::session_request::Frame::Beat(wire::Beat {
                unix_ms: None,
                sequence: 1,
                stamp_ns: boot_ns(),
                echo_ns: None,
                report: Some(report_of(&mut call).await),
            })),
        };
        let flood = call.outbox.clone();
        let sending = tokio::spawn(async move {
            for sequence in 1..=BEATS {
                let mut next = ours.clone();
                if let Some(wire::session_request::Frame::Beat(beat)) = &mut next.frame {
                    (beat.sequence, beat.stamp_ns) = (sequence, boot_ns());
                }
                if flood.send(next).await.is_err() {
                    return sequence;
                }
            }
            BEATS
        });
        // It reads what it is told, so that nothing but the flood itself is in its way.
        let reading = async { while let Ok(Some(_)) = call.inbox.message().await {} };
        tokio::select! {
            sent = sending => eprintln!("{} beats were taken", sent.expect("no panic")),
            () = reading => eprintln!("the node has ended the flood"),
        }
        let asked = boot_ns();
        assert!(pair.primary.status().is_some());
        at_most("an operator's question", 2000.0, asked, boot_ns());
    });
    drop(attack);
    assert!(memory_kib(manager) < memory + MOST_GROWTH_KIB);
    undisturbed(&pair, &pair.primary, since);
    // The same, session by session: each is counted, and the journal has few entries of it.
    pair.secondary.start();
    pair.redundant();
    let stood = sessions(&pair.secondary);
    runtime().block_on(async {
        for number in 10..110 {
            let mut call = Call::open(&ends.connector, to).await.expect("a call");
            call.prove(stranger(number), &keys).await;
            let _why = call.end().await;
        }
    });
    let status = pair.primary.status().expect("a status");
    assert_eq!(status.rejected_as("other_node"), 100, "{status:#?}");
    tells(&pair.primary, "session_rejected");
    assert!(count_of(&pair.primary, "session_rejected") <= 10);
    assert_eq!(sessions(&pair.secondary), stood, "the session that stands does not notice");
    undisturbed(&pair, &pair.primary, since);
}

/// The report with which the node begins every session, under the stranger's name and role.
async fn report_of(call: &mut Call) -> onduty_api::wire::types::v1::NodeReport {
    let hello = stranger(9);
    let identity = onduty_api::wire::types::v1::NodeIdentity::from(hello.identity);
    let told = tokio::time::timeout(PATIENCE, call.inbox.message()).await.expect("a beat in time");
    let Some(wire::session_response::Frame::Beat(beat)) = told.expect("a beat").and_then(|it| it.frame)
    else {
        panic!("no beat")
    };
    let mut report = beat.report.expect("a report");
    report.identity = Some(identity);
    report.role = onduty_api::wire::types::v1::Role::Secondary.into();
    report.mode = onduty_api::wire::types::v1::Mode::Secondary.into();
    report.state = onduty_api::wire::types::v1::NodeState::Standby.into();
    report.epoch = None;
    report.tombstone = None;
    report
}
