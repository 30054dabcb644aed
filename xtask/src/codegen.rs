//! Compiles `proto/` into `crates/onduty-api/src/generated/`, which is checked in: whoever builds onduty needs neither
//! `protoc` nor a build script, and a change of the wire shows up in the diff.
//!
//! ```text
//!   proto/**/*.proto ── protox (pure Rust) ──► descriptors ─┬─ contract.rs: do the comments say what it means?
//!                                                           ├─ tonic-prost-build ──► src/generated/*.rs
//!                                                           └─ without comments ───► src/generated/descriptors.binpb
//! ```
//!
//! The descriptors are what a node answers to tools that ask which services it has (gRPC reflection).
//!
//! `cargo xtask codegen` writes the files, `cargo xtask codegen --check` only says whether they would change.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::contract;

/// Where the generated code lives, from the root of the workspace.
const GENERATED: &str = "crates/onduty-api/src/generated";
/// The descriptors, as `google.protobuf.FileDescriptorSet`.
const DESCRIPTORS: &str = "descriptors.binpb";
/// What stands on top of each generated file.
const HEADER: &str = "//! Generated from `proto/` by `cargo xtask codegen`. Do not edit.\n";
/// The same for files that are included into a module, where `//!` is not allowed.
const INCLUDED_HEADER: &str = "// Generated from `proto/` by `cargo xtask codegen`. Do not edit.\n";

/// Generates the code; with `check` compares it with what is checked in instead of writing it.
///
/// # Errors
///
/// When a proto file does not compile or its comments leave something out, a file cannot be read or written, or (with `check`) anything differs.
pub(crate) fn run(root: &Path, check: bool) -> Result<(), Box<dyn Error>> {
    let wanted = generate(root)?;
    let folder = root.join(GENERATED);
    let found = read_folder(&folder)?;
    if wanted == found {
        return Ok(());
    }
    if check {
        let names = wanted.keys().chain(found.keys()).filter(|name| wanted.get(*name) != found.get(*name));
        let mut names: Vec<&str> = names.map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        return Err(format!(
            "{GENERATED} does not match proto/: {}; run `cargo xtask codegen` and commit the result",
            names.join(", ")
        )
        .into());
    }
    fs::create_dir_all(&folder)?;
    for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
        fs::remove_file(folder.join(name))?;
    }
    for (name, content) in &wanted {
        fs::write(folder.join(name), content)?;
    }
    Ok(())
}

/// File name → content of everything that should be in the folder.
fn generate(root: &Path) -> Result<BTreeMap<String, Vec<u8>>, Box<dyn Error>> {
    let protos = root.join("proto");
    let mut files = Vec::new();
    proto_files(&protos, &mut files)?;
    files.sort();
    let descriptors = protox::Compiler::new([&protos])?
        .include_imports(true)
        .include_source_info(true) // the comments become rustdoc
        .open_files(&files)?
        .file_descriptor_set();
    let complaints = contract::complaints(&descriptors);
    if !complaints.is_empty() {
        return Err(format!(
            "{}\nproto/: CONTRIBUTING.md says what a comment has to say",
            complaints.join("\n")
        )
        .into());
    }
    let bare = without_comments(&descriptors).encode_to_vec();
    let scratch = Scratch::new()?;
    tonic_prost_build::configure()
        .build_transport(false) // connections are made by our own connectors
        .skip_debug(["onduty.trust.v1.Bundle"]) // it holds a private key: what is printed of it is written by hand
        .out_dir(&scratch.0)
        .include_file("mod.rs")
        .compile_fds(descriptors)?;
    let mut out = read_folder(&scratch.0)?;
    for (name, text) in &mut out {
        let header = if name == "mod.rs" { HEADER } else { INCLUDED_HEADER };
        *text = [header.as_bytes(), text.as_slice()].concat();
    }
    let _none = out.insert(DESCRIPTORS.to_owned(), bare);
    Ok(out)
}

/// Comments are for people who read `proto/`; a node need not carry them.
fn without_comments(descriptors: &FileDescriptorSet) -> FileDescriptorSet {
    let mut bare = descriptors.clone();
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    bare
}

fn proto_files(folder: &Path, into: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            proto_files(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            into.push(path);
        }
    }
    Ok(())
}

fn read_folder(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, Box<dyn Error>> {
    let mut out = BTreeMap::new();
    if !folder.is_dir() {
        return Ok(out);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name =
            path.file_name().and_then(|name| name.to_str()).ok_or("a file name is not UTF-8")?.to_owned();
        out.insert(name, fs::read(&path)?);
    }
    Ok(out)
}

/// A folder for one run, removed when the run ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, std::io::Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("onduty-codegen-{}-{number}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left-over files in the temporary folder hurt nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checked_in_code_matches_the_proto_files() {
        super::run(&crate::root(), true).expect("no drift");
    }
}
