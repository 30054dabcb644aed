//! A duty from its beginning to its end, with real plugins: order, readiness, stop, restart, what plugins see.
#![allow(
    clippy::disallowed_methods,
    reason = "a test of real threads and processes waits and measures in real time"
)]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fs;
use std::time::Duration;

use common::{LEVELS, Node, PATIENCE, sh, survivors, wait_file, wait_until};
use failover_core::{Epoch, Input};
use plugin_supervisor::{OnNewEpoch, PluginState, Preflight, Readiness, RestartPolicy, Signal};

fn lines(node: &Node, file: &str) -> Vec<String> {
    fs::read_to_string(node.path(file)).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Writes a line when it starts and another when it is asked to stop.
fn diary(name: &str) -> String {
    format!(
        "echo start {name} >> $ONDUTY_DATA_DIR/diary; \
         trap 'echo stop {name} >> $ONDUTY_DATA_DIR/diary; exit 0' TERM; \
         touch $ONDUTY_DATA_DIR/{name}; while :; do sleep 0.02; done"
    )
}

fn file_ready(name: &str) -> Readiness {
    Readiness::Command(["sh", "-c", &format!("test -e $ONDUTY_DATA_DIR/{name}")].map(str::to_owned).to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugins_start_in_order_and_stop_in_reverse_at_every_level() {
    for level in LEVELS {
        let mut plugins =
            vec![sh("top", &diary("top")), sh("base", &diary("base")), sh("middle", &diary("middle"))];
        plugins[0].after = vec!["middle".to_owned(), "base".to_owned()];
        plugins[2].after = vec!["base".to_owned()];
        for plugin in &mut plugins {
            plugin.ready = file_ready(&plugin.name);
        }
        let Some(mut node) = Node::start_or_skip(level, plugins) else { continue };
        node.wait(|r| *r == Input::PreflightChanged { unfit: None }).await;
        node.run(4);
        node.wait_ready(4).await;
        assert_eq!(lines(&node, "diary"), ["start base", "start middle", "start top"]);
        assert_eq!(fs::read_to_string(node.path("run/epoch")).unwrap(), "4\n");
        node.stop_plugins(4);
        node.wait_reaped(4).await;
        assert_eq!(survivors(node.dir.path()).len(), 0, "reaped is reaped, at {level:?}");
        assert_eq!(lines(&node, "diary")[3..], ["stop top", "stop middle", "stop base"]);
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_sees_its_duty_and_nothing_of_the_manager() {
    let script = "env > $ONDUTY_DATA_DIR/env; ls -l /proc/self/fd | wc -l; ls -1 /proc/self/fd > $ONDUTY_DATA_DIR/fds; \
                  grep Sig /proc/self/status > $ONDUTY_DATA_DIR/signals; pwd > $ONDUTY_DATA_DIR/pwd; sleep 60";
    let mut plugin = sh("looker", script);
    plugin.env.insert("OWN".to_owned(), "a b=c".to_owned());
    // What a careless parent leaves open.
    let careless = fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).unwrap();
    let mut node = Node::start(vec![plugin]);
    node.run(6);
    node.wait_ready(6).await;
    wait_file(&node.path("pwd")).await;
    assert_eq!(fs::read_to_string(node.path("pwd")).unwrap(), "/\n");
    let env = fs::read_to_string(node.path("env")).unwrap();
    for expected in
        ["ONDUTY_EPOCH=6", "ONDUTY_ROLE=primary", "ONDUTY_NODE=node-a", "ONDUTY_PEER=node-b", "OWN=a b=c"]
    {
        assert!(env.lines().any(|line| line == expected), "{expected} is missing in\n{env}");
    }
    assert!(!env.contains("CARGO"), "the manager's environment leaks:\n{env}");
    // 0, 1, 2, and the folder that `ls` itself has open.
    assert_eq!(lines(&node, "fds"), ["0", "1", "2", "3"]);
    let blocked = fs::read_to_string(node.path("signals")).unwrap();
    assert!(blocked.contains("SigBlk:\t0000000000000000"), "{blocked}");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_plugin_runs_within_milliseconds_of_the_order() {
    let mut node = Node::start(vec![sh("quick", "sleep 60")]);
    node.wait(|r| *r == Input::PreflightChanged { unfit: None }).await;
    let began = std::time::Instant::now();
    node.run(2);
    node.wait_ready(2).await;
    let took = began.elapsed();
    eprintln!("from the order to ready: {took:?}");
    assert!(took < Duration::from_secs(3));
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_and_http_readiness_are_asked_until_they_answer() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut http = sh("http", "sleep 60");
    http.ready = Readiness::Http(format!("http://{address}/health"));
    let mut tcp = sh("tcp", "sleep 60");
    tcp.ready = Readiness::Tcp(address.to_string());
    tcp.after = vec!["http".to_owned()];
    let mut node = Node::start(vec![http, tcp]);
    node.run(2);
    // Twice "not yet", then "yes"; nothing is ready before.
    for answer in ["HTTP/1.1 503 Not yet\r\n\r\n", "nonsense\r\n\r\n", "HTTP/1.1 204 Yes\r\n\r\n"] {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 512];
        let read = stream.read(&mut request).await.unwrap();
        assert!(request[..read].starts_with(b"GET /health HTTP/1.1\r\n"));
        assert!(node.handle.statuses().borrow().iter().all(|s| s.state != PluginState::Ready));
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    node.wait_ready(2).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_ready_in_time_is_killed_and_fails() {
    let mut plugin = sh("late", "sleep 60");
    plugin.ready = Readiness::Command(vec!["false".to_owned()]);
    plugin.ready_within = Duration::from_millis(300);
    plugin.restart.policy = RestartPolicy::Never;
    let mut node = Node::start(vec![plugin]);
    node.run(2);
    let failed = node.wait(|r| matches!(r, Input::PluginsFailed { .. })).await;
    let Input::PluginsFailed { epoch: Epoch(2), why } = failed else { panic!("{failed:?}") };
    assert_eq!(why, "plugin `late`: was not ready within 300ms");
    node.stop_plugins(2);
    node.wait_reaped(2).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_readiness_command_that_hangs_goes_with_its_plugin() {
    let mut plugin = sh("late", "sleep 300");
    plugin.ready = Readiness::Command(["sh", "-c", "trap '' TERM; sleep 300"].map(str::to_owned).to_vec());
    plugin.ready_within = Duration::from_millis(100);
    plugin.restart.backoff = Duration::from_millis(10);
    plugin.restart.limit = 2;
    let mut node = Node::start(vec![plugin]);
    node.run(2);
    node.wait(|r| matches!(r, Input::PluginsFailed { .. })).await;
    wait_until("no readiness command lives", || survivors(node.dir.path()).is_empty().then_some(())).await;
    node.end().await;
}

/// Ignores TERM; double-forks into a session of its own; forks as fast as it is killed; stops itself.
const STUBBORN: [(&str, &str); 4] = [
    ("deaf", "trap '' TERM; echo up > $ONDUTY_DATA_DIR/deaf; while :; do sleep 1; done"),
    (
        "forker",
        "(setsid sh -c 'setsid sleep 300 & sleep 300' &) ; echo up > $ONDUTY_DATA_DIR/forker; sleep 300",
    ),
    (
        "rabbit",
        "trap '' TERM; n() { sh -c 'trap \"\" TERM; sleep 300 & sleep 300' & }; \
         for i in 1 2 3 4 5 6 7 8; do n; done; echo up > $ONDUTY_DATA_DIR/rabbit; while :; do n; wait $!; done",
    ),
    ("frozen", "echo up > $ONDUTY_DATA_DIR/frozen; kill -STOP $$; sleep 300"),
];

fn stubborn() -> Vec<plugin_supervisor::Plugin> {
    STUBBORN
        .iter()
        .map(|(name, script)| {
            let mut plugin = sh(name, script);
            plugin.stop_grace = Duration::from_millis(200);
            plugin
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_survives_a_stop_or_a_kill_however_stubborn() {
    for level in LEVELS {
        let Some(mut node) = Node::start_or_skip(level, stubborn()) else { continue };
        for epoch in [2, 4] {
            node.run(epoch);
            node.wait_ready(epoch).await;
            for (name, _) in STUBBORN {
                wait_file(&node.path(name)).await;
                fs::remove_file(node.path(name)).unwrap();
            }
            assert!(survivors(node.dir.path()).len() >= 10);
            if epoch == 2 {
                node.stop_plugins(epoch)
            } else {
                node.kill_plugins(epoch)
            }
            node.wait_reaped(epoch).await;
            assert_eq!(survivors(node.dir.path()).len(), 0, "at {level:?}");
        }
        node.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_plugin_is_restarted_until_its_limit_and_then_reported() {
    let mut plugin = sh("bad", "echo run >> $ONDUTY_DATA_DIR/runs; exit 3");
    plugin.ready = Readiness::StaysUp(Duration::from_secs(5));
    plugin.restart.backoff = Duration::from_millis(10);
    plugin.restart.limit = 3;
    let mut node = Node::start(vec![plugin]);
    node.run(2);
    let failed = node.wait(|r| matches!(r, Input::PluginsFailed { .. })).await;
    let Input::PluginsFailed { why, .. } = failed else { panic!("{failed:?}") };
    assert_eq!(why, "plugin `bad`: ended with status 3; 3 restarts within 600s did not help");
    assert_eq!(lines(&node, "runs").len(), 4);
    let status = node.wait_state("bad", PluginState::Failed).await;
    assert_eq!((status.restarts, status.pid), (3, None));
    node.stop_plugins(2);
    node.wait_reaped(2).await;
    // A new duty begins with a clean slate.
    node.run(4);
    node.wait(|r| matches!(r, Input::PluginsFailed { epoch: Epoch(4), .. })).await;
    assert_eq!(lines(&node, "runs").len(), 8);
    node.end().await;
}

/// They have no name, and end a process all the same: a plugin's own, and one that it has left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_by_a_signal_of_real_time_is_noticed_and_hides_no_other() {
    let orphan = "(setsid sh -c 'kill -35 $$' &); sleep 0.1; kill -34 $$";
    let mut plugins = vec![sh("signalled", orphan), sh("other", "sleep 300")];
    plugins[0].restart.policy = RestartPolicy::Never;
    plugins[0].ready = Readiness::StaysUp(Duration::from_secs(20));
    let mut node = Node::start(plugins);
    node.run(2);
    let failed = node.wait(|r| matches!(r, Input::PluginsFailed { .. })).await;
    let Input::PluginsFailed { why, .. } = failed else { panic!("{failed:?}") };
    assert_eq!(why, "plugin `signalled`: was ended by signal 34 (of real time)");
    node.stop_plugins(2);
    node.wait_reaped(2).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_plugin_comes_back_without_news_of_the_duty() {
    let mut plugin = sh("again", "sleep 300");
    plugin.restart.backoff = Duration::from_millis(10);
    let mut node = Node::start(vec![plugin]);
    node.run(2);
    node.wait_ready(2).await;
    let first = node.wait_state("again", PluginState::Ready).await.pid.unwrap();
    assert!(common::is_alive(first), "the pid is the one this machine knows");
    common::signal(first, Signal::SIGKILL);
    let statuses = node.handle.statuses();
    wait_until("it runs again", || {
        let now = statuses.borrow()[0].clone();
        (now.state == PluginState::Ready && now.pid != Some(first) && now.restarts == 1).then_some(())
    })
    .await;
    node.stop_plugins(2);
    node.wait_reaped(2).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_reaches_running_plugins() {
    let loud = "trap 'cat $ONDUTY_EPOCH_FILE >> $ONDUTY_DATA_DIR/reloads' HUP; \
                echo up > $ONDUTY_DATA_DIR/loud; while :; do sleep 0.02; done";
    let mut reloads = sh("reloads", loud);
    reloads.reload_signal = Some(Signal::SIGHUP);
    reloads.ready = file_ready("loud");
    let mut restarts = sh("restarts", "echo $ONDUTY_EPOCH >> $ONDUTY_DATA_DIR/restarts; exec sleep 300");
    restarts.on_new_epoch = OnNewEpoch::Restart;
    let ignores = sh("ignores", "echo $ONDUTY_EPOCH >> $ONDUTY_DATA_DIR/ignores; exec sleep 300");
    let mut node = Node::start(vec![reloads, restarts, ignores]);
    node.run(2);
    node.wait_ready(2).await;
    wait_file(&node.path("restarts")).await;
    let before = node.handle.statuses().borrow().clone();
    node.run(8);
    node.wait_ready(8).await;
    assert_eq!(wait_file(&node.path("reloads")).await, "8\n");
    wait_until("restarted", || (lines(&node, "restarts") == ["2", "8"]).then_some(())).await;
    assert_eq!(lines(&node, "ignores"), ["2"]);
    let after = node.handle.statuses().borrow().clone();
    assert_eq!((before[0].pid, before[2].pid), (after[0].pid, after[2].pid));
    assert_ne!(before[1].pid, after[1].pid);
    node.kill_plugins(8);
    node.wait_reaped(8).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_run_is_known_before_it_is_needed() {
    let mut node = Node::start(vec![sh("fine", "sleep 300"), {
        let mut missing = sh("missing", "");
        missing.command = vec!["/opt/no/such/bridge".to_owned()];
        missing
    }]);
    let unfit = node.wait(|r| matches!(r, Input::PreflightChanged { .. })).await;
    let expected = "plugin `missing`: the program `/opt/no/such/bridge` does not exist".to_owned();
    assert_eq!(unfit, Input::PreflightChanged { unfit: Some(expected) });
    node.run(2);
    let failed = node.wait(|r| matches!(r, Input::PluginsFailed { .. })).await;
    let Input::PluginsFailed { why, .. } = failed else { panic!("{failed:?}") };
    assert!(why.starts_with("plugin `missing`: cannot execute `/opt/no/such/bridge`: No such file"), "{why}");
    node.stop_plugins(2);
    node.wait_reaped(2).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preflight_commands_run_without_a_duty_and_within_their_time() {
    let preflight = |script: &str, within| {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        Some(Preflight { command, within })
    };
    let mut plugins = vec![sh("no", "true"), sh("slow", "true"), sh("yes", "true")];
    plugins[0].preflight = preflight("exit 7", PATIENCE);
    plugins[1].preflight = preflight("sleep 300", Duration::from_millis(100));
    plugins[2].preflight = preflight("echo checked > $ONDUTY_DATA_DIR/checked", PATIENCE);
    let mut node = Node::start(plugins);
    let report = node.wait(|r| matches!(r, Input::PreflightChanged { .. })).await;
    let Input::PreflightChanged { unfit: Some(why) } = report else { panic!("{report:?}") };
    assert!(why.contains("plugin `no`: its preflight command ended with status 7"), "{why}");
    assert!(why.contains("plugin `slow`: its preflight command did not end within 100ms"), "{why}");
    assert!(!why.contains("`yes`"), "{why}");
    assert_eq!(lines(&node, "checked"), ["checked"]);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_is_kept_line_by_line() {
    let mut node =
        Node::start(vec![sh("talker", "echo hello; echo 'oh no' >&2; printf 'a\\000b\\n'; sleep 300")]);
    node.run(2);
    let log = node.path("plugins/talker/output.log");
    wait_until("all lines are there", || {
        let text = fs::read(&log).ok()?;
        let has = |part: &[u8]| text.windows(part.len()).any(|window| window == part);
        let said = has(b" out hello\n") && has(b" err oh no\n") && has(b" out a\0b\n");
        (said && has(b"--- onduty: started as process ")).then_some(())
    })
    .await;
    node.kill_plugins(2);
    node.wait_reaped(2).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_say_the_same_again_change_nothing_and_a_stop_of_nothing_is_answered() {
    let mut node = Node::start(Vec::new());
    node.stop_plugins(2);
    node.wait_reaped(2).await;
    node.kill_plugins(4);
    node.wait_reaped(4).await;
    node.run(6);
    node.wait_ready(6).await;
    node.stop_plugins(6);
    node.wait_reaped(6).await;
    // A duty that was stopped may begin again under the same epoch: the release was not used.
    node.run(6);
    node.wait_ready(6).await;
    node.kill_plugins(6);
    node.wait_reaped(6).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_runs_as_its_user() {
    use std::os::unix::fs::PermissionsExt;

    let mut plugin =
        sh("drop", "id > $ONDUTY_DATA_DIR/open/id; echo $HOME > $ONDUTY_DATA_DIR/open/home; sleep 300");
    plugin.user = Some("nobody".to_owned());
    if !nix::unistd::geteuid().is_root() {
        let refused = Node::start_at(plugin_supervisor::ContainmentChoice::Auto, vec![plugin]);
        if let Err(error) = refused {
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert!(source.contains("`plugins.drop.user` is `nobody`"), "{source}");
        } else {
            eprintln!("SKIPPED: this test runs as nobody itself");
        }
        return;
    }
    let mut node = Node::start(vec![plugin]);
    for (folder, mode) in [("", 0o755), ("open", 0o777)] {
        fs::create_dir_all(node.path(folder)).unwrap();
        fs::set_permissions(node.path(folder), fs::Permissions::from_mode(mode)).unwrap();
    }
    node.run(2);
    node.wait_ready(2).await;
    let home = wait_file(&node.path("open/home")).await;
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    assert_eq!(home.trim(), nobody.dir.display().to_string());
    let id = fs::read_to_string(node.path("open/id")).unwrap();
    assert!(id.starts_with("uid=65534(nobody)") && !id.contains("(root)"), "{id}");
    node.stop_plugins(2);
    node.wait_reaped(2).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_is_called_off_starts_the_plugins_again_and_releases_nothing() {
    let slow = "echo run >> $ONDUTY_DATA_DIR/runs; trap 'echo asked > $ONDUTY_DATA_DIR/asked; \
                while ! test -e $ONDUTY_DATA_DIR/go; do sleep 0.01; done; exit 0' TERM; \
                echo up > $ONDUTY_DATA_DIR/up; while :; do sleep 0.01; done";
    let mut plugin = sh("slow", slow);
    plugin.stop_grace = PATIENCE;
    plugin.ready = file_ready("up");
    let mut node = Node::start(vec![plugin]);
    node.run(2);
    node.wait_ready(2).await;
    node.stop_plugins(2);
    wait_file(&node.path("asked")).await;
    node.run(2);
    fs::write(node.path("go"), "").unwrap();
    let next = node.wait(|r| matches!(r, Input::PluginsReady { .. } | Input::PluginsReaped { .. })).await;
    assert_eq!(next, Input::PluginsReady { epoch: Epoch(2) });
    assert_eq!(lines(&node, "runs").len(), 2);
    node.kill_plugins(2);
    node.wait_reaped(2).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_stalls_delays_neither_start_nor_renewal() {
    let mut node = Node::start(vec![sh("p", "exec sleep 300")]);
    node.wait(|r| *r == Input::PreflightChanged { unfit: None }).await;
    // Opening a pipe that nobody reads waits for ever, as a write to a disk that is gone would.
    let nobody_reads = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&node.path("run/epoch.new"), nobody_reads).unwrap();
    let logs = node.path("plugins/p");
    fs::create_dir_all(&logs).unwrap();
    nix::unistd::mkfifo(&logs.join("output.log"), nobody_reads).unwrap();
    node.run(2);
    node.wait_ready(2).await;
    node.stop_plugins(2);
    node.wait_reaped(2).await;
    // The stalled threads must not keep this process from ending.
    let _unstall = [
        fs::OpenOptions::new().read(true).write(true).open(node.path("run/epoch.new")).unwrap(),
        fs::OpenOptions::new().read(true).write(true).open(logs.join("output.log")).unwrap(),
    ];
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_is_gone_takes_the_plugins_along() {
    let mut node = Node::start(vec![sh("p", "trap '' TERM; sleep 300")]);
    node.run(2);
    node.wait_ready(2).await;
    let (orders, _) = tokio::sync::watch::channel(None);
    node.order_once(failover_core::DutyOrder::Run {
        epoch: Epoch(2),
        hold_until: failover_core::BootTime::from_nanos(u64::MAX / 2),
    });
    drop(std::mem::replace(&mut node.orders, orders));
    wait_until("nothing lives", || survivors(node.dir.path()).is_empty().then_some(())).await;
    node.end().await;
}
