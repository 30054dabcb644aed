//! A log that nobody reads must not stop the node: whoever renews the duty lease never waits for a terminal.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's verdict")]

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use test_support::until;

const PATIENCE: Duration = Duration::from_secs(20);

/// Kills the node; its guard ends the plugins.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pipe whose reader reads nothing, full to the last byte.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    let (reader, writer): (OwnedFd, OwnedFd) = (reader.into(), writer.into());
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    let mut pipe = fs::File::from(writer.try_clone().unwrap());
    while pipe.write(&[b'.'; 4096]).is_ok() {}
    while pipe.write(b".").is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

fn settings(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "[node]\nname = \"alone\"\nlisten = \"127.0.0.1:0\"\ndata_dir = \"{folder}/data\"\n\
         [log]\nlevel = \"trace\"\n\
         [redundancy]\nmode = \"primary\"\nprofile = \"fast\"\nkey_file = \"{folder}/key\"\n\
         [plugins.canary]\ncommand = [{:?}, \"canary\", \"--file\", \"{folder}/canary\"]\n",
        env!("CARGO_BIN_EXE_onduty")
    )
}

#[test]
fn a_node_whose_log_nobody_reads_keeps_its_plugins_running() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    fs::write(file("onduty.toml"), settings(folder.path())).unwrap();
    let onduty = || Command::new(env!("CARGO_BIN_EXE_onduty"));
    let made = onduty().args(["key", "generate", "--out"]).arg(file("key")).output().unwrap();
    assert!(made.status.success(), "{made:?}");

    let (_reader, stderr) = full_pipe();
    let node = onduty()
        .args(["up", "--config"])
        .arg(file("onduty.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn();
    let _node = Killed(node.unwrap());

    let lines = || fs::read_to_string(file("canary")).unwrap_or_default().lines().count();
    // Two hundred lines take a second: the guard of this profile gives a manager that stands still a quarter of it.
    until("the canary to run for a second", PATIENCE, || (lines() > 200).then_some(()));
    let status = onduty().args(["status", "--json", "--config"]).arg(file("onduty.toml")).output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("\"active\""), "{status}");
    let epochs: std::collections::BTreeSet<String> = fs::read_to_string(file("canary"))
        .unwrap()
        .lines()
        .filter_map(|line| line.split(' ').nth(1).map(str::to_owned))
        .collect();
    assert_eq!(epochs.len(), 1, "the plugins were never ended: {epochs:?}");
}
