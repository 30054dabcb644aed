//! What every file of `proto/` has to say beside what a compiler and `buf lint` check: comments are the contract.
//!
//! ```text
//!   // Switchover moves the duty to the other node …            one sentence that begins with what it does
//!   //
//!   // Who may call: …                                          four paragraphs, in this order
//!   // Guarantees: …
//!   // Unset: …                                                 what an unset field means
//!   // Errors: INVALID_ARGUMENT (…), … | none of its own.       codes of gRPC, nothing else
//!   rpc Switchover(…) returns (…);
//! ```
//!
//! Called by `codegen`, so that nothing is generated from a contract that does not say what it means. `buf lint` (see
//! `tests/conformance/lint`) checks names, folders and layout; it has to be installed, this check only needs cargo.

use std::collections::HashMap;

use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// The paragraphs of every RPC's comment.
const PARAGRAPHS: [&str; 4] = ["Who may call:", "Guarantees:", "Unset:", "Errors:"];
/// How a call without errors of its own says so.
const NO_ERRORS: &str = "none of its own";
/// Every code but OK (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>).
const CODES: [&str; 16] = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

// The numbers by which a descriptor's parts are named in the paths of its comments (`descriptor.proto`).
const MESSAGES: i32 = 4;
const ENUMS: i32 = 5;
const SERVICES: i32 = 6;
const METHODS: i32 = 2;
const FIELDS: i32 = 2;
const NESTED_MESSAGES: i32 = 3;
const NESTED_ENUMS: i32 = 4;
const ONEOFS: i32 = 8;
const VALUES: i32 = 2;

/// Everything that is wrong, one line each; of our own files only.
pub(crate) fn complaints(descriptors: &FileDescriptorSet) -> Vec<String> {
    let own = descriptors.file.iter().filter(|file| file.package().starts_with("onduty."));
    own.flat_map(of_file).collect()
}

fn of_file(file: &FileDescriptorProto) -> Vec<String> {
    let mut reader = Reader { file: file.name(), comments: comments(file), found: Vec::new() };
    for (service, index) in file.service.iter().zip(0..) {
        reader.commented(&[SERVICES, index], service.name());
        for (method, method_index) in service.method.iter().zip(0..) {
            let name = format!("{}.{}", service.name(), method.name());
            reader.rpc(&[SERVICES, index, METHODS, method_index], &name);
        }
    }
    for (message, index) in file.message_type.iter().zip(0..) {
        reader.message(&[MESSAGES, index], message, "");
    }
    for (enumeration, index) in file.enum_type.iter().zip(0..) {
        reader.enumeration(&[ENUMS, index], enumeration, "");
    }
    reader.found
}

/// The comment in front of each part of a file.
fn comments(file: &FileDescriptorProto) -> HashMap<Vec<i32>, String> {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    locations.map(|location| (location.path.clone(), location.leading_comments().to_owned())).collect()
}

/// Reads one file and notes what is wrong.
struct Reader<'a> {
    file: &'a str,
    comments: HashMap<Vec<i32>, String>,
    found: Vec<String>,
}

impl Reader<'_> {
    fn wrong(&mut self, name: &str, what: &str) {
        self.found.push(format!("proto/{}: `{name}`: {what}", self.file));
    }

    fn comment(&self, path: &[i32]) -> &str {
        self.comments.get(path).map_or("", |comment| comment.trim())
    }

    fn commented(&mut self, path: &[i32], name: &str) {
        if self.comment(path).is_empty() {
            self.wrong(name, "has no comment");
        }
    }

    fn message(&mut self, path: &[i32], message: &DescriptorProto, outer: &str) {
        if message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry) {
            return; // Made by the compiler for a `map` field.
        }
        let name = format!("{outer}{}", message.name());
        self.commented(path, &name);
        // The compiler makes a `oneof` for each `optional` field, which nobody wrote.
        let written = |index: i32| {
            let of_it = |field: &&prost_types::FieldDescriptorProto| field.oneof_index == Some(index);
            message.field.iter().filter(of_it).any(|field| !field.proto3_optional())
        };
        for (oneof, index) in message.oneof_decl.iter().zip(0..).filter(|(_, index)| written(*index)) {
            self.commented(&[path, &[ONEOFS, index]].concat(), &format!("{name}.{}", oneof.name()));
        }
        for (field, index) in message.field.iter().zip(0..) {
            self.commented(&[path, &[FIELDS, index]].concat(), &format!("{name}.{}", field.name()));
        }
        let inside = format!("{name}.");
        for (nested, index) in message.nested_type.iter().zip(0..) {
            self.message(&[path, &[NESTED_MESSAGES, index]].concat(), nested, &inside);
        }
        for (nested, index) in message.enum_type.iter().zip(0..) {
            self.enumeration(&[path, &[NESTED_ENUMS, index]].concat(), nested, &inside);
        }
    }

    fn enumeration(&mut self, path: &[i32], enumeration: &EnumDescriptorProto, outer: &str) {
        let name = format!("{outer}{}", enumeration.name());
        self.commented(path, &name);
        for (value, index) in enumeration.value.iter().zip(0..) {
            self.commented(&[path, &[VALUES, index]].concat(), &format!("{name}.{}", value.name()));
        }
    }

    fn rpc(&mut self, path: &[i32], name: &str) {
        let comment = self.comment(path).to_owned();
        let method = name.rsplit('.').next().unwrap_or(name);
        if !comment.starts_with(&format!("{method} ")) {
            self.wrong(name, &format!("its comment does not begin with `{method} …`, what it does"));
        }
        match paragraphs(&comment) {
            Ok([.., errors]) => {
                if let Err(why) = errors_named(&errors) {
                    self.wrong(name, &why);
                }
            }
            Err(why) => self.wrong(name, &why),
        }
    }
}

