//! `onduty certs` as scripts and people meet it, on the folders of nodes that do not run.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;
use tempfile::TempDir;

/// A node that does not run.
struct Node {
    folder: TempDir,
    config: String,
}

impl Node {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        assert_eq!(code(&onduty(&["key", "generate", "--out", &at("pair.key")], None)), 0);
        let text = format!(
            "[node]\nname = \"{name}\"\nlisten = \"127.0.0.1:5001\"\ndata_dir = \"{}\"\n\n\
             [redundancy]\nmode = \"primary\"\nkey_file = \"{}\"\n",
            at("data"),
            at("pair.key")
        );
        fs::write(at("onduty.toml"), text).unwrap();
        let config = at("onduty.toml");
        Self { folder, config }
    }

    fn certs(&self, arguments: &[&str]) -> Output {
        self.certs_with(arguments, None)
    }

    fn certs_with(&self, arguments: &[&str], input: Option<&[u8]>) -> Output {
        let all = [&["certs"], arguments, &["--config", &self.config]].concat();
        onduty(&all, input)
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.certs(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {output:?}");
        printed(&output)
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// The exit code and the complaint of what must not work.
    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.certs(arguments);
        assert_eq!(printed(&output), "", "{arguments:?}");
        (code(&output), complaint(&output))
    }

    fn own(&self) -> String {
        fingerprint(&self.json(&["show"]))
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A file in the node's folder.
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    /// Fingerprints and stores of everything that is listed.
    fn listed(&self) -> Vec<(String, String)> {
        let listed = self.json(&["list"]);
        let all = listed["certificates"].as_array().unwrap().iter();
        all.map(|one| (one["store"].as_str().unwrap().to_owned(), fingerprint(one))).collect()
    }
}

fn onduty(arguments: &[&str], input: Option<&[u8]>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onduty"));
    for (name, _value) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ONDUTY_") {
            let _ = command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that does not read its input is not wrong.
    let _written = stdin.write_all(input.unwrap_or_default());
    drop(stdin);
    child.wait_with_output().unwrap()
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

fn fingerprint(certificate: &Value) -> String {
    certificate["fingerprint"].as_str().unwrap().to_owned()
}

fn made(name: &str) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap()
}

fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}

