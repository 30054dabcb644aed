//! The pair as a picture, in plain ASCII.

use onduty_api::wire::failover::v1::{LinkVerdict, NodeStatus};
use onduty_api::wire::types::v1::NodeState;

use crate::commands::render;
use crate::output::{Colour, paint};

const WIDTH: usize = 24;

/// Both nodes, each with name and role, and what is between them; `None` is a node that does not answer.
pub(crate) fn of(names: [(&str, &str); 2], statuses: [Option<&NodeStatus>; 2]) -> String {
    let boxes = [0, 1].map(|index: usize| lines(names[index], statuses[index]));
    let between = link(statuses);
    let border = format!("+{}+", "-".repeat(WIDTH));
    let mut picture = vec![format!("   {border}{}{border}", " ".repeat(between[0].len()))];
    for (row, middle) in between.iter().enumerate() {
        picture.push(format!("   |{}|{middle}|{}|", boxes[0][row], boxes[1][row]));
    }
    picture.push(format!("   {border}{}{border}", " ".repeat(between[0].len())));
    picture.join("\n")
}

fn lines((name, role): (&str, &str), status: Option<&NodeStatus>) -> [String; 3] {
    let state = status.and_then(|status| status.node.as_ref()).map(|node| node.state());
    let (word, colour) = match state {
        None => ("dead".to_owned(), Colour::Red),
        Some(NodeState::Active) => ("ACTIVE".to_owned(), Colour::Green),
        Some(state) => (render::state(state).to_owned(), Colour::Grey),
    };
    let plugin =
        status.and_then(|status| status.plugins.first()).map_or("gone", |plugin| plugin.state.as_str());
    [
        cell(&format!("{name} ({role})"), None),
        cell(&word, Some(colour)),
        cell(&format!("plugin canary: {plugin}"), None),
    ]
}

fn cell(text: &str, colour: Option<Colour>) -> String {
    let padded = format!(" {text:<width$}", width = WIDTH - 1);
    colour.map_or_else(|| padded.clone(), |colour| paint(colour, &padded))
}

fn link(statuses: [Option<&NodeStatus>; 2]) -> [String; 3] {
    let peer = statuses[1].and_then(|status| status.peer.as_ref());
    let up = statuses[0].is_some() && peer.is_some_and(|peer| peer.link() == LinkVerdict::Established);
    if !up {
        return ["              ".into(), "---   X   ----".into(), "              ".into()];
    }
    let round_trip = peer
        .and_then(|peer| peer.round_trip.as_ref())
        .map_or_else(String::new, |span| format!("{:.1} ms", render::seconds(span) * 1e3));
    ["  heartbeats  ".into(), "<------------>".into(), format!("{round_trip:^14}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_picture_is_equally_wide() {
        let names = [("node-a", "primary"), ("node-b", "secondary")];
        let alive = NodeStatus::default();
        for statuses in
            [[None, None], [Some(&alive), None], [None, Some(&alive)], [Some(&alive), Some(&alive)]]
        {
            let picture = of(names, statuses);
            let widths: Vec<usize> = picture.lines().map(|line| line.chars().count()).collect();
            assert!(widths.iter().all(|width| *width == widths[0]), "{picture}");
        }
    }
}
