//! Asks each row of the command, from files as a person has them: PEM and DER in turn, anchors or a node's own folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certificate_trust::{Purpose, TrustMode};
use tempfile::TempDir;

use crate::rows::Row;

/// Each row: what it shows, the row, the code, and a part of the sentence.
pub(crate) fn check(rows: Vec<(&str, Row<'_>, &str, &str)>) {
    for (number, (what, row, code, _)) in rows.into_iter().enumerate() {
        // Only a process that holds a bundle can have an unusable one.
        if row.bundle.unusable.is_some() {
            continue;
        }
        let (_, sentence) = row.decide();
        let place = TempDir::new().unwrap();
        let output = ask(place.path(), &row, number % 2 == 0);
        let said = format!("{what}: {output:?}");
        if matches!(code, "tls.bad_certificate" | "tls.bad_host") || row.leaf.len() < 4 {
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{said}");
            continue;
        }
        let verdict: serde_json::Value = serde_json::from_slice(&output.stdout).expect(&said);
        let accepted = code.starts_with("tls.accepted");
        assert_eq!(output.status.code(), Some(i32::from(!accepted)), "{said}");
        assert_eq!((&verdict["code"], &verdict["accepted"]), (&code.into(), &accepted.into()), "{said}");
        // Which file could not be read is another one here.
        let same_files = row.bundle.unreadable_crls.is_empty() && code != "tls.no_system_roots";
        assert!(!same_files || verdict["reason"] == sentence, "{said}, not: {sentence}");
        assert!(output.stderr.is_empty(), "{said}");
    }
}

fn ask(place: &Path, row: &Row<'_>, pem: bool) -> Output {
    let mut command = onduty();
    let shown: Vec<&[u8]> = row.shown.iter().map(|authority| authority.der.as_slice()).collect();
    // A DER file has one certificate: the rest of the chain is told of beside it.
    let (leaf, beside) = if pem || shown.is_empty() {
        let whole: Vec<&[u8]> = core::iter::once(row.leaf.as_slice()).chain(shown).collect();
        (write(place, "leaf", &whole, pem, "CERTIFICATE"), Vec::new())
    } else {
        (write(place, "leaf", &[&row.leaf], pem, "CERTIFICATE"), shown)
    };
    let mut with = |flag: &str, files: Vec<PathBuf>| {
        if !files.is_empty() {
            command.arg(flag).args(files);
        }
    };
    let bundle = &row.bundle;
    let trusted: Vec<&[u8]> = bundle.pinned.iter().chain(&bundle.issuers).map(Vec::as_slice).collect();
    let of_node = !bundle.distrusted.is_empty()
        || !bundle.unreadable_crls.is_empty()
        || !bundle.intermediates.is_empty();
    if of_node {
        let pki = place.join("node/pki");
        let folders = ["trusted/certs", "trusted/crl", "issuers/certs", "issuers/crl", "distrusted"];
        folders.iter().for_each(|folder| fs::create_dir_all(pki.join(folder)).unwrap());
        for (index, der) in trusted.iter().enumerate() {
            fs::write(pki.join(format!("trusted/certs/{index}.der")), der).unwrap();
        }
        for (index, der) in bundle.intermediates.iter().enumerate() {
            fs::write(pki.join(format!("issuers/certs/{index}.der")), der).unwrap();
        }
        for fingerprint in &bundle.distrusted {
            fs::write(pki.join(format!("distrusted/{}.pem", fingerprint.to_hex())), "").unwrap();
        }
        for unreadable in &bundle.unreadable_crls {
            fs::write(pki.join("trusted/crl/x.crl"), unreadable).unwrap();
        }
        with("--data-dir", vec![place.join("node")]);
    } else if row.mode == TrustMode::Store && trusted.is_empty() {
        // Somebody has to be trusted: one that has nothing to do with it.
        let other = crate::authority::Authority::root("Nobody's CA", |_| {}).der;
        with("--anchors", vec![write(place, "nobody", &[&other], pem, "CERTIFICATE")]);
    } else if row.mode == TrustMode::Store {
        let each = trusted.iter().enumerate();
        let files = each.map(|(i, der)| write(place, &format!("anchor{i}"), &[der], pem, "CERTIFICATE"));
        with("--anchors", files.collect());
    }
    let files = beside.iter().enumerate();
    with(
        "--intermediates",
        files.map(|(i, der)| write(place, &format!("between{i}"), &[der], pem, "CERTIFICATE")).collect(),
    );
    let lists = bundle.crls.iter().enumerate();
    with(
        "--crls",
        lists.map(|(i, der)| write(place, &format!("list{i}"), &[der], pem, "X509 CRL")).collect(),
    );
    let system = place.join("system.pem");
    let roots = bundle.system.iter().flat_map(|system| &system.roots);
    fs::write(&system, roots.map(|der| pem_of(der, "CERTIFICATE")).collect::<String>()).unwrap();
    let at = jiff::Timestamp::from_second(i64::try_from(row.now).unwrap()).unwrap();
    command
        .env("SSL_CERT_FILE", &system)
        .args(["--name", row.name, "--at", &at.to_string(), "--json"])
        .args([
            "--trust",
            word(row.mode),
            "--purpose",
            if row.purpose == Purpose::Client { "client" } else { "server" },
        ])
        .arg(leaf)
        .output()
        .unwrap()
}

/// The command, up to its arguments.
pub(crate) fn onduty() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onduty"));
    command.args(["certs", "verify"]).env_remove("SSL_CERT_DIR");
    command
}

const fn word(mode: TrustMode) -> &'static str {
    match mode {
        TrustMode::All => "all",
        TrustMode::Store => "store",
        TrustMode::System => "system",
    }
}

/// One file in DER, or all of them in one file of PEM.
pub(crate) fn write(place: &Path, name: &str, ders: &[&[u8]], pem: bool, label: &str) -> PathBuf {
    let path = place.join(name);
    let bytes = if pem {
        ders.iter().map(|der| pem_of(der, label)).collect::<String>().into_bytes()
    } else {
        ders.concat()
    };
    fs::write(&path, bytes).unwrap();
    path
}

/// RFC 7468.
fn pem_of(der: &[u8], label: &str) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| core::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
