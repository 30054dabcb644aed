//! Who may give orders, and from where: over the network nobody, over the socket the user that runs the node, and root.
#![allow(clippy::print_stderr, reason = "a test tells its figures, and loudly when it is skipped")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use http::uri::PathAndQuery;
use test_support::{Pair, beside_others, boot_ns};
use tonic::client::Grpc;
use tonic::{Code, Request, Status};

use crate::attacker::{Channel, Ends, local, origin, runtime};
use crate::hostile::{not_noticed, stands};
use crate::{options, undisturbed};

/// Every `/package.Service/Method` of the files in `proto/`.
fn methods() -> Vec<String> {
    let mut files = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto")];
    let mut found = Vec::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(path).expect("a folder of proto/").flatten().map(|entry| entry.path()));
            continue;
        }
        if path.extension().is_none_or(|end| end != "proto") {
            continue;
        }
        let (mut package, mut service) = (String::new(), String::new());
        for line in fs::read_to_string(&path).expect("a file of proto/").lines() {
            let mut words = line.trim().split(|c: char| !c.is_alphanumeric() && c != '.' && c != '_');
            match (words.next(), words.next()) {
                (Some("package"), Some(name)) => name.clone_into(&mut package),
                (Some("service"), Some(name)) => name.clone_into(&mut service),
                (Some("rpc"), Some(name)) => found.push(format!("/{package}.{service}/{name}")),
                _other => {}
            }
        }
    }
    found
}

/// Calls a method over TLS with an empty message, and gives what the node answers.
async fn call(ends: &Ends, port: u16, method: &str) -> Status {
    let (channel, _) = Channel::open(&ends.connector, local(port)).await.expect("HTTP/2");
    let mut client = Grpc::with_origin(channel, origin());
    client.ready().await.expect("a connection");
    let path = PathAndQuery::try_from(method).expect("a path");
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    client.unary(Request::new(()), path, codec).await.expect_err("nobody may be answered")
}

#[test]
fn over_the_network_every_call_but_the_heartbeat_is_unknown() {
    let _turn = beside_others();
    let pair = Pair::running(options());
    let (since, stood) = (boot_ns(), stands(&pair));
    let mut methods = methods();
    for known in ["/onduty.failover.v1.FailoverService/Stop", "/onduty.events.v1.EventsService/WatchEvents"] {
        assert!(methods.iter().any(|method| method == known), "{known} is not among {methods:?}");
    }
    assert!(methods.len() >= 12, "{methods:?}");
    methods.retain(|method| method != "/onduty.heartbeat.v1.HeartbeatService/Session");
    for more in [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/onduty.heartbeat.v1.HeartbeatService/Other",
        "/",
    ] {
        methods.push(more.to_owned());
    }
    let ends = Ends::new();
    runtime().block_on(async {
        for port in [pair.port, pair.port + 1] {
            for method in &methods {
                let status = call(&ends, port, method).await;
                assert_eq!(status.code(), Code::Unimplemented, "{method}: {status:?}");
                assert!(!status.message().contains("node-"), "{method} tells {status:?}");
            }
        }
    });
    undisturbed(&pair, &pair.primary, since);
    not_noticed(&pair, &stood);
}

#[test]
fn the_socket_is_for_the_user_that_runs_the_node_even_where_its_file_was_opened_to_all() {
    let _turn = beside_others();
    let pair = Pair::running(options());
    let socket = pair.primary.data_dir().join("onduty.sock");
    let mode = fs::metadata(&socket).expect("the socket").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "{mode:o}");
    let folder_mode = fs::metadata(pair.primary.data_dir()).expect("the folder").permissions().mode() & 0o777;
    assert_eq!(folder_mode, 0o700, "{folder_mode:o}");
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("SKIPPED: acting as another user needs root");
        return;
    }
    let open =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("open it");
    let as_nobody = |arguments: &[&str]| {
        // `setpriv` becomes the program, from a place that everybody may read.
        let program = pair.folder().join("program");
        if !program.exists() {
            fs::copy(pair.primary.program_file(), &program).expect("copy the program");
            open(&program, 0o755);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
        command.args(arguments).arg("--socket").arg(&socket).output().expect("setpriv starts")
    };
    open(pair.folder(), 0o755);
    let closed = as_nobody(&["status", "--json"]);
    assert!(!closed.status.success(), "{closed:?}");
    let said = String::from_utf8_lossy(&closed.stderr);
    assert!(said.trim_end().ends_with("[socket_forbidden]"), "{said}");
    // Somebody has opened every door on the way.
    for path in [pair.folder().join("node-a"), pair.primary.data_dir()] {
        open(&path, 0o755);
    }
    open(&socket, 0o666);
    for arguments in [&["status", "--json"][..], &["switchover"], &["stop"]] {
        let refused = as_nobody(arguments);
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{arguments:?}: {refused:?}");
    }
    let log = pair.primary.log();
    assert!(log.contains("65534"), "the log says who was refused: {log}");
    let status = pair.primary.status().expect("a status");
    assert_eq!((status.state(), status.redundancy()), ("active", "ready"), "{status:#?}");
}
