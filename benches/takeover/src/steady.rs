//! What a node costs while nothing happens: CPU time from the scheduler's own account, memory as the proportional set
//! size, of manager and guard together, profile `standard`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use test_support::{Node, Pair, PairOptions, Pid, Profile, boot_ns, ms_between, until};

use crate::scenarios::running_apart;

/// What is promised, per node.
const CPU_MS_PER_MINUTE: f64 = 30.0;
/// The services apart may cost this much more.
const APART_MS: f64 = 20.0;
const PSS_MB: f64 = 16.0;
/// Connections, caches and allocators settle before anything is counted.
const WARM_UP: Duration = Duration::from_secs(60);

/// Measures both nodes; gives whether what is promised is met.
pub(crate) fn measure(binary: &Path, minutes: u64, apart: bool) -> bool {
    let options = PairOptions::new(&binary.to_string_lossy()).profile(Profile::Standard);
    let pair = if apart { running_apart(options) } else { Pair::running(options) };
    pass(WARM_UP);
    let nodes = [&pair.primary, &pair.secondary];
    let processes = nodes.map(Node::onduty_processes);
    let before = processes.each_ref().map(|pids| cpu_ms(pids));
    let begun = boot_ns();
    pass(Duration::from_secs(60 * minutes.max(1)));
    let elapsed_minutes = ms_between(begun, boot_ns()) / 60_000.0;

    println!("{:<10} {:>18} {:>10}  (processes)", "node", "CPU ms per minute", "PSS MB");
    let figure = if apart { CPU_MS_PER_MINUTE + APART_MS } else { CPU_MS_PER_MINUTE };
    let mut met = true;
    for ((node, pids), before) in nodes.into_iter().zip(&processes).zip(before) {
        let cpu = (cpu_ms(pids) - before) / elapsed_minutes;
        let pss = pids.iter().map(|pid| pss_mb(*pid)).sum::<f64>();
        let fits = cpu <= figure && pss <= PSS_MB;
        met &= fits;
        let verdict = if fits { "met" } else { "NOT MET" };
        println!("{:<10} {cpu:>18.1} {pss:>10.1}  ({})  {verdict}", node.name(), pids.len());
    }
    met
}

fn pass(time: Duration) {
    let begun = boot_ns();
    let limit = time + Duration::from_secs(60);
    let ms = time.as_secs_f64() * 1000.0;
    until("the time to pass", limit, || (ms_between(begun, boot_ns()) >= ms).then_some(()));
}

/// Time on a CPU of every thread, by `/proc/PID/task/*/schedstat`.
fn cpu_ms(pids: &[Pid]) -> f64 {
    let threads =
        pids.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok()).flatten().flatten();
    let of_thread = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    ms_between(0, threads.filter_map(of_thread).sum())
}

fn pss_mb(pid: Pid) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes =
        line.and_then(|rest| rest.trim().strip_suffix(" kB")).and_then(|number| number.trim().parse().ok());
    kilobytes.unwrap_or(0.0_f64) / 1024.0
}
