//! What objects say, read from JSON.

use serde_json::Value;

pub const TERMINAL: [&str; 5] = ["Completed", "RolledBack", "Cancelled", "Superseded", "Failed"];

/// Without what may be left out of a reference.
pub fn short(image: &str) -> &str {
    image.strip_prefix("docker.io/").unwrap_or(image)
}

pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

pub fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

pub fn phase(rollout: &Value) -> &str {
    text(rollout, "/status/phase")
}

pub fn is_terminal(rollout: &Value) -> bool {
    TERMINAL.contains(&phase(rollout))
}

/// The one entry that these devices can have.
pub fn entry(device: &Value) -> Option<&Value> {
    device.pointer("/spec/images")?.as_array()?.first()
}

/// What `apps` declares; these devices have one service.
pub fn declared(device: &Value) -> String {
    let apps = device.pointer("/spec/apps").and_then(Value::as_object);
    let services =
        apps.into_iter().flat_map(|apps| apps.values()).filter_map(|app| app["services"].as_array()).flatten();
    services.filter_map(|service| service["imageName"].as_str()).map(short).next().unwrap_or_default().to_owned()
}

/// The entry, if it still applies.
pub fn applying(device: &Value) -> Option<&Value> {
    entry(device).filter(|entry| short(text(entry, "/declared")) == declared(device))
}

/// What a device is told that goes back.
pub fn previous(device: &Value, entry: &Value) -> String {
    entry["previous"].as_str().map_or_else(|| declared(device), |image| short(image).to_owned())
}

/// The image of an entry; what `apps` declares where it has none.
pub fn image(device: &Value, entry: &Value) -> String {
    entry["image"].as_str().map_or_else(|| declared(device), |image| short(image).to_owned())
}

/// Whether an entry sends its device forward.
pub fn is_forward(device: &Value, entry: &Value) -> bool {
    entry["rolledBack"] != true && image(device, entry) != previous(device, entry)
}

/// Whether the last report shows that image running.
pub fn runs(device: &Value, image: &str) -> bool {
    let services = device.pointer("/status/services").and_then(Value::as_array);
    let mut services = services.into_iter().flatten();
    services.any(|service| service["status"] == "running" && service["image"].as_str().map(short) == Some(image))
}

/// Whether the rollout's own verdict on the device is Failed.
pub fn failed(device: &Value, rollout: &str) -> bool {
    let updates = device.pointer("/status/updates").and_then(Value::as_array);
    updates.into_iter().flatten().any(|update| update["rollout"] == rollout && update["verdict"] == "Failed")
}

/// A row of the gate's table, from the most permissive to the strictest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    Active,
    Held,
    Halted,
    RolledBack,
}

/// The row of a rollout for a device; one that is gone lets everybody pass.
pub fn row(rollout: Option<&Value>, device: &str) -> Row {
    let Some(rollout) = rollout else { return Row::Active };
    let spec = &rollout["spec"];
    let named = spec["rollBackDevices"].as_array().into_iter().flatten().any(|name| name == device);
    let desired = match spec["desiredState"].as_str() {
        _ if named => Row::RolledBack,
        Some("RolledBack") => Row::RolledBack,
        Some("Cancelled") => Row::Held,
        _ if spec["paused"] == true => Row::Held,
        _ => Row::Active,
    };
    let reached = match phase(rollout) {
        "Paused" | "Cancelled" | "Superseded" => Row::Held,
        "Halted" => Row::Halted,
        "RollingBack" | "RolledBack" => Row::RolledBack,
        _ => Row::Active,
    };
    let halted = if rollout["status"]["halted"].is_null() { Row::Active } else { Row::Halted };
    desired.max(reached).max(halted)
}
