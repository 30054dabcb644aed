//! Who asks: the kernel's word for who is at the other end of a unix socket, handed on by whoever forwards a call.

use nix::unistd::User;
use tonic::Request;
use tonic::transport::server::UdsConnectInfo;

/// The header in which a forwarder says for whom it asks.
pub const CALLER: &str = "onduty-caller";
/// The longest name of a caller.
const LONGEST_CALLER: usize = 256;

/// Who asks. Behind a forwarder the socket's caller is the forwarder, and it says for whom it asks.
#[must_use]
pub fn caller<T>(request: &Request<T>, behind_forwarder: bool) -> String {
    let told = request.metadata().get(CALLER).filter(|_| behind_forwarder);
    let told = told.and_then(|told| told.to_str().ok()).filter(|told| told.len() <= LONGEST_CALLER);
    told.map_or_else(|| at_the_other_end(request.extensions()), str::to_owned)
}

/// The kernel's word for who is at the other end of a connection.
#[must_use]
pub fn at_the_other_end(connection: &http::Extensions) -> String {
    let credentials = connection.get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    match credentials {
        Some(who) => user(who.uid()),
        None => "the node's socket".to_owned(),
    }
}

/// A user's name, or its number where it has none.
#[must_use]
pub fn user(id: u32) -> String {
    let user = User::from_uid(id.into()).ok().flatten();
    user.map_or_else(|| format!("user id {id}"), |user| user.name)
}
