//! The `webhook` check: a service of one's own is told of a device and says whether it is healthy.
//!
//! Only what it says is a verdict: status 200 with `{"healthy": true}` or `{"healthy": false, "reason": "…"}`. Anything else
//! (another status, no answer, no JSON, no `healthy`) is Unknown, [`Doubt::NotJudged`], after the retries: the service is
//! somebody's own, and when it breaks, it must not fail devices. Redirects are not followed, since what is sent would go
//! elsewhere.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::exchange::{self, Answer, Ask};
use super::guard::{Guard, Reach};
use super::headers::{self, HeaderText};
use super::http::{MAX_BODY, no_target};
use super::invalid::InvalidCheck;
use super::template::{Host, RenderError, Template, Values};
use super::tls::{Tls, TlsSpec};
use super::verdict::{Doubt, Failure, Outcome};

/// A `webhook` check as a policy has it.
#[derive(Clone, Debug, Default)]
pub struct WebhookSpec {
    /// With placeholders, but none in the host.
    pub url: String,
    /// Sent along.
    pub headers: Vec<(String, HeaderText)>,
    /// For https.
    pub tls: TlsSpec,
}

/// A `webhook` check that can work.
#[derive(Clone, Debug)]
pub struct WebhookCheck {
    url: Template,
    headers: HeaderMap,
    tls: Tls,
}

/// What is sent.
#[derive(Serialize)]
struct Question<'a> {
    check: &'a str,
    namespace: &'a str,
    rollout: &'a str,
    image: &'a str,
    tag: &'a str,
    device: Device<'a>,
}

#[derive(Serialize)]
struct Device<'a> {
    name: &'a str,
    uuid: &'a str,
    address: Option<String>,
}

/// What is understood of an answer.
#[derive(Deserialize)]
struct Judgement {
    healthy: bool,
    #[serde(default)]
    reason: Option<String>,
}

impl WebhookCheck {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, whatever the device.
    pub fn parse(spec: &WebhookSpec) -> Result<Self, InvalidCheck> {
        let WebhookSpec { url, headers, tls } = spec;
        let url = Template::parse(url).map_err(InvalidCheck::Url)?;
        if !url.has_fixed_host() {
            return Err(InvalidCheck::FixedHost);
        }
        let mut headers = headers::parse(headers)?;
        let json = HeaderValue::from_static("application/json");
        headers.insert(CONTENT_TYPE, json.clone());
        headers.insert(ACCEPT, json);
        Ok(Self { url, headers, tls: Tls::parse(tls).map_err(InvalidCheck::Tls)? })
    }

    pub(super) fn host(&self, values: &Values) -> Result<Host, RenderError> {
        self.url.host(values)
    }

    /// Asks about one device, on behalf of the check of this name and of a rollout.
    pub async fn look(&self, guard: &Guard, values: &Values, check: &str, rollout: &str, deadline: Instant) -> Outcome {
        let url = match self.url.render(values) {
            Ok(url) => url,
            Err(error) => return no_target(&error),
        };
        let Values { device_ip, device_name, device_uuid, namespace, image, tag } = values;
        let device = Device { name: device_name, uuid: device_uuid, address: device_ip.map(|ip| ip.to_string()) };
        let question = Question { check, namespace, rollout, image, tag, device };
        let body = match serde_json::to_vec(&question) {
            Ok(json) => Bytes::from(json),
            Err(error) => return Outcome::unknown(Doubt::Internal, error.to_string()),
        };
        let ask = Ask {
            method: &Method::POST,
            url: &url,
            headers: &self.headers,
            body: &body,
            tls: &self.tls,
            reach: Reach::Service,
            limit: MAX_BODY,
            deadline,
        };
        match exchange::ask(guard, &ask).await {
            Ok(answer) => judge(&answer),
            // Whatever it was, it wasn't the device.
            Err(Outcome::Failed { message, .. }) => not_judged(&message),
            Err(unknown @ (Outcome::Unknown { .. } | Outcome::Passed)) => unknown,
        }
    }
}

fn judge(answer: &Answer) -> Outcome {
    if answer.status != StatusCode::OK {
        return not_judged(&format!("it answered with status {}", answer.status.as_u16()));
    }
    if answer.cut {
        return not_judged("its answer is longer than 64 KiB");
    }
    match serde_json::from_slice::<Judgement>(&answer.body) {
        Ok(Judgement { healthy: true, .. }) => Outcome::Passed,
        Ok(Judgement { healthy: false, reason }) => {
            Outcome::failed(Failure::Judged, reason.as_deref().unwrap_or("the webhook gave no reason"))
        }
        Err(_) => not_judged("its answer is not {\"healthy\": true or false, \"reason\": \"…\"}"),
    }
}

fn not_judged(why: &str) -> Outcome {
    Outcome::unknown(Doubt::NotJudged, format!("the webhook did not judge the device: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judged() {
        for (status, body, cut, expected) in [
            (200, r#"{"healthy": true}"#, false, "passed"),
            (200, r#"{"healthy": true, "reason": "fine", "more": [1]}"#, false, "passed"),
            (200, r#"{"healthy": false}"#, false, "failed (Judged): the webhook gave no reason"),
            (200, r#"{"healthy": false, "reason": "too\nhot"}"#, false, "failed (Judged): too hot"),
            (200, r#"{"healthy": "no"}"#, false, "unknown (NotJudged)"),
            (200, r#"{"healthy": null}"#, false, "unknown (NotJudged)"),
            (200, "{}", false, "unknown (NotJudged)"),
            (200, "", false, "unknown (NotJudged)"),
            (200, "no", false, "unknown (NotJudged)"),
            (200, r#"{"healthy": true}"#, true, "unknown (NotJudged)"),
            (201, r#"{"healthy": true}"#, false, "unknown (NotJudged)"),
            (302, "", false, "unknown (NotJudged)"),
            (400, r#"{"healthy": false}"#, false, "unknown (NotJudged)"),
            (500, r#"{"healthy": false}"#, false, "unknown (NotJudged)"),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let outcome = judge(&Answer { status, headers: HeaderMap::new(), body: body.into(), cut }).to_string();
            assert!(outcome.starts_with(expected), "{status} {body}: {outcome}");
        }
    }

    #[test]
    fn whose_webhook() {
        let parse = |url: &str| WebhookCheck::parse(&WebhookSpec { url: url.into(), ..WebhookSpec::default() });
        assert!(parse("https://judge.example/{device_uuid}").is_ok());
        assert_eq!(parse("https://{device_ip}/").err(), Some(InvalidCheck::FixedHost));
        assert_eq!(parse("https://{device_name}.example/").err(), Some(InvalidCheck::FixedHost));
    }
}
