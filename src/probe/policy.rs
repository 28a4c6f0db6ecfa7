//! From a policy's checks to checks that can work. Pure: what is wrong with one is known before any rollout starts on it.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::analysis::{AnalysisCheck, AnalysisSpec};
use super::headers::HeaderText;
use super::http::{HttpCheck, HttpSpec};
use super::invalid::InvalidCheck;
use super::job::JobCheck;
use super::schedule::{Schedule, ScheduleError};
use super::tcp::TcpCheck;
use super::tls::TlsSpec;
use super::webhook::{WebhookCheck, WebhookSpec};
use super::{Check, Kind};
use crate::api::check::{CheckTls, Header, HealthCheck, SecretKeyRef};
use crate::oci::Secret;

/// Key of a Secret with authorities.
const CA: &str = "ca.crt";

/// What the Secrets hold that checks name.
pub type Secrets = BTreeMap<SecretKeyRef, Vec<u8>>;

impl Check {
    /// A policy's check, if looks are taken for it. Of `container` they aren't: it is judged by what the device reports.
    /// Without `secrets` it is only said whether the check can work, whatever they hold.
    ///
    /// # Errors
    /// What is wrong with it, whatever the device.
    pub fn of(check: &HealthCheck, allowed: &[IpNet], secrets: Option<&Secrets>) -> Result<Option<Self>, InvalidCheck> {
        let HealthCheck {
            name,
            http,
            tcp,
            container,
            webhook,
            job,
            analysis,
            timeout,
            retries,
            interval,
            initial_delay,
            success_threshold,
        } = check;
        let kind = match (http, tcp, container, webhook, job, analysis) {
            (Some(http), None, None, None, None, None) => Kind::Http(Box::new(http_check(http, secrets)?)),
            (None, Some(tcp), None, None, None, None) => Kind::Tcp(TcpCheck::parse(&tcp.host, tcp.port)?),
            (None, None, Some(_), None, None, None) => return Ok(None),
            (None, None, None, Some(webhook), None, None) => {
                let crate::api::check::WebhookCheck { url, headers, tls } = webhook;
                let (headers, tls) = (header_texts(headers, secrets)?, tls_spec(tls.as_ref(), secrets)?);
                Kind::Webhook(Box::new(WebhookCheck::parse(&WebhookSpec { url: url.clone(), headers, tls })?))
            }
            (None, None, None, None, Some(job), None) => Kind::Job(Box::new(JobCheck::parse(&job.template)?)),
            (None, None, None, None, None, Some(analysis)) => {
                let crate::api::check::AnalysisCheck { url, query, min, max, headers, tls } = analysis;
                let (headers, tls) = (header_texts(headers, secrets)?, tls_spec(tls.as_ref(), secrets)?);
                let (url, query, min, max) = (url.clone(), query.clone(), min.clone(), max.clone());
                let spec = AnalysisSpec { url, query, min, max, headers, tls };
                Kind::Analysis(Box::new(AnalysisCheck::parse(&spec)?))
            }
            _ => return Err(InvalidCheck::Kinds),
        };
        let positive = |duration: &kube::core::Duration, error| {
            if duration.is_negative() { Err(InvalidCheck::Schedule(error)) } else { Ok(Duration::from(*duration)) }
        };
        let count = |number: i32, error| u32::try_from(number).map_err(|_| InvalidCheck::Schedule(error));
        let schedule = Schedule::new(
            initial_delay.as_ref().map_or(Ok(Duration::ZERO), |delay| positive(delay, ScheduleError::Pause))?,
            positive(interval, ScheduleError::Pause)?,
            positive(timeout, ScheduleError::Timeout)?,
            count(*retries, ScheduleError::Retries)?,
            count(*success_threshold, ScheduleError::Successes)?,
        );
        let schedule = schedule.map_err(InvalidCheck::Schedule)?;
        Ok(Some(Self { name: name.as_str().into(), kind, schedule, allowed: allowed.to_vec() }))
    }
}

