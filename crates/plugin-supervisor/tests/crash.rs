//! What happens when manager, guard or both are killed or frozen, and what the next start finds. The manager is a
//! process of its own here (`guard-for-tests manager`), so that it can be treated like that.
#![allow(
    clippy::disallowed_methods,
    reason = "a test of real threads and processes waits and measures in real time"
)]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{LEVELS, Node, PATIENCE, guard_pid, is_alive, sh, signal, survivors, wait_until};
use failover_core::Input;
use nix::sys::signal::Signal;
use plugin_supervisor::{ContainmentChoice, LeftoversError, Sight, clear_leftovers, sight};

/// Double-forks, ignores TERM, and writes the boot time as long as it lives.
const TENACIOUS: &str = "trap '' TERM; (setsid sh -c 'sleep 300 & sleep 300' &); sleep 300 & \
                         while :; do cut -d' ' -f1 /proc/uptime > $ONDUTY_DATA_DIR/alive; sleep 0.01; done";
/// What a tombstone of epoch 4 with the secret of 32 sevens looks like on the wire.
const TOMBSTONE: &[u8] = b"ONDUTY-TOMBSTONE/1\n\0\0\0\0\0\0\0\x04\
    \x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\
    \x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07";

struct Manager {
    child: Child,
    lines: Receiver<String>,
    port: u16,
    guard: i32,
}

impl Manager {
    /// Starts one and waits until its plugins run and the tombstone is armed.
    fn start(dir: &Path, level: ContainmentChoice, lease_ms: u64, scripts: &[&str]) -> Option<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_guard-for-tests"))
            .arg("manager")
            .arg(dir)
            .args([format!("{level:?}"), lease_ms.to_string()])
            .args(scripts)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let first = lines.recv_timeout(PATIENCE).unwrap();
        if first.starts_with("failed the guard") {
            eprintln!("SKIPPED at {level:?}: {first}");
            let _ = child.wait();
            return None;
        }
        let port = first.strip_prefix("port ").unwrap_or_else(|| panic!("{first}")).parse().unwrap();
        let manager = Self { child, lines, port, guard: guard_pid(dir) };
        let (mut ready, mut armed) = (false, false);
        while !(ready && armed) {
            let line = manager.lines.recv_timeout(PATIENCE).unwrap();
            ready |= line.contains("PluginsReady");
            armed |= line.contains("TombstoneArmed");
        }
        let needed = scripts.iter().filter(|script| !script.contains("env -i")).count();
        let until = Instant::now() + PATIENCE;
        while survivors(dir).len() < needed.max(1) {
            assert!(Instant::now() < until, "the plugins never run");
            std::thread::sleep(Duration::from_millis(2));
        }
        Some(manager)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn expect(&self, part: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let line = self.lines.recv_timeout(until.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|_| panic!("`{part}` never came"));
            if line.contains(part) {
                return line;
            }
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if is_guard(self.guard) {
            signal(self.guard, Signal::SIGKILL);
        }
    }
}

fn is_guard(pid: i32) -> bool {
    is_alive(pid)
        && std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.contains("guard-for-tests"))
}

/// Waits until nothing of the plugins lives; how long that took.
async fn gone(dir: &Path) -> Duration {
    let began = Instant::now();
    wait_until("nothing of the plugins lives", || survivors(dir).is_empty().then_some(())).await;
    began.elapsed()
}

/// Connects like a peer that greets with TLS, and reads to the end.
fn visit(port: u16) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(&[0x16; 600]).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn manager_killed_plugins_go_at_once_and_the_tombstone_speaks_after_them() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        // A lease of an hour: it is the broken pipe that tells, not the deadline.
        let Some(mut manager) = Manager::start(dir.path(), level, 3_600_000, &[TENACIOUS, "sleep 300"])
        else {
            continue;
        };
        // Waits in the queue of the listener before the manager dies, as a peer's reconnect would.
        let port = manager.port;
        let folder = dir.path().to_owned();
        let early = std::thread::spawn(move || (visit(port), survivors(&folder)));
        manager.kill();
        let took = gone(dir.path()).await;
        eprintln!("{level:?}: manager killed, plugins gone after {took:?}");
        let (bytes, lived) = early.join().unwrap();
        assert_eq!(bytes, TOMBSTONE, "at {level:?}");
        assert!(lived.is_empty(), "the tombstone lied at {level:?}: {lived:?}");
        let many: Vec<_> = (0..40).map(|_| std::thread::spawn(move || visit(port))).collect();
        assert!(many.into_iter().all(|visitor| visitor.join().unwrap() == TOMBSTONE));
        assert!(is_guard(manager.guard), "it answers until its time is over or a new manager comes");
        let found = clear_leftovers(&dir.path().join("run")).unwrap();
        assert!(found.guard);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "the port is free");
    }
}

