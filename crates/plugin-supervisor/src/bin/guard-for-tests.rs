//! The guard as a program of its own, and a manager that can be killed, frozen and lied to: so that the tests of
//! this crate can treat both as `onduty` would be treated. Not shipped.

use std::ffi::OsString;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use failover_core::{DutyOrder, Epoch, Input};
use plugin_supervisor::{ContainmentChoice, LogLimits, Options, Plugin, Readiness, build, guard};
use service_kit::Clock;
use service_kit::ports::{TombstoneSecret, duty_ports};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|word| word == "guard") {
        return guard::main(args);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.map_err(|e| e.to_string()).and_then(|runtime| runtime.block_on(manage(args.collect()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&format!("failed {why}"));
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    // The test reads it; when it is gone there is nobody to tell.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// `manager DIR LEVEL LEASE_MS SCRIPT…`: runs each script as a plugin under epoch 4, renews the lease, lends a
/// listener and buries a secret of 32 sevens; tells every report on standard output.
async fn manage(args: Vec<OsString>) -> Result<(), String> {
    let text = |at: usize| args.get(at).and_then(|word| word.to_str()).ok_or("too few arguments");
    let dir = PathBuf::from(text(0)?);
    let containment = match text(1)? {
        "Namespace" => ContainmentChoice::Namespace,
        "Cgroup" => ContainmentChoice::Cgroup,
        "Group" => ContainmentChoice::Group,
        _ => ContainmentChoice::Auto,
    };
    let lease = Duration::from_millis(text(2)?.parse().map_err(|_| "the lease is not a number")?);
    let plugins = (3..args.len()).filter_map(|at| Some((at, text(at).ok()?))).map(|(at, script)| {
        let mut plugin = Plugin::new(format!("p{at}"), ["sh", "-c", script].map(str::to_owned).to_vec());
        plugin.ready = Readiness::StaysUp(Duration::ZERO);
        plugin
    });
    let (mut driver, port) = duty_ports();
    let run_dir = dir.join("run");
    plugin_supervisor::clear_leftovers(&run_dir).map_err(|e| e.to_string())?;
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let (supervisor, handle) = build(Options {
        plugins: plugins.collect(),
        containment,
        data_dir: dir,
        run_dir,
        node: "node-a".to_owned(),
        role: "primary".to_owned(),
        peer: None,
        project: String::new(),
        tombstone_for: Duration::from_secs(20),
        log: LogLimits::default(),
        clock: Clock::real(),
        port,
        guard_command: vec![own.into(), "guard".into()],
    })
    .map_err(|e| e.to_string())?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    say(&format!("port {}", listener.local_addr().map_err(|e| e.to_string())?.port()));
    handle.lend_listener(listener.try_clone().map_err(|e| e.to_string())?.into());
    tokio::spawn(supervisor.run(CancellationToken::new()));
    let secret = TombstoneSecret { epoch: Epoch(4), secret: [7; 32].into() };
    driver.secrets.send(secret).await.map_err(|e| e.to_string())?;
    let mut renew = tokio::time::interval((lease / 4).min(Duration::from_millis(100)));
    loop {
        tokio::select! {
            _ = renew.tick() => {
                // A manager that was frozen goes on as if nothing had happened: the guard must not believe it.
                let hold_until = Clock::real().boot() + lease;
                driver.orders.send_replace(Some(DutyOrder::Run { epoch: Epoch(4), hold_until }));
            }
            report = driver.reports.recv() => match report {
                Some(Input::SummaryChanged(_)) => {}
                Some(report) => say(&format!("{report:?}")),
                None => return Ok(()),
            },
        }
    }
}
