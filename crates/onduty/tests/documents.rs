//! The documents that show commands: each is followed word for word.
//!
//! ```text
//!   docs/timing.md                 the output of every `onduty config check` in it; UPDATE_TIMING=1 writes it anew
//!   docs/operations/first-pair.md  two nodes on the loopback, from the key to `kill -9`, by the page's own blocks
//! ```
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use test_support::{beside_others, until};

/// How long a step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn onduty(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onduty"));
    for (name, _value) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ONDUTY_") {
            let _ = command.env_remove(name);
        }
    }
    let _ = command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The fenced blocks of a page: what kind, and what is in it.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (line.trim_start().strip_prefix("```"), open.take()) {
            (Some(kind), None) => open = Some((kind.to_owned(), String::new())),
            (Some(_end), Some(block)) => found.push(block),
            (None, Some((kind, text))) => open = Some((kind, format!("{text}{line}\n"))),
            (None, None) => {}
        }
    }
    found
}

#[test]
fn the_examples_of_the_timing_page_are_what_config_check_prints() {
    let path = repository().join("docs/timing.md");
    let page = fs::read_to_string(&path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("pair.key");
    assert!(
        onduty(folder.path(), &["key", "generate", "--out"]).arg(&key).output().unwrap().status.success()
    );
    let key = format!("redundancy.key_file={}", key.display());
    let blocks = blocks(&page);
    let mut written = page.clone();
    let mut examples = 0;
    for pair in blocks.windows(2) {
        let [(shell, command), (kind, shown)] = pair else { continue };
        let Some(words) = command.trim().strip_prefix("onduty ").filter(|_| shell == "sh") else { continue };
        assert_eq!(kind, "text", "`{command}` is not followed by what it prints");
        let mut arguments: Vec<&str> = words.split_whitespace().collect();
        arguments.extend(["--set", &key]);
        let printed = said(&onduty(&repository(), &arguments).output().unwrap());
        let printed = format!("{}\n", printed.trim_end());
        let block = format!("```sh\n{command}```\n\n```text\n{shown}```");
        assert!(written.contains(&block), "{block}");
        written = written.replace(&block, &format!("```sh\n{command}```\n\n```text\n{printed}```"));
        examples += 1;
    }
    assert!(examples >= 6, "{examples} examples");
    if std::env::var_os("UPDATE_TIMING").is_some() {
        fs::write(&path, &written).unwrap();
    } else {
        assert!(
            page == written,
            "{} is old: UPDATE_TIMING=1 cargo test -p onduty --test documents",
            path.display()
        );
    }
}

/// A node of the page; it ends with the test, however the test ends.
struct Node {
    folder: PathBuf,
    settings: String,
    up: Option<Child>,
}

impl Node {
    fn ask(&self, command: &str) -> String {
        let words = command.replace("/etc/onduty/onduty.toml", &self.settings);
        let arguments: Vec<&str> = words.split_whitespace().skip(1).collect();
        said(&onduty(&self.folder, &arguments).output().unwrap())
    }

    fn up(&mut self) {
        let log = fs::File::create(self.folder.join("log")).unwrap();
        let again = log.try_clone().unwrap();
        let mut command = onduty(&self.folder, &["up", "--config", &self.settings]);
        self.up = Some(command.stdout(log).stderr(again).spawn().unwrap());
    }

    fn wait_for(&self, command: &str, word: &str) -> String {
        until(&format!("`{word}` of `{command}`"), PATIENCE, || {
            Some(self.ask(command)).filter(|answer| answer.contains(word))
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut up) = self.up.take() {
            // Killed, not asked: the guard ends the plugins.
            let _ = up.kill();
            let _ = up.wait();
        }
    }
}

#[test]
fn the_first_pair_comes_up_as_its_page_says() {
    let _turn = beside_others();
    let page = fs::read_to_string(repository().join("docs/operations/first-pair.md")).unwrap();
    let blocks = blocks(&page);
    let place = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // What the page's plugin would listen on when it is ready.
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    let broker = broker.local_addr().map(|at| (at, broker)).unwrap();
    let bridge = place.path().join("bridge");
    fs::copy("/bin/sleep", &bridge).unwrap();

    let settings: Vec<&String> =
        blocks.iter().filter(|(kind, _)| kind == "toml").map(|(_, text)| text).collect();
    let [primary, of_secondary, ..] = settings[..] else { panic!("no two blocks of settings: {settings:?}") };
    let secondary = format!(
        "{}\n{of_secondary}",
        primary
            .replace("line1-a", "line1-b")
            .replace("mode = \"primary\"", "mode = \"secondary\"")
            .replace("0.0.0.0:5001", "127.0.0.1:0")
    );
    let mut nodes = [primary.clone(), secondary].into_iter().enumerate().map(|(index, text)| {
        let folder = place.path().join(format!("node-{index}"));
        fs::create_dir(&folder).unwrap();
        let own = folder.display().to_string();
        let text = text
            .replace("0.0.0.0:5001", &format!("127.0.0.1:{port}"))
            .replace("line1-a:5001", &format!("127.0.0.1:{port}"))
            .replace("\"/opt/bridge/bridge\", \"--config\", \"/etc/bridge.toml\"", "\"BRIDGE\", \"1000\"")
            .replace("BRIDGE", &bridge.display().to_string())
            .replace("127.0.0.1:4840", &broker.0.to_string())
            .replace("/etc/onduty", &own)
            .replace("/var/lib/onduty", &format!("{own}/data"));
        let settings = folder.join("onduty.toml");
        fs::write(&settings, text).unwrap();
        Node { settings: settings.display().to_string(), folder, up: None }
    });
    let (mut a, mut b) = (nodes.next().unwrap(), nodes.next().unwrap());
    drop(nodes);
    let lines = blocks.iter().filter(|(kind, _)| kind == "sh").flat_map(|(_, text)| text.lines());
    let commands: Vec<&str> = lines.map(|line| line.split(" #").next().unwrap_or(line).trim_end()).collect();
    let command = |word: &str| {
        let found = commands.iter().find(|line| line.starts_with(&format!("onduty {word}")));
        *found.unwrap_or_else(|| panic!("the page has no `onduty {word}`: {commands:?}"))
    };

    // 1. The key: made on one, copied to the other with its mode.
    let key = a.folder.join("pair.key");
    let generate = command("key generate").replace("/etc/onduty/pair.key", &key.display().to_string());
    assert!(a.ask(&generate).contains("0600"));
    fs::copy(&key, b.folder.join("pair.key")).unwrap();
    // 2. Settings.
    for node in [&a, &b] {
        let checked = node.ask(command("config check"));
        assert!(checked.contains("the settings can be used") && checked.contains("stop budget"), "{checked}");
    }
    // 3. Start: both, and the primary does not wait for trust.
    assert!(command("up").contains("--config"));
    a.up();
    b.up();
    let status = command("status");
    // 4. Trust: the status says so; the primary shows its fingerprint, the secondary what it was shown.
    let refused = b.wait_for(status, "is not trusted here");
    assert!(refused.contains("link         unproved"), "{refused}");
    let own = a.ask(command("certs show --config"));
    let rejected = b.wait_for(command("certs list --store rejected"), "line1-a");
    let kept = fs::read_dir(b.folder.join("data/pki/rejected")).unwrap().next().unwrap().unwrap();
    let digits = kept.path().file_stem().unwrap().to_string_lossy().to_uppercase();
    let beginning = [&digits[..2], &digits[2..4], &digits[4..6]].join(":");
    assert!(own.contains(&beginning) && rejected.contains(&beginning), "{beginning}: {own} {rejected}");
    let of_this_one = |word: &str| command(word).replace("51:C4:0A", &beginning);
    assert!(b.ask(&of_this_one("certs show 51:C4:0A")).contains(&beginning));
    let _trusted = b.ask(&of_this_one("certs trust"));
    // 5. Look.
    let _ready = a.wait_for(status, "redundancy: ready");
    let steps = b.ask(command("test"));
    for step in
        ["address", "name", "tcp", "tls", "trust", "key", "role", "timing", "version", "clock", "project"]
    {
        assert!(steps.contains(&format!("{step:<8} ok")), "{step}: {steps}");
    }
    assert!(a.ask(command("events")).contains("line1-a starts as primary"));
    let switchover = command("switchover");
    assert!(a.ask(switchover).contains("active now: line1-b"));
    let _ready = b.wait_for(status, "redundancy: ready");
    assert!(b.ask(switchover).contains("active now: line1-a"));
    let _ready = b.wait_for(status, "redundancy: ready");
    // And `kill -9` of the manager on the active machine.
    drop(a);
    let _taken = b.wait_for(status, "this node    line1-b (secondary) active");
}
