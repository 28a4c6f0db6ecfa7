//! CloudEvents over HTTP, in both modes.
//!
//! **Structured**: the body is the envelope, `{"specversion", "type", "id", "data": {…}}`. **Binary**: the envelope is in the
//! headers `Ce-Type`, `Ce-Id` and so on, and the body is the data alone. Only as much is read as a push needs; JSON
//! data only.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::delivery::{Delivery, for_people, tidy};
use super::error::ParseError;

/// An event's data, and its id.
#[derive(Debug)]
pub(super) struct CloudEvent<T> {
    /// Unique for its source. A registry that sends an event again sends the id again.
    pub id: Option<String>,
    /// What it says.
    pub data: T,
}

#[derive(Deserialize)]
struct Envelope<T> {
    #[serde(default, deserialize_with = "for_people")]
    id: Option<String>,
    data: T,
}

/// The event's type, where the delivery is a CloudEvent.
pub(super) fn type_of<'a>(delivery: &'a Delivery<'_>) -> Option<&'a str> {
    delivery.header("ce-type").or_else(|| delivery.text("type").filter(|_| delivery.has("specversion")))
}

/// Reads a delivery for which [`type_of`] has a type.
pub(super) fn read<T: DeserializeOwned>(
    delivery: &Delivery<'_>,
    what: &'static str,
) -> Result<CloudEvent<T>, ParseError> {
    if delivery.headers.contains_key("ce-type") {
        return Ok(CloudEvent { id: delivery.header("ce-id").and_then(tidy), data: delivery.payload(what)? });
    }
    let Envelope { id, data } = delivery.payload(what)?;
    Ok(CloudEvent { id, data })
}