#[tokio::test]
async fn manager_frozen_plugins_go_at_the_lease_s_end_and_do_not_come_back() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let Some(manager) = Manager::start(dir.path(), level, 400, &[TENACIOUS]) else { continue };
        signal(manager.pid(), Signal::SIGSTOP);
        let took = gone(dir.path()).await;
        eprintln!("{level:?}: manager frozen, plugins gone after {took:?}, of a lease of 400 ms");
        // It believes it has the duty still, and renews; the guard does not believe it.
        signal(manager.pid(), Signal::SIGCONT);
        manager.expect("GuardFired");
        manager.expect("PluginsReaped");
        assert!(survivors(dir.path()).is_empty());
        std::thread::sleep(Duration::from_millis(300));
        assert!(survivors(dir.path()).is_empty(), "a resumed manager restarts nothing under the old epoch");
        assert!(is_guard(manager.guard));
    }
}

#[tokio::test]
async fn guard_killed_plugins_go_and_another_guard_comes() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let Some(manager) = Manager::start(dir.path(), level, 3_600_000, &[TENACIOUS, "sleep 300"]) else {
            continue;
        };
        signal(manager.guard, Signal::SIGKILL);
        let took = gone(dir.path()).await;
        eprintln!("{level:?}: guard killed, plugins gone after {took:?}");
        let line = manager.expect("GuardFired");
        assert!(line.contains("the guard died"), "{line}");
        manager.expect("the guard is not running");
        manager.expect("PluginsReaped");
        manager.expect("PreflightChanged { unfit: None }");
        let second = guard_pid(dir.path());
        assert_ne!(second, manager.guard);
        assert!(is_guard(second));
        assert!(survivors(dir.path()).is_empty(), "the epoch is over");
    }
}

#[tokio::test]
async fn guard_frozen_it_is_killed_when_it_does_not_act() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let Some(manager) = Manager::start(dir.path(), level, 400, &["sleep 300"]) else { continue };
        signal(manager.guard, Signal::SIGSTOP);
        let took = gone(dir.path()).await;
        eprintln!("{level:?}: guard frozen, plugins gone after {took:?}, of a lease of 400 ms");
        manager.expect("GuardFired");
        manager.expect("PluginsReaped");
        assert!(survivors(dir.path()).is_empty());
    }
}

/// With the lease taken back by a kill, nothing but its silence tells that it stands still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guard_frozen_before_a_kill_it_is_killed_itself() {
    for level in LEVELS {
        let Some(mut node) = Node::start_or_skip(level, vec![sh("p", "trap '' TERM; sleep 300")]) else {
            continue;
        };
        node.wait(|r| *r == Input::PreflightChanged { unfit: None }).await;
        node.run(2);
        node.wait_ready(2).await;
        signal(guard_pid(node.dir.path()), Signal::SIGSTOP);
        node.kill_plugins(2);
        node.wait_reaped(2).await;
        assert!(survivors(node.dir.path()).is_empty(), "reaped is reaped, at {level:?}");
        node.wait(|r| *r == Input::PreflightChanged { unfit: None }).await;
        node.end().await;
    }
}

/// A node that is on standby, and would need it within milliseconds: it is asked with each look at the plugins.
#[tokio::test]
async fn guard_frozen_on_a_node_at_rest_another_one_takes_its_place() {
    let mut node = Node::start(vec![sh("p", "sleep 300")]);
    // The supervisor has its first turn when this test waits.
    let frozen = guard_pid(node.dir.path());
    signal(frozen, Signal::SIGSTOP);
    let lost =
        |r: &Input| matches!(r, Input::PreflightChanged { unfit: Some(why) } if why.contains("the guard"));
    node.wait(lost).await;
    node.wait(|r| *r == Input::PreflightChanged { unfit: None }).await;
    assert_ne!(guard_pid(node.dir.path()), frozen);
    assert!(!is_guard(frozen));
    node.end().await;
}

/// Its family is all that tells whose it is, and the guard has not had its turn yet.
#[tokio::test]
async fn a_plugin_without_an_environment_does_not_outlive_the_search_for_leftovers() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("echo $$ > {}/pid; exec env -i sleep 300", dir.path().display());
    let scripts = [script.as_str(), "sleep 300"];
    let Some(mut manager) = Manager::start(dir.path(), ContainmentChoice::Group, 3_600_000, &scripts) else {
        return;
    };
    let text = wait_until("its id", || std::fs::read_to_string(dir.path().join("pid")).ok()).await;
    let plugin: i32 = text.trim().parse().unwrap();
    let bare = || std::fs::read(format!("/proc/{plugin}/environ")).is_ok_and(|env| env.is_empty());
    wait_until("its environment is gone", || bare().then_some(())).await;
    signal(manager.guard, Signal::SIGSTOP);
    manager.kill();
    assert!(clear_leftovers(&dir.path().join("run")).unwrap().guard);
    assert!(!is_alive(plugin), "it runs on");
}

