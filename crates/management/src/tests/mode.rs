//! `GetMode` and `SetMode`: locks, settings that could not bear the mode, what the machine refuses, and what is kept.

use std::path::Path;

use onduty_api::wire::failover::v1::{GetModeRequest, SetModeRequest, SetModeResponse};
use onduty_api::wire::types::v1 as types;

use super::*;
use crate::ModeSettings;

/// Settings that could bear everything but mode `secondary`; what is kept is a file in `folder`. A file named `full`
/// there stands for a full disk, one named `hangs` for a disk that does not answer.
pub(super) fn mode_settings(folder: &Path) -> ModeSettings {
    let folder = folder.to_owned();
    let hangs = folder.join("hangs");
    ModeSettings {
        mode: Mode::Primary,
        source: "onduty.toml:3".to_owned(),
        kept_in: "productive.toml".to_owned(),
        locked_by: None,
        bear: Arc::new(move |mode| {
            while hangs.exists() {
                std::fs::write(hangs.with_file_name("asked"), "").unwrap();
                std::thread::park_timeout(Duration::from_millis(5));
            }
            match mode {
                Mode::Secondary => Err("`redundancy.secondary.address` is missing".to_owned()),
                Mode::Primary | Mode::Deactivated => Ok(()),
            }
        }),
        keep: Arc::new(move |mode| {
            if folder.join("full").exists() {
                return Err("the disk is full".to_owned());
            }
            std::fs::write(folder.join("kept"), mode.to_string()).map_err(|error| error.to_string())
        }),
    }
}

async fn set(node: &Node, mode: types::Mode, force: bool) -> Result<SetModeResponse, tonic::Status> {
    let request = SetModeRequest { request_id: String::new(), mode: mode as i32, force };
    let mut client = node.failover().await;
    client.set_mode(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_deactivation_is_in_force_and_kept_when_the_call_returns() {
    let node = Node::start();
    let mut client = node.failover().await;
    let told = client.get_mode(GetModeRequest {}).await.unwrap().into_inner();
    assert_eq!((told.mode(), told.source.as_str()), (types::Mode::Primary, "onduty.toml:3"));
    assert_eq!(told.locked_by, "");

    let done = set(&node, types::Mode::Deactivated, false).await.unwrap();
    assert!(!done.starts_anew && done.sentence.contains("from primary to deactivated"), "{done:?}");
    assert_eq!(std::fs::read_to_string(node.folder.path().join("kept")).unwrap(), "deactivated");
    let told = client.get_mode(GetModeRequest {}).await.unwrap().into_inner();
    assert_eq!((told.mode(), told.source.as_str()), (types::Mode::Deactivated, "productive.toml"));

    let again = set(&node, types::Mode::Deactivated, false).await.unwrap();
    assert_eq!(again.sentence, "the mode is deactivated already");
}

#[tokio::test]
async fn what_the_settings_or_the_machine_refuse_changes_nothing() {
    let node = Node::start();
    let refused = set(&node, types::Mode::Secondary, true).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::FailedPrecondition, "`redundancy.secondary.address` is missing")
    );
    let unnamed = set(&node, types::Mode::Unspecified, false).await.unwrap_err();
    assert_eq!(unnamed.code(), Code::InvalidArgument);
    assert!(!node.folder.path().join("kept").exists());
}

#[tokio::test]
async fn a_mode_that_cannot_be_kept_is_said_to_end_with_the_run() {
    let node = Node::start();
    std::fs::write(node.folder.path().join("full"), "").unwrap();
    let half = set(&node, types::Mode::Deactivated, false).await.unwrap_err();
    assert_eq!(half.code(), Code::Internal);
    assert!(
        half.message().contains("could not be kept") && half.message().contains("the disk is full"),
        "{half:?}"
    );
    // Whoever starts the node next is told, too.
    let mut events = EventsServiceClient::new(node.channel().await);
    let listed = events.list_events(ListEventsRequest::default()).await.unwrap().into_inner().events;
    let told = listed.iter().find(|event| event.code == "storage_degraded").expect("an event");
    assert_eq!(told.severity(), types::Severity::Error);
    assert_eq!(
        told.sentence,
        "Mode deactivated is in force and could not be kept: the next start brings primary back (the disk is full)."
    );
    // Asked for again, it is kept.
    assert_eq!(set(&node, types::Mode::Deactivated, false).await.unwrap_err().code(), Code::Internal);
    std::fs::remove_file(node.folder.path().join("full")).unwrap();
    set(&node, types::Mode::Deactivated, false).await.unwrap();
    assert_eq!(std::fs::read_to_string(node.folder.path().join("kept")).unwrap(), "deactivated");
}

#[tokio::test]
async fn files_that_do_not_answer_are_not_waited_for() {
    let node = Node::start();
    let [hangs, asked] = ["hangs", "asked"].map(|name| node.folder.path().join(name));
    std::fs::write(&hangs, "").unwrap();
    let setting = set(&node, types::Mode::Deactivated, false);
    let mut setting = std::pin::pin!(setting);
    while !asked.exists() {
        let early = timeout(Duration::from_millis(5), &mut setting).await;
        assert!(early.is_err(), "{early:?}");
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    let refused = timeout(LIMIT, setting).await.expect("an answer");
    std::fs::remove_file(&hangs).unwrap();
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("do not answer"), "{refused:?}");
}
