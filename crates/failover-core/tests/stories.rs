//! Stories: what happens to a pair, told in `testdata/*.txt` and replayed on two real machines.
//!
//! A story is a comment that says what happens and why, then commands, each followed by `----` and everything that
//! the two nodes said while it ran. `UPDATE_STORIES=1 cargo test -p failover-core --test stories` writes the answers
//! anew; whoever does it reads them.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod pair;

use std::fmt::Write as _;
use std::time::Duration;

use failover_core::{Arbitration, FailbackMode, Input, Mode, OnUnproved, RequestId};
use pair::{World, ms};

fn span(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap());
    let number: u64 = number.parse().unwrap();
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        other => panic!("unit {other}"),
    }
}

fn micros(text: &str) -> u64 {
    u64::try_from(span(text).as_micros()).unwrap()
}

fn node(word: &str) -> usize {
    match word {
        "a" => 0,
        "b" => 1,
        other => panic!("node {other}"),
    }
}

fn mode(word: &str) -> Mode {
    match word {
        "primary" => Mode::Primary,
        "secondary" => Mode::Secondary,
        "deactivated" => Mode::Deactivated,
        other => panic!("mode {other}"),
    }
}

fn set(world: &mut World, node: usize, key: &str, value: &str) {
    let host = &mut world.hosts[node];
    let settings = &mut host.settings;
    match key {
        "mode" => {
            settings.mode = mode(value);
            settings.role = settings.mode.role().unwrap_or(settings.role);
        }
        "failback" => {
            settings.failback = if value == "manual" { FailbackMode::Manual } else { FailbackMode::Automatic }
        }
        "interval" => settings.interval = span(value),
        "timeout" => settings.timeout = span(value),
        "takeover_after" => settings.takeover_after = Some(span(value)),
        "startup_wait" => settings.startup_wait = span(value),
        "stable_for" => settings.stable_for = span(value),
        "flap_limit" => settings.flap_limit = value.parse().unwrap(),
        "flap_window" => settings.flap_window = span(value),
        "on_unproved" => {
            settings.on_unproved = if value == "take_over" { OnUnproved::TakeOver } else { OnUnproved::Hold }
        }
        "confirm_refusals" => settings.confirm_refusals = value == "on",
        "arbitration" => {
            settings.arbitration = if value == "witness" { Arbitration::Witness } else { Arbitration::Fence }
        }
        "handover_on_stop" => settings.handover_on_stop = value == "on",
        "witness" => host.witness = Some(value == "yes"),
        "start_delay" => host.start_delay = micros(value),
        "stop_delay" => host.stop_delay = micros(value),
        "failing_starts" => host.failing_starts = value.parse().unwrap(),
        "supervisor" => host.mute = value == "mute",
        "disk" => host.disk_works = value == "on",
        "forget" => {
            host.memory = failover_core::Memory::default();
            host.reserved = None;
        }
        "lose-epochs" => host.reserved = None,
        "wall-clock" => host.skew = value.parse().unwrap(),
        "drift" => host.drift = value.parse().unwrap(),
        other => panic!("setting {other}"),
    }
}

fn paired(world: &mut World) {
    for node in [0, 1] {
        let other = pair::identity(u8::try_from(1 - node).unwrap(), 0);
        world.hosts[node].memory.paired_with = Some(other);
    }
}

fn command(world: &mut World, line: &str) {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[0] {
        "set" => set(world, node(words[1]), words[2], words.get(3).unwrap_or(&"")),
        "fast" => world.fast(),
        "paired" => paired(world),
        "boot" => words[1..].iter().for_each(|word| world.boot(node(word))),
        "run" => world.run_for(micros(words[1])),
        "crash" => world.crash(node(words[1])),
        "power-off" => world.power_off(node(words[1])),
        "freeze" => world.freeze(node(words[1]), micros(words[2])),
        "cut" => match words.get(1).copied() {
            None => world.net.cut = [true; 2],
            Some("a->b") => world.net.cut[0] = true,
            Some(_) => world.net.cut[1] = true,
        },
        "heal" => {
            world.net.cut = [false; 2];
            world.net.down = [false; 2];
            world.net.impostor = [false; 2];
            world.net.slow = [0; 2];
            world.net.reject = false;
            world.net.unproved = false;
        }
        "paths" => world.two_paths(),
        "path" => {
            let path = words[1].parse::<usize>().unwrap() - 1;
            match words[2] {
                "down" => world.net.down[path] = true,
                "up" => world.net.down[path] = false,
                "slow" => world.net.slow[path] = micros(words[3]),
                "impostor" => world.net.impostor[path] = true,
                other => panic!("path {other}"),
            }
        }
        "flap" => flap(world, words[1].parse::<usize>().unwrap() - 1, micros(words[2]), micros(words[3])),
        "reject" => world.net.reject = true,
        "unproved" => world.net.unproved = true,
        _ => told(world, &words),
    }
}

