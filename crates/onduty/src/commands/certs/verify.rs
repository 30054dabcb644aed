//! `onduty certs verify`: would the link accept this certificate? Files come in, [`decide`] says it: the function that the
//! verifier inside a handshake calls. No node, no network; a folder is read, never changed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use certificate_trust::{
    Accepted, Bundle, CertificateFacts, Purpose, Question, Refusal, SystemStore, TrustFolders, TrustMode,
    certificates_in, decide, install_crypto_provider, parse_crls,
};
use jiff::Timestamp;
use serde_json::json;
use service_kit::exit::Exit;

use crate::cli::{PurposeName, TrustName, VerifyArgs};
use crate::failure::Failure;
use crate::output;

/// Larger files are not read: the roots of a system have some 200 KB.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Says it, and ends with the exit code of the verdict.
pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    install_crypto_provider();
    let mut chain = certificates(&args.leaf)?;
    chain.extend(all(&args.intermediates, certificates)?);
    let shown: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let bundle = bundle(args)?;
    let at = args.at.unwrap_or_else(Timestamp::now);
    let question = Question {
        mode: match args.trust {
            TrustName::Store => TrustMode::Store,
            TrustName::System => TrustMode::System,
            TrustName::All => TrustMode::All,
        },
        shown: &shown,
        name: args.name.as_deref(),
        // Before 1970 nothing was valid.
        now_unix: u64::try_from(at.as_second()).unwrap_or(0),
        purpose: match args.purpose {
            PurposeName::Server => Purpose::Server,
            PurposeName::Client => Purpose::Client,
        },
    };
    let verdict = decide(&bundle, &question);
    if let Err(refusal @ Refusal::BadHost { .. }) = &verdict {
        return Err(Failure::usage(format!("--name: {refusal}")));
    }
    let facts = shown.first().map(|der| CertificateFacts::read(der)).and_then(Result::ok);
    tell(args, at, facts.as_ref(), &verdict);
    verdict.map(|_| ()).map_err(|_| Failure::new(Exit::Failed, ""))
}

/// Whom to trust.
fn bundle(args: &VerifyArgs) -> Result<Bundle, Failure> {
    let mut bundle = match (args.trust, &args.data_dir) {
        (TrustName::System, _) if !args.anchors.is_empty() => {
            let why = "--anchors stand in for the node's own store: with --trust system they say nothing";
            return Err(Failure::usage(why));
        }
        (TrustName::Store, None) if args.anchors.is_empty() => {
            return Err(Failure::usage(
                "--trust store needs to know whom to trust: --anchors FILE, or --data-dir DIR of a node",
            ));
        }
        (TrustName::System, None) => {
            Bundle { system: Some(SystemStore::of_this_machine().read()), ..Bundle::default() }
        }
        (TrustName::Store | TrustName::All, None) => Bundle::default(),
        (trust, Some(data_dir)) => of_node(data_dir, trust)?,
    };
    if args.data_dir.is_none() {
        bundle.trust(all(&args.anchors, certificates)?);
    }
    bundle.crls.extend(all(&args.crls, revocation_lists)?);
    Ok(bundle)
}

/// What a node goes by, from its folders.
fn of_node(data_dir: &Path, trust: TrustName) -> Result<Bundle, Failure> {
    let pki = data_dir.join("pki");
    if !pki.is_dir() {
        let why = format!("--data-dir {}: there is no folder `pki` in it", data_dir.display());
        return Err(Failure::usage(why));
    }
    let system = (trust == TrustName::System).then(SystemStore::of_this_machine);
    Ok(TrustFolders::read_once(&pki, system))
}

fn all<T>(files: &[PathBuf], read: impl Fn(&Path) -> Result<Vec<T>, Failure>) -> Result<Vec<T>, Failure> {
    let mut all = Vec::new();
    for file in files {
        all.extend(read(file)?);
    }
    Ok(all)
}

fn certificates(file: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    parsed(file, certificates_in)
}

fn revocation_lists(file: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    parsed(file, parse_crls)
}

fn parsed(
    file: &Path,
    parse: impl Fn(&[u8]) -> Result<Vec<Vec<u8>>, String>,
) -> Result<Vec<Vec<u8>>, Failure> {
    let unreadable = |why: String| Failure::usage(format!("{}: {why}", file.display()));
    let mut bytes = Vec::new();
    let _count = File::open(file)
        .and_then(|opened| opened.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(format!("it cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(format!("it is larger than {MAX_FILE} bytes")));
    }
    parse(&bytes).map_err(unreadable)
}

fn tell(
    args: &VerifyArgs,
    at: Timestamp,
    facts: Option<&CertificateFacts>,
    verdict: &Result<Accepted, Refusal>,
) {
    let (code, reason) = match verdict {
        Ok(accepted) => (accepted.code(), accepted.to_string()),
        Err(refusal) => (refusal.code(), refusal.to_string()),
    };
    let (trust, purpose) = (word(&args.trust), word(&args.purpose));
    if args.json {
        output::json(&json!({
            "accepted": verdict.is_ok(),
            "code": code,
            "reason": reason,
            "trust": trust,
            "purpose": purpose,
            "name": args.name,
            "at": at.to_string(),
            "certificate": facts.map(|facts| json!({
                "fingerprint": facts.fingerprint.to_string(),
                "subject": facts.subject,
                "issuer": facts.issuer,
                "names": facts.names,
                "more_names": facts.more_names,
                "not_before": facts.not_before_text(),
                "not_after": facts.not_after_text(),
            })),
        }));
        return;
    }
    let what = if verdict.is_ok() { "accepted" } else { "refused" };
    output::line(format!("{what}: {reason} [{code}]"));
    let certificate = facts.map(ToString::to_string).unwrap_or_default();
    let name = args.name.as_ref().map_or_else(|| "any name".to_owned(), |name| format!("`{name}`"));
    output::line(format!("certificate  {certificate}"));
    output::line(format!("asked        trust {trust}, as a {purpose}, dialled as {name}, at {at}"));
}

/// A value as it is written on the command line.
fn word(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
