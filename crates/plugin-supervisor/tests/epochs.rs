//! An epoch that is over stays over, whatever comes at the same moment as its end. The test and the supervisor share one
//! thread, so that the test decides what the supervisor finds when it goes on: standing still is `thread::sleep` here.
#![allow(
    clippy::disallowed_methods,
    reason = "a test of real processes waits in real time, and stands still on purpose"
)]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::time::Duration;

use common::{Node, sh, wait_until};
use failover_core::{DutyOrder, Epoch, Input};
use service_kit::Clock;

const LEASE: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);

fn run(epoch: u64, span: Duration) -> DutyOrder {
    DutyOrder::Run { epoch: Epoch(epoch), hold_until: Clock::real().boot() + span }
}

/// A plugin that writes the epochs under which it was started; it runs under the first, whose lease then ends unseen.
async fn stood_still() -> Node {
    let mut node =
        Node::start(vec![sh("p", "echo $ONDUTY_EPOCH >> $ONDUTY_DATA_DIR/epochs; exec sleep 300")]);
    node.wait(|r| *r == Input::PreflightChanged { unfit: None }).await;
    node.order_once(run(2, LONG));
    node.wait_ready(2).await;
    ran_under(&node, "2\n").await;
    node.order_once(run(2, LEASE));
    tokio::task::yield_now().await;
    std::thread::sleep(LEASE * 3);
    node
}

/// A plugin is ready as soon as its program begins; it writes a moment later.
async fn ran_under(node: &Node, epochs: &str) {
    let written = || std::fs::read_to_string(node.path("epochs")).is_ok_and(|text| text == epochs);
    wait_until("the plugin ran under these epochs and no other", || written().then_some(())).await;
}

#[tokio::test]
async fn a_new_epoch_that_crosses_the_end_of_the_lease_does_not_run_after_it_was_reaped() {
    let mut node = stood_still().await;
    node.order_once(run(8, LONG));
    node.wait(|r| matches!(r, Input::GuardFired { epoch: Epoch(8), .. })).await;
    node.wait_reaped(8).await;
    node.order_once(run(10, LONG));
    node.wait_ready(10).await;
    ran_under(&node, "2\n10\n").await;
    node.end().await;
}

#[tokio::test]
async fn an_end_of_the_lease_that_is_heard_during_a_kill_is_told_although_the_kill_is_called_off() {
    let mut node = stood_still().await;
    node.order_once(DutyOrder::Kill { epoch: Epoch(2) });
    tokio::task::yield_now().await;
    node.order_once(run(2, LONG));
    node.wait_reaped(2).await;
    node.order_once(run(4, LONG));
    node.wait_ready(4).await;
    ran_under(&node, "2\n4\n").await;
    node.end().await;
}