/// What people, supervisor and disk tell a node.
fn told(world: &mut World, words: &[&str]) {
    let rest = words.get(2..).unwrap_or_default().join(" ");
    let request = || RequestId(words[2].to_owned());
    match words[0] {
        "switchover" => world.tell(node(words[1]), Input::SwitchoverRequested { request: request() }),
        "takeover" => {
            world.checks.allow_by_hand(node(words[1]));
            world.tell(node(words[1]), Input::TakeoverRequested { request: request() });
        }
        "stop" => world
            .tell(node(words[1]), Input::StopRequested { handover: words.get(2) != Some(&"--no-handover") }),
        "maintenance" if words[2] == "off" => {
            world.tell(node(words[1]), Input::MaintenanceCleared { by: "ann".to_owned() });
        }
        "maintenance" => {
            let input = Input::MaintenanceSet {
                reason: words[3..].join(" "),
                by: "ann".to_owned(),
                until_unix: 1_800_000_000,
            };
            world.tell(node(words[1]), input);
        }
        "expire" => {
            world.tell(node(words[1]), Input::MaintenanceExpired { version: words[2].parse().unwrap() })
        }
        "unfit" => world.tell(node(words[1]), Input::PreflightChanged { unfit: Some(rest) }),
        "fit" => world.tell(node(words[1]), Input::PreflightChanged { unfit: None }),
        "fail" => {
            let node = node(words[1]);
            let epoch = world.hosts[node].plugins.as_ref().unwrap().epoch;
            world.tell(node, Input::PluginsFailed { epoch, why: rest });
        }
        "stuck" => {
            let node = node(words[1]);
            let epoch = world.hosts[node].plugins.as_ref().unwrap().epoch;
            world.tell(node, Input::StopStuck { epoch, what: rest });
        }
        "guard" => {
            let node = node(words[1]);
            let epoch = world.hosts[node].plugins.as_ref().unwrap().epoch;
            world.tell(node, Input::GuardFired { epoch, why: rest });
            world.kill_plugins(node);
        }
        "licence" => {
            let epoch = failover_core::Epoch(words[2].parse().unwrap());
            let granted = failover_core::Licence::Granted { epoch, until: None };
            world.tell(node(words[1]), Input::LicenceChanged(granted));
        }
        "refusals" => world.tell(node(words[1]), Input::RefusalConfirmed),
        "storage" => {
            let trouble = (words[2] != "ok").then_some(rest);
            world.tell(node(words[1]), Input::StorageChanged { trouble });
        }
        "mode" => world.request_mode(node(words[1]), mode(words[2]), words.get(3) == Some(&"--force")),
        "view" => view(world, node(words[1])),
        "expect-overlap" => {
            let limit = micros(words[1]);
            assert!(world.checks.overlap <= limit, "overlap {} us > {limit} us", world.checks.overlap);
        }
        other => panic!("command {other}"),
    }
}

/// A loose cable: down for `half`, up for `half`, over `span`.
fn flap(world: &mut World, path: usize, half: u64, span: u64) {
    let end = world.now + span;
    while world.now < end {
        world.net.down[path] = true;
        // Whoever notices at once: both ends see their link go.
        let open: Vec<u64> =
            world.links.iter().filter(|(_, link)| link.path == path).map(|(id, _)| *id).collect();
        for id in open {
            world.broken(0, id, "the connection broke");
            world.broken(1, id, "the connection broke");
        }
        world.run_for(half);
        world.net.down[path] = false;
        world.run_for(half);
    }
}

fn view(world: &mut World, node: usize) {
    let host = &world.hosts[node];
    let Some(machine) = host.machine.as_ref() else { return };
    let view = machine.view(host.clock(world.now));
    let epoch = view.epoch.map_or_else(|| "no epoch".to_owned(), |epoch| format!("epoch {epoch}"));
    let mut lines = vec![
        format!("redundancy: {} - {}", view.redundancy.word, view.redundancy.reason),
        format!(
            "{} with {epoch}: {}; T {:?}, G {:?}",
            view.state, view.why, view.takeover_after, view.guard_deadline
        ),
    ];
    if view.peer.paths.len() > 1 {
        let paths = view.peer.paths.iter();
        lines.extend(paths.map(|path| format!("path {} {}: {:?}", path.path, path.address, path.link)));
    }
    lines.push(format!("switchover: {}", view.switchover_blocked.as_deref().unwrap_or("possible")));
    lines.extend(
        view.warnings
            .iter()
            .map(|warning| format!("{} {}: {}", warning.severity, warning.code, warning.sentence)),
    );
    for line in lines {
        world.note(node, format!("| {line}"));
    }
}

fn replay(story: &str) -> String {
    let mut world = World::new(42);
    let mut out = String::new();
    let mut skipping = false;
    for line in story.lines() {
        if skipping && !line.trim().is_empty() {
            continue;
        }
        if skipping {
            skipping = false;
        }
        if line == "----" {
            skipping = true;
            continue;
        }
        if line.starts_with('#') || line.trim().is_empty() {
            let _ = writeln!(out, "{line}");
            continue;
        }
        let _ = writeln!(out, "{line}");
        command(&mut world, line);
        if !world.log.is_empty() {
            let _ = writeln!(out, "----");
            for said in world.log.drain(..) {
                let _ = writeln!(out, "{said}");
            }
        }
    }
    assert_eq!(world.checks.broken, Vec::<String>::new(), "invariants; so far:\n{out}");
    let _ = ms;
    out
}

/// A blank line ends an answer; the writer keeps exactly one after each.
fn tidy(text: &str) -> String {
    let mut out = String::new();
    let mut answer = false;
    for line in text.lines() {
        if line == "----" {
            answer = true;
        } else if answer && !line.starts_with(' ') && !line.is_empty() {
            out.push('\n');
            answer = false;
        } else if line.is_empty() {
            answer = false;
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[test]
fn every_story_goes_as_it_is_told() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/testdata");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let told = names.len();
    let mut wrong = Vec::new();
    for path in names {
        let told = std::fs::read_to_string(&path).unwrap();
        let attempt = std::panic::catch_unwind(|| tidy(&replay(&told)));
        let Ok(happened) = attempt else {
            wrong.push(format!("{}: see above", path.display()));
            continue;
        };
        if told != happened {
            if std::env::var_os("UPDATE_STORIES").is_some() {
                std::fs::write(&path, &happened).unwrap();
            } else {
                let differs = told.lines().zip(happened.lines()).find(|(told, happened)| told != happened);
                wrong.push(format!("{}: {differs:#?}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(told >= 25, "only {told} stories were found");
}
