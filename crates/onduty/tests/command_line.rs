//! The command line as scripts and people meet it: arguments, exit codes, and messages that name what is wrong.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

fn onduty(arguments: &[&str]) -> Output {
    run(env!("CARGO_BIN_EXE_onduty"), arguments)
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    for (name, _value) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ONDUTY_") {
            let _ = command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder with a key and the settings of a primary on this port; `more` is added at the end.
fn settings(port: u16, more: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("pair.key");
    assert_eq!(code(&onduty(&["key", "generate", "--out", key.to_str().unwrap()])), 0);
    let text = format!(
        "[node]\nname = \"node-a\"\nlisten = \"127.0.0.1:{port}\"\ndata_dir = \"{}\"\n\n\
         [redundancy]\nmode = \"primary\"\nkey_file = \"{}\"\n{more}",
        folder.path().join("data").display(),
        key.display()
    );
    let file = folder.path().join("onduty.toml");
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (folder, file)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn the_help_documents_every_exit_code_and_hides_the_guard() {
    let help = printed(&onduty(&["--help"]));
    for code in 0..=7 {
        assert!(help.contains(&format!("\n  {code}  ")), "exit code {code} is missing:\n{help}");
    }
    assert!(!help.contains("guard-of-onduty"), "{help}");
}

#[test]
fn a_wrong_command_line_is_told_apart_from_a_wrong_answer() {
    for wrong in [
        &["no-such-command"][..],
        &[],
        &["events", "--limit", "many"],
        &["key", "generate"],
        &["maintenance", "on", "--reason", "x", "--for", "soon"],
        &["maintenance", "on", "--for", "2h"],
        &["canary"],
        &["serve", "no-such-service"],
        &["certs"],
        &["certs", "import", "a.pem", "--authority", "--intermediate"],
        &["config", "check", "--set", "redundancy.mode"],
    ] {
        assert_eq!(code(&onduty(wrong)), 2, "{wrong:?}");
    }
}

#[test]
fn a_key_is_made_for_its_owner_alone_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pair.key");
    let arguments = ["key", "generate", "--out", path.to_str().unwrap()];
    let made = onduty(&arguments);
    assert_eq!(code(&made), 0, "{made:?}");
    let key = fs::read_to_string(&path).unwrap();
    assert!(key.starts_with("odk1_"), "{key}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!printed(&made).contains(key.trim()), "the key is shown only on request");

    let again = onduty(&arguments);
    assert_eq!(code(&again), 1);
    assert!(complaint(&again).contains("exists already"), "{again:?}");
    assert!(complaint(&again).ends_with("[key_file_exists]\n"), "{again:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), key);
    let shown = onduty(&["key", "generate", "--print"]);
    assert!(printed(&shown).starts_with("odk1_") && printed(&shown).lines().count() == 1, "{shown:?}");
}

#[test]
fn without_a_node_every_command_says_so_with_its_own_code() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("onduty.sock");
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    for (socket, why) in [(&nowhere, "there is no socket"), (&stale, "left over")] {
        for command in [
            &["status"][..],
            &["status", "--watch"],
            &["events"],
            &["plugins", "list"],
            &["test"],
            &["switchover"],
            &["takeover"],
            &["stop"],
            &["maintenance", "off"],
            &["health"],
        ] {
            let arguments = [command, &["--socket", socket.to_str().unwrap()]].concat();
            let output = onduty(&arguments);
            assert_eq!(code(&output), 4, "{arguments:?}: {output:?}");
            assert!(complaint(&output).contains(why), "{arguments:?}: {output:?}");
            assert!(complaint(&output).ends_with("[no_node]\n"), "{arguments:?}: {output:?}");
        }
    }
}

#[test]
fn bad_settings_are_all_told_with_where_they_came_from() {
    let (_folder, file) =
        settings(free_port(), "colour = \"red\"\n[redundancy.primary]\ntimeout = \"soon\"\n");
    for command in [&["config", "check"][..], &["config", "show"], &["up"]] {
        let output = onduty(&[command, &["--config", &file]].concat());
        assert_eq!(code(&output), 3, "{output:?}");
        let text = complaint(&output);
        for part in ["redundancy.colour", "redundancy.primary.timeout", "soon", "onduty.toml:"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
    assert_eq!(code(&onduty(&["config", "check", "--config", "/no/such/file.toml"])), 3);
}

#[test]
fn a_setting_of_a_later_version_and_one_that_is_missing_are_told_apart() {
    let (folder, file) = settings(free_port(), "[arbitration.etcd]\nendpoints = []\n");
    let later = onduty(&["config", "check", "--config", &file]);
    assert_eq!(code(&later), 3, "{later:?}");
    assert!(
        complaint(&later).contains("`arbitration.etcd` is not in this version [not_in_this_version]"),
        "{later:?}"
    );
    let text = format!(
        "[node]\nname = \"b\"\n[redundancy]\nmode = \"secondary\"\nkey_file = \"{}\"\n",
        folder.path().join("pair.key").display()
    );
    fs::write(&file, text).unwrap();
    let missing = complaint(&onduty(&["config", "check", "--config", &file]));
    for key in ["redundancy.secondary.address", "redundancy.secondary.trust"] {
        let line = missing.lines().find(|line| line.contains(&format!("`{key}` is missing"))).unwrap();
        assert!(line.ends_with("[missing_key]"), "each problem has its code: {missing}");
    }
}

#[test]
fn good_settings_are_explained_and_shown_with_their_sources() {
    let (_folder, file) = settings(free_port(), "");
    let check = onduty(&["config", "check", "--config", &file]);
    assert_eq!(code(&check), 0, "{check:?}");
    assert!(printed(&check).contains("stop budget"), "{check:?}");
    let json = printed(&onduty(&["config", "check", "--json", "--config", &file]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["forecast"]["takeover_after_ms"].as_u64() == Some(3000), "{json}");
    let show =
        printed(&onduty(&["config", "show", "--set", "redundancy.primary.timeout=4s", "--config", &file]));
    let timeout = show.lines().find(|line| line.starts_with("redundancy.primary.timeout")).unwrap();
    assert!(timeout.contains("4s") && timeout.contains("--set"), "{timeout}");
    assert!(!show.contains("odk1_"), "a key is never shown");
}

/// `up` with something that is in its way must end, soon, with a sentence that names it.
fn up_fails(file: &str, wanted: i32, parts: &[&str]) {
    let output = onduty(&["up", "--config", file]);
    assert_eq!(code(&output), wanted, "{output:?}");
    for part in parts {
        assert!(complaint(&output).contains(part), "no {part} in {output:?}");
    }
}

#[test]
fn up_names_a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (_folder, file) = settings(port, "");
    up_fails(&file, 1, &["in use", "node.listen", &port.to_string(), "[port_unusable]"]);
}

#[test]
fn up_names_what_is_wrong_with_the_key() {
    let (folder, file) = settings(free_port(), "");
    let key = folder.path().join("pair.key");
    fs::write(&key, "short").unwrap();
    up_fails(&file, 3, &["redundancy.key_file", "16 bytes"]);
    fs::write(&key, "").unwrap();
    up_fails(&file, 3, &["redundancy.key_file", "empty"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    up_fails(&file, 3, &["redundancy.key_file"]);
    fs::remove_file(&key).unwrap();
    up_fails(&file, 3, &["redundancy.key_file"]);
}

#[test]
fn up_names_a_data_directory_that_cannot_be_used() {
    let (folder, file) = settings(free_port(), "");
    fs::write(folder.path().join("data"), "a file is in the way").unwrap();
    up_fails(&file, 1, &["node.data_dir", "[data_dir_unusable]"]);
}

#[test]
fn up_refuses_a_data_directory_in_use() {
    let (folder, file) = settings(free_port(), "");
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let lock = fs::File::create(data.join("lock")).unwrap();
    lock.lock().unwrap();
    up_fails(&file, 1, &["another onduty runs", "node.data_dir", "[data_dir_in_use]"]);
}

#[test]
fn the_canary_appends_whole_lines_in_order_until_it_is_signalled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("canary");
    fs::write(&path, "before\n").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_onduty"))
        .args(["canary", "--file", path.to_str().unwrap()])
        .env("ONDUTY_NODE", "node-a")
        .env("ONDUTY_EPOCH", "42")
        .spawn()
        .unwrap();
    while lines(&path).len() < 20 {
        assert!(child.try_wait().unwrap().is_none(), "the canary has ended by itself");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    let _ = child.wait().unwrap();
    let lines = lines(&path);
    assert_eq!(lines[0], "before");
    let times: Vec<u64> = lines[1..]
        .iter()
        .map(|line| line.strip_prefix("node-a 42 ").unwrap_or_else(|| panic!("{line}")).parse().unwrap())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = onduty(&["completions", shell]);
        assert_eq!(code(&output), 0);
        assert!(printed(&output).contains("switchover"), "{shell}");
    }
}

#[test]
fn the_services_own_programs_are_what_serve_is() {
    let (_folder, file) = settings(free_port(), "");
    for (service, program) in [
        ("heartbeat-server", env!("CARGO_BIN_EXE_heartbeat-server")),
        ("heartbeat-client", env!("CARGO_BIN_EXE_heartbeat-client")),
        ("plugin-supervisor", env!("CARGO_BIN_EXE_plugin-supervisor")),
        ("certificate-trust", env!("CARGO_BIN_EXE_certificate-trust")),
        ("management", env!("CARGO_BIN_EXE_management")),
    ] {
        let wrong_mode = ["--config", &file, "--set", "redundancy.mode=nonsense"];
        for arguments in [&["--config", "/nowhere/onduty.toml"][..], &wrong_mode, &[]] {
            let (own, served) = (run(program, arguments), onduty(&[&["serve", service], arguments].concat()));
            assert_ne!(code(&own), 0, "{own:?}");
            assert_eq!(
                (code(&own), complaint(&own)),
                (code(&served), complaint(&served)),
                "{service} {arguments:?}"
            );
        }
        assert_eq!(code(&run(program, &["--nonsense"])), 2, "{service}");
        let help = run(program, &["--help"]);
        assert_eq!(code(&help), 0);
        let text = printed(&help).split_whitespace().collect::<Vec<_>>().join(" ");
        for word in [&format!("`onduty serve {service}`"), "--config", "--set", "Exit codes"] {
            assert!(text.contains(word), "{service}: {word} is missing: {text}");
        }
    }
    // The mode decides which heartbeat it is, also for a program of its own.
    let wrong = run(env!("CARGO_BIN_EXE_heartbeat-client"), &["--config", &file]);
    assert_eq!(code(&wrong), 3, "{wrong:?}");
}

#[test]
fn the_key_is_not_taken_from_a_command_line() {
    let (_folder, config) = settings(free_port(), "");
    let secret = "redundancy.key=odk1_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    for wrong in [secret, "redundancy.key"] {
        let output = onduty(&["config", "check", "--config", &config, "--set", wrong]);
        assert_eq!(code(&output), 2, "{output:?}");
        assert!(!complaint(&output).contains("odk1_AAEC"), "{output:?}");
    }
    let said = complaint(&onduty(&["config", "check", "--config", &config, "--set", secret]));
    assert!(said.contains("redundancy.key_file") && said.contains("ONDUTY_REDUNDANCY__KEY"), "{said}");
}

/// Whatever fails in the midst of a start is said, with its own exit code.
#[test]
fn a_start_that_fails_late_says_why() {
    let (folder, config) = settings(free_port(), "");
    let data = folder.path().join("data");
    fs::create_dir_all(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(data.join("onduty.sock"), "no socket").unwrap();
    let output = onduty(&["up", "--config", &config]);
    let said = complaint(&output);
    assert_eq!(code(&output), 1, "{said}");
    assert!(said.contains("onduty.sock") && !said.contains("panicked"), "{said}");
    assert!(data.join("onduty.sock").is_file(), "what is no socket is left alone");
}

#[test]
fn a_data_directory_in_which_no_socket_fits_is_refused_before_anything_runs() {
    let (folder, config) = settings(free_port(), "");
    let long = folder.path().join("x".repeat(100));
    let set = format!("node.data_dir={}", long.display());
    let output = onduty(&["config", "check", "--config", &config, "--set", &set]);
    let said = complaint(&output);
    assert_eq!(code(&output), 3, "{output:?}");
    assert!(said.contains("`node.data_dir`") && said.contains("at most 95 bytes"), "{said}");
}

/// The steps of a rotation on the files of a node that does not run; what drops a key is refused there unless forced.
#[test]
fn a_key_is_exchanged_in_the_files_of_a_node_that_does_not_run() {
    let (folder, file) = settings(free_port(), "");
    let (own, next) = (folder.path().join("pair.key"), folder.path().join("pair.key.next"));
    let rotate = |step: &[&str]| onduty(&[&["key", "rotate"], step, &["--config", &file]].concat());
    let old = fs::read_to_string(&own).unwrap();

    let given = printed(&onduty(&["key", "generate", "--print"]));
    let carried = folder.path().join("carried.key");
    fs::write(&carried, &given).unwrap();
    fs::set_permissions(&carried, fs::Permissions::from_mode(0o644)).unwrap();
    let open = rotate(&["prepare", "--from", carried.to_str().unwrap()]);
    assert_eq!(code(&open), 3, "{open:?}");
    assert!(complaint(&open).contains("the given key in") && complaint(&open).ends_with("[key_unusable]\n"));
    assert!(!next.exists() && !complaint(&open).contains(given.trim()));

    let mut command = Command::new(env!("CARGO_BIN_EXE_onduty"));
    let _ = command.args(["key", "rotate", "prepare", "--from", "-", "--config", &file]);
    let mut piped =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut piped.stdin.take().unwrap(), given.as_bytes()).unwrap();
    let taken = piped.wait_with_output().unwrap();
    assert_eq!(code(&taken), 0, "{taken:?}");
    assert!(printed(&taken).contains("this node does not run"), "{taken:?}");
    assert_eq!(fs::read_to_string(&next).unwrap(), given);
    assert_eq!(fs::metadata(&next).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(code(&onduty(&["config", "check", "--config", &file])), 0, "both keys can be used");

    assert_eq!(code(&rotate(&["use"])), 0);
    let refused = rotate(&["finish"]);
    assert_eq!(code(&refused), 5, "{refused:?}");
    assert!(complaint(&refused).ends_with("[key_in_use]\n"), "{refused:?}");
    assert_eq!(code(&rotate(&["abort", "--force"])), 0);
    assert_eq!(fs::read_to_string(&own).unwrap(), old);

    let (left, text) = (fs::read_dir(folder.path()).unwrap().count(), fs::read_to_string(&file).unwrap());
    assert_eq!(left, 3, "the key, the settings, and what was carried here");
    fs::write(&file, text.replace("key_file", "previous_key_file = \"/k\"\nkey_file")).unwrap();
    let by_hand = rotate(&["prepare"]);
    assert_eq!(code(&by_hand), 5, "{by_hand:?}");
    assert!(complaint(&by_hand).contains("`redundancy.previous_key_file` is set"), "{by_hand:?}");
    fs::write(
        &file,
        text.replace(&format!("key_file = \"{}\"", own.display()), &format!("key = \"{}\"", old.trim())),
    )
    .unwrap();
    let in_settings = rotate(&["prepare"]);
    assert_eq!(code(&in_settings), 5, "{in_settings:?}");
    assert!(complaint(&in_settings).ends_with("[key_step_refused]\n"), "{in_settings:?}");
    let nowhere = folder.path().join("none.sock");
    assert_eq!(code(&onduty(&["key", "rotate", "use", "--socket", nowhere.to_str().unwrap()])), 4);
}
