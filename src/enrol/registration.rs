//! What a device says of itself when it registers. Every generation of agents says it in the same words.
//!
//! Reads within bounds and keeps no key, only its hash. Errors name the field, never what stands in it.

use serde_json::{Map, Value};

use super::hash::{self, KeyHash};
use super::proof::PublicKey;

/// Devices' own keys have 64 to 76 characters. Fewer than this could be guessed.
const MIN_KEY: usize = 32;
/// As much as a request's head may carry of it.
pub const MAX_KEY: usize = 512;
const MAX_NAME: usize = 253;
const MAX_TYPE: usize = 64;
const MAX_PEM: usize = 1024;

/// What a device says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// Its UUID as it spells it; answers keep the spelling.
    pub spelled: String,
    /// Its UUID in lower case: the name of its `Device`.
    pub uuid: String,
    /// For people.
    pub name: Option<String>,
    /// What it calls its own kind.
    pub type_: Option<String>,
    /// Hash of its key.
    pub key_hash: KeyHash,
    /// Its public key. Agents of the first two generations have none.
    pub public_key: Option<PublicKey>,
    /// Sent back as it came.
    pub application: Option<i64>,
}

impl Registration {
    /// Reads a body.
    ///
    /// # Errors
    /// With what is missing or wrong, for the agent's log.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let body = object(body)?;
        let spelled = text(&body, "uuid", 64)?.ok_or("uuid is missing")?;
        let uuid = uuid(&spelled).ok_or("uuid must be a UUID, such as 7f0c0000-0000-4000-8000-00000000000a")?;
        let key = text(&body, "deviceApiKey", MAX_KEY)?.ok_or("deviceApiKey is missing")?;
        let public_key = match text(&body, "devicePublicKey", MAX_PEM)? {
            None => None,
            Some(pem) => Some(
                PublicKey::from_pem(&pem).ok_or("devicePublicKey must be a PEM of an Ed25519 or P-256 public key")?,
            ),
        };
        Ok(Self {
            key_hash: device_key(&key, "deviceApiKey")?,
            name: text(&body, "deviceName", MAX_NAME)?,
            type_: text(&body, "deviceType", MAX_TYPE)?,
            application: body.get("applicationId").and_then(Value::as_i64),
            spelled,
            uuid,
            public_key,
        })
    }
}

/// The JSON object of a body.
///
/// # Errors
/// When it is none.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, String> {
    // What the parser says could quote a key, so it isn't said.
    serde_json::from_slice(body).map_err(|_| "the body must be a JSON object".to_owned())
}

/// A text of an object; empty ones count as absent, as agents send them for what they don't know.
///
/// # Errors
/// When it is no text, too long, or has characters that nobody can see.
pub fn text(object: &Map<String, Value>, field: &str, max: usize) -> Result<Option<String>, String> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() > max => Err(format!("{field} may have {max} characters")),
        Some(Value::String(text)) if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r')) => {
            Err(format!("{field} has control characters"))
        }
        Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned)),
        Some(_) => Err(format!("{field} must be a text")),
    }
}

/// Hash of a key that a device chose.
///
/// # Errors
/// When it is too short, or could not be sent in a header.
pub fn device_key(key: &str, field: &str) -> Result<KeyHash, String> {
    if key.len() < MIN_KEY || key.len() > MAX_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{field} must have {MIN_KEY} to {MAX_KEY} visible ASCII characters"));
    }
    Ok(hash::of(key))
}

/// A UUID in lower case: 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12.
#[must_use]
pub fn uuid(text: &str) -> Option<String> {
    let groups = text.split('-').map(str::len);
    let is_uuid = groups.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    is_uuid.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const UUID: &str = "7F0C0000-0000-4000-8000-00000000000a";

    fn read(change: &Value) -> Result<Registration, String> {
        let mut body =
            json!({ "uuid": UUID, "deviceName": "line 3", "deviceType": "pi", "deviceApiKey": "k".repeat(64) });
        for (field, value) in change.as_object().expect("an object") {
            body[field] = value.clone();
        }
        Registration::read(body.to_string().as_bytes())
    }

    #[test]
    fn of_every_generation() {
        let first = read(&json!({ "applicationId": 7, "supervisorVersion": "1", "macAddress": "…" })).expect("one");
        assert_eq!((first.spelled.as_str(), first.uuid), (UUID, UUID.to_lowercase()));
        assert_eq!((first.name.as_deref(), first.type_.as_deref()), (Some("line 3"), Some("pi")));
        assert_eq!((first.application, first.public_key), (Some(7), None));
        assert_eq!(first.key_hash, hash::of("k".repeat(64)));
        let pem = include_str!("../../tests/data/enrolment/ed25519.pem");
        let third = read(&json!({ "devicePublicKey": pem, "agentVersion": "1.0.547" })).expect("one");
        assert_eq!(third.public_key, PublicKey::from_pem(pem));
        let bare = read(&json!({ "deviceName": "", "deviceType": null })).expect("one");
        assert_eq!((bare.name, bare.type_), (None, None));
    }

    #[test]
    fn what_is_wrong_is_named_and_not_quoted() {
        for (change, says) in [
            (json!({ "uuid": null }), "uuid is missing"),
            (json!({ "uuid": 7 }), "uuid must be a text"),
            (json!({ "uuid": "../../secrets" }), "uuid must be a UUID"),
            (json!({ "uuid": "7f0c000000004000800000000000000a" }), "uuid must be a UUID"),
            (json!({ "deviceApiKey": "" }), "deviceApiKey is missing"),
            (json!({ "deviceApiKey": "hunter2" }), "deviceApiKey must have 32 to 512"),
            (json!({ "deviceApiKey": "hunter2 ".repeat(8) }), "deviceApiKey must have 32 to 512"),
            (json!({ "deviceApiKey": "hunter2".repeat(80) }), "deviceApiKey may have 512"),
            (json!({ "deviceName": "x".repeat(254) }), "deviceName may have 253"),
            (json!({ "deviceName": "a\u{1b}[2J" }), "deviceName has control"),
            (json!({ "devicePublicKey": "hunter2" }), "devicePublicKey must be a PEM"),
        ] {
            let error = read(&change).expect_err("refused");
            assert!(error.contains(says) && !error.contains("hunter2"), "{change}: {error}");
        }
        for body in ["", "[]", "null", "\"hunter2\"", "{\"uuid\": hunter2}", "\u{0}"] {
            assert_eq!(Registration::read(body.as_bytes()), Err("the body must be a JSON object".into()));
        }
    }
}