/// The whole node has about a second for its end, and would leave alive what is not dead by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guard_frozen_before_the_end_of_the_supervisor_nothing_is_left() {
    for level in LEVELS {
        let Some(mut node) = Node::start_or_skip(level, vec![sh("p", "trap '' TERM; sleep 300")]) else {
            continue;
        };
        node.run(2);
        node.wait_ready(2).await;
        signal(guard_pid(node.dir.path()), Signal::SIGSTOP);
        let began = Instant::now();
        node.end().await;
        let took = began.elapsed();
        eprintln!("{level:?}: the supervisor of a frozen guard ended after {took:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
}

#[tokio::test]
async fn everything_killed_at_once_nothing_is_left_at_the_next_start() {
    for level in LEVELS {
        let dir = tempfile::tempdir().unwrap();
        let Some(mut manager) = Manager::start(dir.path(), level, 3_600_000, &[TENACIOUS, "sleep 300"])
        else {
            continue;
        };
        // Stopped first, so that neither can act on the other's death.
        signal(manager.guard, Signal::SIGSTOP);
        signal(manager.pid(), Signal::SIGSTOP);
        signal(manager.guard, Signal::SIGKILL);
        manager.kill();
        if level == ContainmentChoice::Namespace {
            let took = gone(dir.path()).await;
            eprintln!("{level:?}: everything killed, plugins gone after {took:?}");
        }
        let found = clear_leftovers(&dir.path().join("run")).unwrap();
        assert_eq!(survivors(dir.path()).len(), 0, "at {level:?} after {found:?}");
        assert_eq!(
            clear_leftovers(&dir.path().join("run")).unwrap(),
            Default::default(),
            "nothing is left to do"
        );
    }
}

#[tokio::test]
async fn a_reused_process_id_is_never_killed() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let mut innocent = Command::new("sleep").arg("300").spawn().unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let file = |boot: &str| {
        serde_json::json!({
            "boot": boot, "id": "4711", "cgroup": null,
            "manager": { "pid": innocent.id(), "started": 1 },
            "guard": { "pid": innocent.id(), "started": 1 },
        })
        .to_string()
    };
    for boot in [boot.trim(), "another boot"] {
        std::fs::write(run.join("guard.json"), file(boot)).unwrap();
        assert_eq!(clear_leftovers(&run).unwrap(), Default::default());
    }
    assert!(innocent.try_wait().unwrap().is_none(), "it was killed");
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

#[tokio::test]
async fn a_corrupt_run_file_is_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    for (n, content) in [&b""[..], b"{\"boot\": \"x\"", b"\xff\xfe"].into_iter().enumerate() {
        std::fs::write(dir.path().join("guard.json"), content).unwrap();
        let aside = clear_leftovers(dir.path()).unwrap().corrupt_file.unwrap();
        assert_eq!(aside, dir.path().join(format!("guard.json.corrupt-{}", n + 1)));
        assert_eq!(std::fs::read(aside).unwrap(), content);
    }
}

#[tokio::test]
async fn a_second_manager_in_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), ContainmentChoice::Auto, 3_600_000, &["sleep 300"]).unwrap();
    let error = clear_leftovers(&dir.path().join("run")).unwrap_err();
    assert!(matches!(error, LeftoversError::ManagerAlive { pid } if pid == manager.pid()), "{error}");
    assert!(!survivors(dir.path()).is_empty(), "and the first goes on");
}

#[tokio::test]
async fn leftovers_are_judged_only_from_the_namespace_they_are_numbered_in() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("run");
    assert_eq!(sight(&run_dir), Sight::NoFile);
    let manager = Manager::start(dir.path(), ContainmentChoice::Auto, 3_600_000, &["sleep 300"]).unwrap();
    assert_eq!(sight(&run_dir), Sight::Here);
    let file = run_dir.join("guard.json");
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap().display().to_string();
    let text = std::fs::read_to_string(&file).unwrap();
    for elsewhere in [text.replace(&own, "pid:[1]"), text.replace(&own, ""), "{".to_owned()] {
        std::fs::write(&file, elsewhere).unwrap();
        assert_eq!(sight(&run_dir), Sight::Elsewhere);
    }
    std::fs::write(&file, text).unwrap();
    drop(manager);
}
