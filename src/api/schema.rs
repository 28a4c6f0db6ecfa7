//! Pieces of JSON schema that the derive can't say: bounded durations, shares, times, opaque JSON.

use kube::core::Rule;
use schemars::{Schema, SchemaGenerator, json_schema};

/// What every duration looks like: as people write it, or as it comes back from whoever has parsed it (`0ns`, `1800000s`,
/// `1.0005s`). A rollout keeps its policy's durations in its status, and those have been parsed.
const DURATION: &str = r"^(0ns|[0-9]{1,11}(\.[0-9]{1,9})?[mµ]?s|([0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m|h))+)$";

/// Go duration string, not negative, at most 32 characters: `30s`, `1h30m`.
pub fn duration(_: &mut SchemaGenerator) -> Schema {
    text(32, &[matches(DURATION, "write a duration as a number and a unit (ms, s, m, h), such as 30s, 15m or 1h30m")])
}

/// A duration that is not zero.
pub fn duration_from_1ms(_: &mut SchemaGenerator) -> Schema {
    duration_from("1ms", "must be at least 1ms")
}

/// A duration of at least a second.
pub fn duration_from_1s(_: &mut SchemaGenerator) -> Schema {
    duration_from("1s", "must be at least 1s")
}

/// A duration of at least ten seconds: registries count requests.
pub fn duration_from_10s(_: &mut SchemaGenerator) -> Schema {
    duration_from("10s", "must be at least 10s: registries count requests")
}

fn duration_from(least: &str, message: &str) -> Schema {
    let long = Rule::new(format!("!self.matches(r'{DURATION}') || duration(self) >= duration('{least}')"));
    text(
        32,
        &[
            matches(DURATION, "write a duration as a number and a unit (ms, s, m, h), such as 30s, 15m or 1h30m"),
            long.message(message),
        ],
    )
}

/// Whole per cent: `0%` to `100%`.
pub fn percent(_: &mut SchemaGenerator) -> Schema {
    text(4, &[matches("^(100|[1-9]?[0-9])%$", "write a whole share from 0% to 100%, such as 20%")])
}

/// A decimal number as a text: fields have no floats.
pub fn decimal(_: &mut SchemaGenerator) -> Schema {
    text(32, &[matches(r"^-?[0-9]{1,15}(\.[0-9]{1,9})?$", "write a decimal number as a text, such as \"0.05\"")])
}

/// A number, or a text that says more than a number can.
pub fn int_or_string(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-int-or-string": true })
}

/// A rule that a text matches a regular expression, with words of ours. What the API server says of a schema's `pattern`
/// is the pattern, which tells nobody what to write.
#[must_use]
pub fn matches(pattern: &str, message: &str) -> Rule {
    Rule::new(format!("self.matches(r'{pattern}')")).message(message)
}

/// A time that is one. Of a `date-time` the API server checks the form if it is a text, and takes a list for it otherwise;
/// a rule that looks at the value makes it look. And the end of the year 9999, which people write for "never", is past
/// the last time that we can read.
#[must_use]
pub fn a_time() -> Rule {
    Rule::new("self >= timestamp('1970-01-01T00:00:00Z') && self < timestamp('9999-01-01T00:00:00Z')")
        .message("write a time from 1970 to 9998, such as 2026-12-01T22:00:00Z")
}

/// A text of at most `max_length` characters with rules.
fn text(max_length: u32, rules: &[Rule]) -> Schema {
    json_schema!({ "type": "string", "maxLength": max_length, "x-kubernetes-validations": rules })
}

/// Each size of a batch by itself: a share of a cohort (`10%`) or a count of devices (`5`).
///
/// The API server limits what a rule may cost at worst, and takes an int-or-string for a text of megabytes whatever
/// else its schema says. So it may be compared with literals, but neither matched nor cut nor compared with another.
#[must_use]
pub fn batch_size_rule() -> Rule {
    Rule::new(format!("type(self) == string ? self in {} : int(self) >= 1 && int(self) <= 1000000", percents()))
        .message("size must be a whole share from 1% to 100%, or a number of devices from 1 to 1000000")
}

/// Shares grow strictly, and so do counts: the shares that occur, in the order of 1% to 100%, are the list itself.
#[must_use]
pub fn growing_sizes() -> Rule {
    let percents = percents();
    let counts = "self.filter(b, type(b.size) == int).map(b, int(b.size))";
    Rule::new(format!(
        "{percents}.filter(p, self.exists(b, b.size == p)) == self.filter(b, b.size in {percents}).map(b, b.size) && \
         {counts}.isSorted() && {counts}.all(c, {counts}.exists_one(other, other == c))"
    ))
    .message("batch sizes are cumulative and must grow strictly, such as 10%, 50%, 100%")
}

/// `['1%', …, '100%']`
fn percents() -> String {
    let percents: Vec<String> = (1..=100).map(|percent| format!("'{percent}%'")).collect();
    format!("[{}]", percents.join(","))
}

/// A JSON object kept as it is.
pub fn opaque_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Time of day, `HH:MM`.
pub fn time_of_day(_: &mut SchemaGenerator) -> Schema {
    text(5, &[matches("^([01][0-9]|2[0-3]):[0-5][0-9]$", "write a time of day as HH:MM, from 00:00 to 23:59")])
}

/// `apps` of a device as people write it: the fields that Tranche reads are typed, everything else is passed through.
pub fn apps(_: &mut SchemaGenerator) -> Schema {
    let service = json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "serviceId": { "x-kubernetes-int-or-string": true },
            "serviceName": { "type": "string", "maxLength": 253 },
            "imageName": { "type": "string", "maxLength": 512 },
            "config": {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": true,
                "properties": { "image": { "type": "string", "maxLength": 512 } },
            },
        },
    });
    let app = json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "appName": { "type": "string", "maxLength": 253 },
            "services": { "type": "array", "maxItems": 64, "items": service },
        },
    });
    json_schema!({ "type": "object", "maxProperties": 64, "additionalProperties": app })
}
