//! What happens, told while it happens.

use std::time::Duration;

use onduty_api::wire::failover::v1::{NodeStatus, RedundancyWord};
use onduty_api::wire::types::v1::NodeState;
use service_kit::Clock;
use tokio::time::sleep;

use crate::demo::canary::Canaries;
use crate::demo::node::Nodes;
use crate::demo::picture;
use crate::demo::place::Place;
use crate::failure::Failure;
use crate::output::{Colour, line, paint};

/// How long each thing may take on a loaded machine.
const LIMIT: Duration = Duration::from_secs(45);
/// How long the reader is given to look, and the workload to run.
const PAUSE: Duration = Duration::from_millis(1500);

/// The whole story.
pub(crate) async fn tell(place: &Place, nodes: &mut Nodes) -> Result<(), Failure> {
    let clock = Clock::real();
    let began = clock.boot();
    let say = |text: &str| {
        let at = format!("{:5.1} s", clock.boot().since(began).as_secs_f64());
        line(format!("{}  {text}", paint(Colour::Grey, &at)));
    };
    let told = Told { place, say: &say, clock: &clock };
    let timing = if place.fast { "100 ms, takeover after 500 ms" } else { "1 s, takeover after 3 s" };
    say(&format!(
        "Two nodes on this machine, one key, certificates exchanged. Heartbeat every {timing} of silence."
    ));

    start(&told, nodes).await?;
    sleep(PAUSE).await;
    let takeover = kill_primary(&told, nodes).await?;
    sleep(PAUSE).await;
    let hand_back = bring_back(&told, nodes).await?;

    let overlap = canaries(place).overlap_ms();
    line("");
    line(paint(Colour::Bold, "Measured by the sample workload, which writes a line every 5 ms:"));
    line(format!("   kill -9 of the active node: nobody ran for {takeover:.0} ms"));
    line(format!("   planned hand-back:          nobody ran for {hand_back:.0} ms"));
    line(format!("   both ran at the same time:  {overlap:.0} ms"));
    if overlap > 0.0 {
        return Err(Failure::failed(format!(
            "the workload ran twice for {overlap:.1} ms: that must never be"
        )));
    }
    Ok(())
}

/// What every chapter needs.
struct Told<'a> {
    place: &'a Place,
    say: &'a dyn Fn(&str),
    clock: &'a Clock,
}

async fn start(told: &Told<'_>, nodes: &mut Nodes) -> Result<(), Failure> {
    let (a, b) = nodes.both();
    a.start()?;
    b.start()?;
    (told.say)("Starting node-a (primary) and node-b (secondary) ...");
    let status_a = a.reaches("redundancy", LIMIT, |status| ready(status, NodeState::Active)).await?;
    let status_b = b.reaches("redundancy", LIMIT, |status| ready(status, NodeState::Standby)).await?;
    (told.say)("node-a is active and runs the workload; node-b stands by.");
    show(told.place, Some(&status_a), Some(&status_b));
    Ok(())
}

async fn kill_primary(told: &Told<'_>, nodes: &mut Nodes) -> Result<f64, Failure> {
    let (a, b) = nodes.both();
    (told.say)(&format!("{} of node-a's manager (process {}) ...", paint(Colour::Red, "kill -9"), a.pid()));
    let killed = told.clock.boot();
    a.kill()?;
    let _ = b.reaches("the takeover", LIMIT, |status| state(status) == NodeState::Active).await?;
    let seen = told.clock.boot().since(killed);
    // The supervisor's word travels by another way than the driver's and may come an instant later.
    let status = b
        .reaches("the workload", LIMIT, |status| status.plugins.iter().all(|plugin| plugin.state == "ready"))
        .await?;
    let event = b.event(&["redundancy_active"]).await;
    (told.say)(&format!("node-b is active, {:.0} ms after the kill.", seen.as_secs_f64() * 1e3));
    if let Some(event) = event {
        line(format!("         node-b's journal: {} ({})", event.sentence, event.cause));
    }
    show(told.place, None, Some(&status));
    gap(told.place, 0, 1, killed.as_nanos())
}

async fn bring_back(told: &Told<'_>, nodes: &mut Nodes) -> Result<f64, Failure> {
    let (a, b) = nodes.both();
    (told.say)("Starting node-a again ...");
    let began = told.clock.boot();
    a.start()?;
    let standby = a
        .reaches("the return", LIMIT, |status| {
            matches!(state(status), NodeState::Standby | NodeState::Active)
        })
        .await?;
    if state(&standby) == NodeState::Standby {
        (told.say)("node-a is back and stands by; once it has been stable it takes the duty back.");
    }
    let status_a = a.reaches("the hand-back", LIMIT, |status| ready(status, NodeState::Active)).await?;
    let status_b =
        b.reaches("standby after the hand-back", LIMIT, |status| ready(status, NodeState::Standby)).await?;
    (told.say)("node-b has stopped the workload and handed the duty back; node-a runs it again.");
    show(told.place, Some(&status_a), Some(&status_b));
    gap(told.place, 1, 0, began.as_nanos())
}

/// With `--keep`: how to look at what goes on.
pub(crate) fn leave(place: &Place, nodes: &Nodes) {
    let program = std::env::current_exe()
        .map_or_else(|_unknown| "onduty".to_owned(), |path| path.display().to_string());
    let pids = nodes.pids();
    line("");
    line(paint(Colour::Bold, "Both nodes go on. To look at them:"));
    for (site, pid) in place.sites.iter().zip(pids) {
        let socket = site.socket();
        line(format!("   {program} status --watch --socket {}", socket.display()));
        line(format!(
            "   {program} events -f --socket {}      (process {pid}, log {})",
            socket.display(),
            site.log.display()
        ));
    }
    line(format!("   {program} switchover --socket {}", place.sites[0].socket().display()));
    line("To end them:");
    for site in place.sites.iter().rev() {
        line(format!("   {program} stop --no-handover --socket {}", site.socket().display()));
    }
    line(format!("   rm -r {}", place.path().display()));
}

fn canaries(place: &Place) -> Canaries {
    Canaries::read(&[&place.sites[0].canary, &place.sites[1].canary])
}

fn gap(place: &Place, from: usize, to: usize, since_ns: u64) -> Result<f64, Failure> {
    canaries(place)
        .gap_ms(from, to, since_ns)
        .ok_or_else(|| Failure::failed("the sample workload has not written what it should"))
}

fn show(place: &Place, a: Option<&NodeStatus>, b: Option<&NodeStatus>) {
    line("");
    let names = [0, 1].map(|index: usize| (place.sites[index].name, place.sites[index].role));
    line(picture::of(names, [a, b]));
    line("");
}

fn state(status: &NodeStatus) -> NodeState {
    status.node.as_ref().map_or(NodeState::Unspecified, |node| node.state())
}

fn ready(status: &NodeStatus, wanted: NodeState) -> bool {
    status.redundancy() == RedundancyWord::Ready && state(status) == wanted
}