/// The texts of the four paragraphs, or what is wrong with them.
fn paragraphs(comment: &str) -> Result<[String; 4], String> {
    let mut texts: [String; 4] = Default::default();
    let mut next = 0;
    for line in comment.lines().map(str::trim) {
        if let Some(at) = PARAGRAPHS.iter().position(|label| line.starts_with(label)) {
            if at != next {
                let wanted = PARAGRAPHS.get(next).copied().unwrap_or("nothing more");
                return Err(format!("`{}` stands where `{wanted}` is due", PARAGRAPHS[at]));
            }
            next += 1;
        }
        if let Some(text) = next.checked_sub(1).and_then(|at| texts.get_mut(at)) {
            let line = PARAGRAPHS.iter().find_map(|label| line.strip_prefix(label)).unwrap_or(line);
            text.push_str(line.trim());
            text.push(' ');
        }
    }
    match texts.iter().position(|text| text.trim().is_empty()) {
        Some(missing) => Err(format!("its comment does not say `{} …`", PARAGRAPHS[missing])),
        None => Ok(texts),
    }
}

/// Whether a text names codes of gRPC, each with its cause in brackets, or says that there are none.
fn errors_named(text: &str) -> Result<(), String> {
    if text.trim_start().starts_with(NO_ERRORS) {
        return Ok(());
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let shouted = |word: &str| {
        word.len() > 2 && word.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_')
    };
    let with_cause: Vec<&str> = words
        .windows(2)
        .filter(|pair| shouted(pair[0]) && pair[1].starts_with('('))
        .map(|pair| pair[0])
        .collect();
    if with_cause.is_empty() {
        return Err(format!("`Errors:` names no code with its cause in brackets, and not `{NO_ERRORS}`"));
    }
    match with_cause.iter().find(|code| !CODES.contains(code)) {
        Some(unknown) => Err(format!("`Errors:` names `{unknown}`, which is no code of gRPC")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GOOD: &str = r#"
        // A file.
        syntax = "proto3";
        package onduty.example.v1;
        // Does something.
        service ExampleService {
          // Do does it.
          //
          // Who may call: everybody.
          // Guarantees: that it is done,
          // once.
          // Unset: nothing is.
          // Errors: ABORTED (it was not), UNAVAILABLE ends it.
          rpc Do(DoRequest) returns (DoResponse);
          // Undo undoes it.
          // Who may call: everybody.
          // Guarantees: none.
          // Unset: nothing is.
          // Errors: none of its own.
          rpc Undo(DoRequest) returns (DoResponse);
        }
        // Asks.
        message DoRequest {
          // How.
          enum How {
            // Not told.
            HOW_UNSPECIFIED = 0;
          }
          // One of them.
          oneof one { // The one.
            // A.
            How how = 1;
          }
          // Perhaps.
          optional uint32 number = 2;
          // Pairs.
          map<string, uint32> pairs = 3;
        }
        // Answers.
        message DoResponse {}
    "#;

    fn complaints_about(text: &str) -> Vec<String> {
        let folder = std::env::temp_dir().join(format!(
            "onduty-contract-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("example.proto"), text).expect("a file");
        let compiled = protox::Compiler::new([&folder]).map(|mut compiler| {
            compiler
                .include_source_info(true)
                .open_file("example.proto")
                .map(|compiler| compiler.file_descriptor_set())
        });
        fs::remove_dir_all(&folder).expect("the folder goes");
        complaints(&compiled.expect("a compiler").expect("it compiles"))
    }

    #[test]
    fn a_contract_that_says_everything_is_accepted() {
        assert_eq!(complaints_about(GOOD), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_said_is_named() {
        for (said, instead, complaint) in [
            ("// Do does it.", "// Does it.", "`ExampleService.Do`: its comment does not begin with `Do …`"),
            (
                "// Guarantees: none.",
                "//",
                "`ExampleService.Undo`: `Unset:` stands where `Guarantees:` is due",
            ),
            (
                "// Errors: none of its own.",
                "//",
                "`ExampleService.Undo`: its comment does not say `Errors: …`",
            ),
            ("// Errors: none of its own.", "// Errors:", "does not say `Errors: …`"),
            ("none of its own", "some", "`Errors:` names no code with its cause"),
            ("ABORTED (it", "FAILED (it", "`Errors:` names `FAILED`, which is no code of gRPC"),
            ("// Does something.\n", "\n", "`ExampleService`: has no comment"),
            ("// Asks.\n", "\n", "`DoRequest`: has no comment"),
            ("// How.\n", "\n", "`DoRequest.How`: has no comment"),
            ("// Not told.\n", "\n", "`DoRequest.How.HOW_UNSPECIFIED`: has no comment"),
            ("// A.\n", "\n", "`DoRequest.how`: has no comment"),
            ("// Perhaps.\n", "\n", "`DoRequest.number`: has no comment"),
            ("// One of them.\n", "\n", "`DoRequest.one`: has no comment"),
            ("// Pairs.\n", "\n", "`DoRequest.pairs`: has no comment"),
        ] {
            assert!(GOOD.contains(said), "{said}");
            let found = complaints_about(&GOOD.replacen(said, instead, 1));
            assert_eq!(found.len(), 1, "{said}: {found:#?}");
            assert!(found[0].contains(complaint), "{complaint}: {found:#?}");
        }
    }

    #[test]
    fn files_of_others_are_not_judged() {
        assert_eq!(
            complaints_about(&GOOD.replace("onduty.", "google.").replace("// Asks.", "")),
            Vec::<String>::new()
        );
    }
}