/// What checks name of Secrets.
#[must_use]
pub fn secrets_of(checks: &[HealthCheck]) -> Vec<SecretKeyRef> {
    let of_tls = |tls: &CheckTls| tls.ca_secret_ref.as_ref().map(|name| authorities_of(&name.name));
    let mut found: Vec<SecretKeyRef> = checks
        .iter()
        .flat_map(|check| {
            let http = check.http.as_ref().map(|check| (&check.headers, &check.tls));
            let webhook = check.webhook.as_ref().map(|check| (&check.headers, &check.tls));
            let analysis = check.analysis.as_ref().map(|check| (&check.headers, &check.tls));
            [http, webhook, analysis].into_iter().flatten()
        })
        .flat_map(|(headers, tls)| {
            let of_headers = headers.iter().filter_map(|header| header.secret_key_ref.clone());
            of_headers.chain(tls.as_ref().and_then(of_tls))
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

fn authorities_of(secret: &str) -> SecretKeyRef {
    SecretKeyRef { name: secret.to_owned(), key: CA.to_owned() }
}

fn http_check(http: &crate::api::check::HttpCheck, secrets: Option<&Secrets>) -> Result<HttpCheck, InvalidCheck> {
    let crate::api::check::HttpCheck { url, method, headers, expected_status, body_contains, body_matches, tls } = http;
    let expected_status = match expected_status {
        IntOrString::Int(status) => vec![status.to_string()],
        IntOrString::String(text) => text.split(',').map(|part| part.trim().to_owned()).collect(),
    };
    HttpCheck::parse(&HttpSpec {
        url: url.clone(),
        method: method.as_str().to_owned(),
        headers: header_texts(headers, secrets)?,
        expected_status,
        body_contains: body_contains.clone(),
        body_matches: body_matches.clone(),
        tls: tls_spec(tls.as_ref(), secrets)?,
    })
}

pub(super) fn header_texts(
    headers: &[Header],
    secrets: Option<&Secrets>,
) -> Result<Vec<(String, HeaderText)>, InvalidCheck> {
    headers
        .iter()
        .map(|Header { name, value, secret_key_ref }| {
            let text = match (value, secret_key_ref) {
                (Some(value), None) => HeaderText::Plain(value.clone()),
                (None, Some(key)) => HeaderText::Secret(secret_text(key, secrets)?),
                (Some(_), Some(_)) | (None, None) => {
                    let problem = "needs exactly one of value and secretKeyRef";
                    return Err(InvalidCheck::Header { name: name.clone(), problem });
                }
            };
            Ok((name.clone(), text))
        })
        .collect()
}

fn secret_text(key: &SecretKeyRef, secrets: Option<&Secrets>) -> Result<Secret, InvalidCheck> {
    let Some(secrets) = secrets else { return Ok(Secret::new("")) };
    let missing = |problem| InvalidCheck::Secret { name: key.name.clone(), key: key.key.clone(), problem };
    let bytes = secrets.get(key).ok_or_else(|| missing("is not there"))?;
    let text = std::str::from_utf8(bytes).map_err(|_| missing("is no text"))?;
    // Files that are made into Secrets end in a line break more often than not.
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

pub(super) fn tls_spec(tls: Option<&CheckTls>, secrets: Option<&Secrets>) -> Result<TlsSpec, InvalidCheck> {
    let Some(CheckTls { ca_secret_ref, server_name, insecure_skip_verify }) = tls else {
        return Ok(TlsSpec::default());
    };
    let ca_pem = match (ca_secret_ref, secrets) {
        (Some(secret), Some(secrets)) => {
            let key = authorities_of(&secret.name);
            let problem = "is not there";
            let missing = || InvalidCheck::Secret { name: key.name.clone(), key: key.key.clone(), problem };
            Some(secrets.get(&key).cloned().ok_or_else(missing)?)
        }
        (Some(_), None) if *insecure_skip_verify => return Err(InvalidCheck::Tls(super::tls::TlsError::Both)),
        (Some(_), None) | (None, _) => None,
    };
    Ok(TlsSpec { ca_pem, insecure_skip_verify: *insecure_skip_verify, server_name: server_name.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets() {
        let key = |name: &str, key: &str| SecretKeyRef { name: name.into(), key: key.into() };
        let check: HealthCheck = serde_json::from_value(json!({"name": "web", "http": {
            "url": "https://{device_ip}/",
            "headers": [{"name": "Authorization", "secretKeyRef": {"name": "s", "key": "token"}}],
            "tls": {"caSecretRef": {"name": "ca"}},
        }}))
        .expect("a check");
        assert_eq!(secrets_of(std::slice::from_ref(&check)), [key("ca", "ca.crt"), key("s", "token")]);
        assert!(Check::of(&check, &[], None).is_ok(), "a check can be judged before its Secrets are there");
        let mut secrets = Secrets::new();
        secrets.insert(key("s", "token"), b"hunter2\n".to_vec());
        let error = Check::of(&check, &[], Some(&secrets)).expect_err("no authorities");
        assert_eq!(error.sentence(), "key ca.crt of Secret ca is not there");
        secrets.insert(key("ca", "ca.crt"), b"nonsense".to_vec());
        let error = Check::of(&check, &[], Some(&secrets)).expect_err("no certificates");
        assert!(error.sentence().contains("its authorities can't be read"), "{}", error.sentence());
        secrets.remove(&key("s", "token"));
        let error = Check::of(&check, &[], Some(&secrets)).expect_err("no token");
        assert_eq!(error.sentence(), "key token of Secret s is not there");
        secrets.insert(key("s", "token"), vec![0xff]);
        assert!(Check::of(&check, &[], Some(&secrets)).is_err(), "no text");
    }

    #[test]
    fn of_policies() {
        for (spec, expected) in [
            (json!({"http": {"url": "http://{device_ip}:80/health", "bodyContains": "ok"}}), "http"),
            (json!({"tcp": {"port": 22}, "timeout": "5s", "retries": 0}), "tcp"),
            (json!({"container": {}}), "none"),
            (json!({}), "exactly one of"),
            (json!({"tcp": {"port": 22}, "container": {}}), "exactly one of"),
            (json!({"http": {"url": "http://{device_id}/"}}), "the url is wrong: {device_id} is no placeholder"),
            (json!({"http": {"url": "http://{device_ip}/", "expectedStatus": 20}}), "expectedStatus is wrong"),
            (json!({"tcp": {"port": 22}, "timeout": "-5s"}), "its schedule is wrong: the timeout"),
            (json!({"tcp": {"port": 22}, "timeout": "1h"}), "its schedule is wrong: the timeout"),
            (json!({"tcp": {"port": 22}, "retries": -1}), "its schedule is wrong: retries"),
            (json!({"tcp": {"port": 22}, "successThreshold": 0}), "its schedule is wrong: successThreshold"),
            (json!({"tcp": {"port": 22}, "initialDelay": "49h"}), "its schedule is wrong: "),
            (json!({"http": {"url": "http://{device_ip}/", "expectedStatus": "200-299, 304"}}), "http"),
            (json!({"http": {"url": "http://{device_ip}/", "expectedStatus": "2xx"}}), "expectedStatus is wrong"),
            (
                json!({"http": {"url": "http://{device_ip}/", "bodyMatches": "("}}),
                "bodyMatches is no regular expression",
            ),
            (json!({"http": {"url": "http://{device_ip}/", "headers": [{"name": "a b", "value": "c"}]}}), "the header"),
            (json!({"http": {"url": "http://{device_ip}/", "headers": [{"name": "a"}]}}), "exactly one of value"),
            (json!({"webhook": {"url": "https://judge.example/"}}), "webhook"),
            (json!({"webhook": {"url": "https://{device_ip}/"}}), "the host of a webhook must not"),
            (json!({"job": {"template": {"spec": {"containers": [{"name": "main"}]}}}}), "job"),
            (json!({"job": {"template": {"spec": {"containers": []}}}}), "the template needs at least one container"),
            (json!({"analysis": {"url": "https://prometheus.example/", "query": "up", "min": "1"}}), "analysis"),
            (json!({"analysis": {"url": "https://prometheus.example/", "query": "up"}}), "an analysis needs min"),
            (json!({"analysis": {"url": "https://{tag}/", "query": "up", "min": "1"}}), "the url is wrong"),
        ] {
            let mut spec = spec;
            spec["name"] = json!("web");
            let check: HealthCheck = serde_json::from_value(spec.clone()).expect("a check");
            let said = match Check::of(&check, &[], None) {
                Ok(Some(Check { kind: Kind::Http(_), .. })) => "http".to_owned(),
                Ok(Some(Check { kind: Kind::Tcp(_), .. })) => "tcp".to_owned(),
                Ok(Some(Check { kind: Kind::Webhook(_), .. })) => "webhook".to_owned(),
                Ok(Some(Check { kind: Kind::Job(_), .. })) => "job".to_owned(),
                Ok(Some(Check { kind: Kind::Analysis(_), .. })) => "analysis".to_owned(),
                Ok(None) => "none".to_owned(),
                Err(error) => error.sentence(),
            };
            assert!(said.contains(expected), "{spec}: {said}");
        }
    }
}
