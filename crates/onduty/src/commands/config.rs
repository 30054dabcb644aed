//! `onduty config check|show`: what is wrong with settings, what they mean, and where each value comes from.

use failover_core::EventCode;
use service_kit::settings::{Effective, forecast};
use service_kit::with_causes;

use crate::cli::ConfigArgs;
use crate::failure::Failure;
use crate::output::{self, Colour, coded, paint};
use crate::{settings, tables, up};

/// Checks, and says what it means for detection, takeover and stop.
pub(crate) fn check(args: &ConfigArgs) -> Result<(), Failure> {
    let loaded = settings::load_for_node(args.config.as_deref(), &args.set)?;
    // A key that the node would refuse at its start: missing, empty, open to others.
    let keys = up::keys::load(&loaded.settings)?;
    let left_out = keys.iter().flat_map(|(_, left_out)| left_out).map(|error| with_causes(error));
    let left_out: Vec<String> = left_out.collect();
    let forecast = forecast(&loaded.settings);
    if args.json {
        let warnings: Vec<&String> = loaded.warnings.iter().chain(&left_out).collect();
        let forecast = serde_json::to_value(&forecast).map_err(|error| Failure::failed(error.to_string()))?;
        output::json(&serde_json::json!({ "warnings": warnings, "forecast": forecast }));
        return Ok(());
    }
    for warning in &loaded.warnings {
        let warning = coded(warning, EventCode::UnsafeSetting.as_str());
        output::line(format!("{} {warning}", paint(Colour::Yellow, "warning:")));
    }
    for sentence in &left_out {
        let warning = coded(sentence, EventCode::KeyUnusable.as_str());
        output::line(format!("{} {warning}", paint(Colour::Yellow, "warning:")));
    }
    output::line(paint(Colour::Green, "the settings can be used"));
    output::line(forecast.to_string());
    Ok(())
}

/// Prints every value with its source.
pub(crate) fn show(args: &ConfigArgs) -> Result<(), Failure> {
    let loaded = settings::load(args.config.as_deref(), &args.set)?;
    let effective = loaded.effective();
    if args.json {
        output::json(&serde_json::to_value(&effective).map_err(|error| Failure::failed(error.to_string()))?);
        return Ok(());
    }
    let mut table = tables::plain(&["key", "value", "from"]);
    for Effective { key, value, otherwise, source } in effective {
        let value =
            value.or_else(|| otherwise.map(|text| format!("({text})"))).unwrap_or_else(|| "(not set)".into());
        let _ = table.add_row([key, value, source.to_string()]);
    }
    output::line(tables::text(&table));
    Ok(())
}