#[test]
fn a_pair_is_introduced_before_either_node_was_started() {
    let (primary, secondary) = (Node::new("line1-a"), Node::new("line1-b"));
    let pem = primary.done(&["export"]);
    assert!(pem.contains("BEGIN CERTIFICATE") && !pem.contains("PRIVATE"), "{pem}");
    let imported = secondary.certs_with(&["import", "-"], Some(pem.as_bytes()));
    assert_eq!(code(&imported), 0, "{imported:?}");
    assert!(printed(&imported).contains("imported, and now trusted"), "{imported:?}");
    let own = primary.own();
    assert_eq!(own.len(), 95, "SHA-256 in pairs of digits: {own}");
    assert!(secondary.listed().contains(&("trusted".to_owned(), own.clone())));

    let again = secondary.certs_with(&["import", "-", "--json"], Some(pem.as_bytes()));
    assert!(printed(&again).contains("\"changed\":false"), "{again:?}");

    let shown = secondary.done(&["show", &own]);
    for part in [own.as_str(), "line1-a", "trusted", "imported by an operator"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let table = secondary.done(&["list"]);
    let beginning: String = own.chars().take(23).collect();
    assert!(table.contains(&format!("{beginning}…")) && table.starts_with("store"), "{table}");
    // What a table shows is enough to name a certificate by.
    secondary.done(&["show", &format!("{beginning}…")]);
}

#[test]
fn trust_reject_and_delete_say_what_they_did_and_every_change_is_journalled() {
    let node = Node::new("line1-b");
    let stranger = made("line1-a");
    let file = node.file("stranger.pem", stranger.cert.pem());
    let imported = node.json(&["import", &file]);
    assert_eq!(imported["changed"], true);
    let name = fingerprint(&imported["certificates"][0]);
    let store = |node: &Node| node.listed().into_iter().find(|(_, one)| *one == name).map(|(store, _)| store);

    assert_eq!(node.json(&["reject", &name])["changed"], true);
    assert_eq!(store(&node).as_deref(), Some("distrusted"));
    assert_eq!(node.json(&["reject", &name])["changed"], false);
    // Case, colons and blanks do not matter.
    let loose = name.to_lowercase().replace(':', " ");
    assert_eq!(node.json(&["trust", &loose])["changed"], true);
    assert_eq!(store(&node).as_deref(), Some("trusted"));
    assert_eq!(node.json(&["trust", &name])["changed"], false);
    let again = node.refused(&["trust", &name, "--authority"]);
    assert!(again.0 == 5 && again.1.contains("no authority"), "{again:?}");
    assert!(node.done(&["delete", &name]).contains("deleted"));
    assert_eq!(store(&node), None);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let journalled = runtime.block_on(async {
        let (journal, thread) = journal::Journal::open(journal::Options {
            path: node.data().join("journal.db"),
            node: "line1-b".to_owned(),
            clock: std::sync::Arc::new(|| 0),
        })
        .unwrap();
        let entries = journal.list(0, 100).await.unwrap();
        let _written = thread.close();
        entries.iter().map(|entry| entry.event.sentence.clone()).collect::<Vec<_>>()
    });
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let changes: Vec<&String> = journalled.iter().filter(|sentence| sentence.contains(&name)).collect();
    assert_eq!(
        changes.len(),
        4,
        "import, reject, trust, delete, and nothing for what was so already: {journalled:#?}"
    );
    assert!(changes.iter().all(|sentence| sentence.starts_with(&format!("{user}: "))), "{changes:#?}");
}

#[test]
fn a_selector_that_fits_nothing_or_too_much_is_told_with_what_there_is() {
    let node = Node::new("line1-b");
    let own = node.own();
    let almost = format!("{}{}", &own[..own.len() - 1], if own.ends_with('0') { '1' } else { '0' });
    let (code, said) = node.refused(&["show", &almost]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no certificate") && said.contains(&own[..11]), "the near one is named: {said}");

    for (selector, part) in [("", "fingerprint"), ("AB", "at least 4")] {
        let (code, said) = node.refused(&["show", selector]);
        assert_eq!(code, 2, "{selector:?}: {said}");
        assert!(said.contains(part), "{selector:?}: {said}");
    }
    let nothing_like_it = node.refused(&["show", "line1-a"]);
    assert!(nothing_like_it.0 == 1 && nothing_like_it.1.contains("onduty certs list"), "{nothing_like_it:?}");
    let too_long = node.refused(&["show", &"AB".repeat(200)]);
    assert!(too_long.0 == 5 && too_long.1.contains("256 bytes"), "{too_long:?}");
}

#[test]
fn what_is_no_certificate_is_refused_by_what_it_is_and_never_printed() {
    let node = Node::new("line1-b");
    let one = made("line1-a");
    let key = one.signing_key.serialize_pem();
    let (first, second) = (one.cert.pem(), made("other").cert.pem());
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("key.pem", key.clone().into_bytes(), "private key"),
        ("both.pem", format!("{first}{key}").into_bytes(), "private key"),
        ("key.der", one.signing_key.serialize_der(), "private key"),
        ("empty.pem", Vec::new(), "empty"),
        ("text.pem", b"hello".to_vec(), "certificate"),
        ("cut.pem", format!("{first}{}", &second[..second.len() / 2]).into_bytes(), "cut or damaged"),
        ("large.pem", vec![b'x'; 1_100_000], "1048576 bytes"),
    ];
    for (name, bytes, part) in cases {
        let file = node.file(name, bytes);
        let (code, said) = node.refused(&["import", &file]);
        assert_eq!(code, 3, "{name}: {said}");
        assert!(said.contains(part) && said.contains(name), "{name}: {said}");
        assert!(!said.contains("BEGIN") && !said.contains(&key[30..60]), "{name}: {said}");
    }
    let (code, said) = node.refused(&["import", "/nowhere/at-all.pem"]);
    assert!(code == 3 && said.contains("/nowhere/at-all.pem"), "{said}");
    assert_eq!(node.listed().len(), 1, "only the own one is there");
    assert_eq!(fs::read_dir(node.data().join("pki/trusted/certs")).unwrap().count(), 0);
}

#[test]
fn the_own_certificate_is_neither_trusted_nor_rejected_nor_deleted() {
    let node = Node::new("line1-b");
    let own = node.own();
    for command in ["trust", "reject", "delete"] {
        let (code, said) = node.refused(&[command, &own]);
        assert_eq!(code, 5, "{command}: {said}");
        assert!(said.contains("own"), "{command}: {said}");
    }
    assert_eq!(node.listed(), [("own".to_owned(), own)]);
}

#[test]
fn an_export_overwrites_nothing_and_has_no_key() {
    let node = Node::new("line1-b");
    let file = node.folder.path().join("own.pem");
    let told = node.done(&["export", "--out", file.to_str().unwrap()]);
    assert!(told.contains(&node.own()), "{told}");
    assert!(!text(&file).contains("PRIVATE"));
    let (code, said) = node.refused(&["export", "--out", file.to_str().unwrap()]);
    assert!(code == 1 && said.contains("exists already"), "{said}");
}

#[test]
fn folders_that_are_in_use_or_elsewhere_are_left_alone() {
    let node = Node::new("line1-b");
    let data = node.data().display().to_string();
    let slip = onduty(&["certs", "list", "--data-dir", &format!("{data}-slip")], None);
    assert_eq!(code(&slip), 2, "{slip:?}");
    assert!(!Path::new(&format!("{data}-slip")).exists(), "a slip of the pen makes no folder");

    let _own = node.own();
    let by_folder = onduty(&["certs", "list", "--data-dir", &data], None);
    assert_eq!(code(&by_folder), 0, "{by_folder:?}");

    let lock = fs::File::options().write(true).open(node.data().join("lock")).unwrap();
    let held = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    let (code_, said) = node.refused(&["list"]);
    assert_eq!(code_, 1, "{said}");
    assert!(said.contains("the node does not answer at") && said.contains("in use"), "{said}");
    drop(held);
    node.done(&["list"]);

    let none = onduty(&["certs", "list", "--socket", "/nowhere/onduty.sock"], None);
    assert_eq!(code(&none), 4, "{none:?}");
    let both = onduty(&["certs", "list", "--socket", "/nowhere", "--data-dir", &data], None);
    assert_eq!(code(&both), 2, "{both:?}");
}

#[test]
fn a_file_that_is_no_certificate_is_a_warning_in_the_list_and_hides_no_other() {
    let node = Node::new("line1-b");
    let file = node.file("stranger.pem", made("line1-a").cert.pem());
    node.done(&["import", &file]);
    let broken = node.data().join("pki/trusted/certs/broken.pem");
    fs::write(&broken, "hello").unwrap();
    let output = node.certs(&["list"]);
    assert_eq!(code(&output), 0);
    let table = printed(&output);
    assert!(
        table.contains("trusted") && table.contains("warning:") && table.contains("broken.pem"),
        "{table}"
    );
    let mode = fs::metadata(node.data().join("pki/own")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700);
}

/// What nobody can dial is left out of the certificate, and keeps no node from starting.
#[test]
fn a_node_whose_name_is_no_host_name_has_a_certificate_all_the_same() {
    for name in ["7", "line.2", "-a", "a..b"] {
        let shown = Node::new(name).json(&["show"]);
        let names = shown["names"].as_array().unwrap();
        assert!(!names.is_empty() && !names.iter().any(|known| known == &format!("`{name}`")), "{shown}");
    }
}
