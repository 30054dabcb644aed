//! The pages made from the settings: forecast, reference, examples.

use super::*;

#[test]
fn every_example_is_accepted_without_a_warning() {
    let folder = repository().join("examples");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let environment = vec![("ONDUTY_NODE__NAME".into(), "example".into())];
        let options = LoadOptions { file: Some(path.clone()), environment, ..LoadOptions::default() };
        let loaded = load(&options).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings.is_empty(), "{}: {:?}", path.display(), loaded.warnings);
        assert!(!loaded.settings.plugins.is_empty());
        seen.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    seen.sort_unstable();
    for wanted in ["fast.toml", "minimal.toml", "primary.toml", "secondary.toml"] {
        assert!(seen.iter().any(|name| name == wanted), "{seen:?}");
    }
}

#[test]
fn the_reference_is_what_the_settings_say() {
    let path = repository().join("docs/configuration.md");
    let page = reference_markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page,
        "{} is old: run `UPDATE_DOCS=1 cargo test -p service-kit reference`",
        path.display()
    );
}

#[test]
fn the_reference_names_every_variable_as_the_loader_reads_it() {
    let page = reference_markdown();
    let named =
        page.lines().filter_map(|line| line.split('`').nth(3)).filter(|name| name.starts_with("ONDUTY_"));
    for name in named.map(str::to_owned).collect::<Vec<_>>() {
        // Any value will do: it must be taken for a setting, right or wrong.
        let name = name.replace("<NAME>", "P");
        let place = Place::with("[node]\nname = 'a'").variable(&name, "\u{1}");
        let text = place.load().map_or_else(|problems| problems.to_string(), |_| String::new());
        assert!(!text.contains("is not a setting"), "{name}: {text}");
    }
}

#[test]
fn the_forecast_of_the_standard_profile() {
    let file = primary("[plugins.p]\ncommand = ['/p']\nstop.grace = '5s'\nready.within = '4s'\n");
    let forecast = forecast(&loaded(&file).settings);
    insta::assert_snapshot!(forecast.to_string(), @r"
    heartbeat every 1s, takeover after 3s, guard deadline 1s 705ms; worst cases from the fault:
      manager killed, guard alive             detection ≤ 300ms   takeover ≤ 350ms     overlap none
          The guard ends the plugins and then proves it to the secondary, which need not wait.
      node lost, power cut                    detection ≤ 3s      takeover ≤ 3s 50ms   overlap none
          Nobody is left to say anything, so the secondary waits for the whole silence of 3s.
      manager frozen, guard alive             detection ≤ 3s      takeover ≤ 3s 50ms   overlap none
          The guard ends the plugins at most 2s 930ms after the last acknowledged heartbeat, before the secondary acts at 3s.
      whole machine frozen, goes on later     detection ≤ 3s      takeover ≤ 3s 50ms   overlap ≤ 100ms
          The plugins stand still with the machine, and the guard ends them as soon as it goes on.
      every onduty process killed at once     detection ≤ 3s      takeover ≤ 3s 50ms   overlap until it is healed
          With containment `namespace` the plugins die too; with `cgroup` or `group` they live on until onduty is started again there (`onduty status` shows which it is).
      link cut, both nodes alive              detection ≤ 3s      takeover ≤ 3s 50ms   overlap until it is healed
          With `arbitration.mode` `none` nobody can tell a cut link from a dead node: both are active until the link is back; then one yields by the rule.
      connections refused, no proof of death  detection ≤ 3s      takeover ≤ 3s 50ms   overlap until it is healed
          A refused connection proves nothing, a firewall can refuse too: the secondary waits for the whole silence of 3s, and if the primary is alive behind it both are active.
      secondary lost while it is active       detection ≤ 3s      takeover ≤ 3s 50ms   overlap none
          The primary takes over after its own timeout of 3s, counted from its last acknowledgement that a later heartbeat (every 1s) echoed.
    plugins are ready at most 4s after they were started
    stop budget: 24 s. The plugins stop within 5s 100ms, the other node has 10s to take the duty and start its own, and 8s are for what may hang at the end.
    ");
    let json = serde_json::to_value(&forecast).unwrap();
    assert_eq!(json["faults"][1]["detection_ms"], 3000);
    assert_eq!(json["faults"][5]["overlap_ms"], serde_json::Value::Null);
    assert_eq!(json["stop_budget_s"], 24);
    assert_eq!(json["guard_deadline_ms"], 1705);
}

#[test]
fn the_forecast_without_redundancy_is_the_stop_budget() {
    let file = "[node]\nname = 'a'\n[plugins.p]\ncommand = ['/p']\n";
    insta::assert_snapshot!(forecast(&loaded(file).settings).to_string(), @r"
    mode deactivated: the plugins run here, nobody takes over
    plugins are ready at most 30s after they were started
    stop budget: 19 s. The plugins stop within 10s 100ms, and 8s are for what may hang at the end.
    ");
}

#[test]
fn in_the_forecast_plugins_of_a_frozen_node_are_gone_before_the_takeover() {
    for profile in ["relaxed", "standard", "fast"] {
        let settings = loaded(&primary(&format!("profile = '{profile}'"))).settings;
        let forecast = forecast(&settings);
        let guard = forecast.guard_deadline.unwrap();
        assert!(forecast.interval + guard < forecast.takeover_after, "{profile}");
        assert!(forecast.faults.iter().all(|fault| fault.takeover >= fault.detection), "{profile}");
    }
}
