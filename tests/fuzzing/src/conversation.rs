//! What both targets of the link share: bytes as a conversation of frames, and what any frame has to keep.
//!
//! A conversation is frames one after the other, each with its length before it in two bytes, big endian. A length beyond
//! the end means the rest, so that any bytes are a conversation.

use failover_core::{Beat, NodeName};
use onduty_api::heartbeat::{DialFrame, ListenFrame};
use onduty_api::wire::heartbeat::v1 as wire;
use onduty_api::{Invalid, MAX_LINK_MESSAGE};
use prost::Message;

/// Frames of one conversation that are looked at: enough for a handshake and some beats.
const MOST_FRAMES: usize = 12;

/// The frames of a conversation.
pub(crate) fn frames(bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let end = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (frame, next) = after.split_at(end);
        frames.push(frame);
        rest = next;
        if frames.len() == MOST_FRAMES {
            break;
        }
    }
    frames
}

/// A frame of the dialling node, as the listening one reads it. What is accepted means the same after another trip.
pub(crate) fn dial_frame(bytes: &[u8]) -> Option<DialFrame> {
    let request = wire::SessionRequest::decode(bytes).ok()?;
    let frame = DialFrame::try_from(request).map_err(|invalid| told(&invalid)).ok()?;
    let sent = wire::SessionRequest::from(frame.clone()).encode_to_vec();
    assert!(sent.len() <= MAX_LINK_MESSAGE, "what was received can be sent: {} bytes", sent.len());
    let again = wire::SessionRequest::decode(&sent[..]).expect("what is sent can be decoded");
    assert_eq!(DialFrame::try_from(again).as_ref(), Ok(&frame), "the same after another trip");
    if let DialFrame::Beat(beat) = &frame {
        keeps_its_bounds(beat);
    }
    Some(frame)
}

/// A frame of the listening node, as the dialling one reads it.
pub(crate) fn listen_frame(bytes: &[u8]) -> Option<ListenFrame> {
    let response = wire::SessionResponse::decode(bytes).ok()?;
    let frame = ListenFrame::try_from(response).map_err(|invalid| told(&invalid)).ok()?;
    let sent = wire::SessionResponse::from(frame.clone()).encode_to_vec();
    assert!(sent.len() <= MAX_LINK_MESSAGE, "what was received can be sent: {} bytes", sent.len());
    let again = wire::SessionResponse::decode(&sent[..]).expect("what is sent can be decoded");
    assert_eq!(ListenFrame::try_from(again).as_ref(), Ok(&frame), "the same after another trip");
    if let ListenFrame::Beat(beat) = &frame {
        keeps_its_bounds(beat);
    }
    Some(frame)
}

/// A refusal names the field and says the rule, and quotes nothing of what a stranger sent.
pub(crate) fn told(invalid: &Invalid) {
    let path = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    assert!(!invalid.field.is_empty() && invalid.field.chars().all(path), "{invalid:?}");
    assert!(!invalid.rule.is_empty() && invalid.to_string().len() < 256, "{invalid:?}");
    assert!(!invalid.rule.chars().any(char::is_control), "{invalid:?}");
}

/// What everybody behind the decoder relies on.
pub(crate) fn keeps_its_bounds(beat: &Beat) {
    let report = &beat.report;
    is_a_name(report.identity.name.as_str());
    let timings = &report.timings;
    for span in [timings.interval, timings.takeover_after, timings.guard_deadline, timings.startup_wait] {
        assert!(span.as_secs() <= 366 * 24 * 3600, "sums of durations must not overflow: {span:?}");
    }
    assert!(report.summary.plugins.len() <= onduty_api::types::MAX_PLUGINS);
    let texts = [&report.summary.version, &report.summary.project];
    assert!(texts.iter().all(|text| text.len() <= 64), "{texts:?}");
    assert!(report.summary.plugins.iter().all(|(name, state)| name.len() <= 256 && state.len() <= 64));
    let offers = [&report.procedure.offer, &report.procedure.ask];
    let asked = offers.into_iter().flatten().map(|handover| &handover.request);
    let refused = report.procedure.refusal.iter().map(|(request, _)| request);
    for request in asked.chain(refused) {
        assert!((1..=64).contains(&request.0.chars().count()), "{request:?}");
    }
}

/// A name that can stand in every log and on every screen.
pub(crate) fn is_a_name(name: &str) {
    assert!(NodeName::try_from(name.to_owned()).is_ok(), "{name:?}");
    assert!((1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
}
