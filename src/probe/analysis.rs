//! The `analysis` check: Prometheus is asked about a batch as a whole, and every sample of its answer must be within bounds.
//!
//! Only numbers are a verdict. No samples, NaN (nothing divided by nothing), a warning that the result is not the whole, an
//! error, any other answer or none is Unknown, [`Doubt::NotJudged`]: that is about Prometheus or the query, and not about
//! the batch. A sample out of bounds is one whatever else is in the answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::Url;
use serde::Deserialize;
use tokio::time::Instant;

use super::exchange::{self, Answer, Ask};
use super::guard::{Guard, Reach};
use super::headers::{self, HeaderText};
use super::invalid::InvalidCheck;
use super::promql::{Filling, Query};
use super::template::{Host, Template, TemplateError};
use super::tls::{Tls, TlsSpec};
use super::verdict::{Doubt, Failure, Outcome};
use super::{Batch, Rollout};

/// How much of an answer is read: a thousand series with a dozen labels each.
const MAX_ANSWER: usize = 1 << 20;
/// How much of a sample's labels is shown.
const MAX_LABELS: usize = 120;
/// As in the API: digits before the point, and after it.
const DIGITS: (usize, usize) = (15, 9);

/// An `analysis` check as a policy has it.
#[derive(Clone, Debug, Default)]
pub struct AnalysisSpec {
    /// Where Prometheus is, without `/api/v1/query` and without placeholders.
    pub url: String,
    /// In PromQL, with `{{placeholders}}`.
    pub query: String,
    /// The least that is healthy, a decimal number.
    pub min: Option<String>,
    /// The most that is healthy, a decimal number.
    pub max: Option<String>,
    /// Sent along.
    pub headers: Vec<(String, HeaderText)>,
    /// For https.
    pub tls: TlsSpec,
}

/// An `analysis` check that can work.
#[derive(Clone, Debug)]
pub struct AnalysisCheck {
    url: Url,
    query: Query,
    bounds: Bounds,
    headers: HeaderMap,
    tls: Tls,
}

#[derive(Clone, Debug)]
struct Bounds {
    min: Option<Bound>,
    max: Option<Bound>,
}

/// A number, as it is compared and as it was written.
#[derive(Clone, Debug)]
struct Bound {
    number: f64,
    text: Box<str>,
}

/// What is understood of an answer, whether good or bad.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    status: String,
    data: Option<Data>,
    error_type: Option<String>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Series>),
    Scalar(Value),
    /// Several samples of each series: a range. Not read.
    Matrix(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    /// Absent where it is a histogram.
    value: Option<Value>,
}

/// Unix seconds, and a number as a text.
#[derive(Deserialize)]
struct Value(serde::de::IgnoredAny, String);

impl AnalysisCheck {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, whatever the batch.
    pub fn parse(spec: &AnalysisSpec) -> Result<Self, InvalidCheck> {
        let AnalysisSpec { url, query, min, max, headers, tls } = spec;
        // What is wrong with the URL of any check is wrong with this one.
        Template::parse(url).map_err(InvalidCheck::Url)?;
        if url.contains('{') {
            return Err(InvalidCheck::FixedUrl);
        }
        let mut url = Url::parse(url).map_err(|error| InvalidCheck::Url(TemplateError::Url(error.to_string())))?;
        url.set_path(&format!("{}/api/v1/query", url.path().trim_end_matches('/')));
        let mut headers = headers::parse(headers)?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        Ok(Self {
            url,
            query: Query::parse(query).map_err(InvalidCheck::Query)?,
            bounds: Bounds::parse(min.as_deref(), max.as_deref())?,
            headers,
            tls: Tls::parse(tls).map_err(InvalidCheck::Tls)?,
        })
    }

    pub(super) fn host(&self) -> Option<Host> {
        exchange::host(&self.url)
    }

    /// Asks about one batch of a rollout.
    pub async fn look(&self, guard: &Guard, batch: &Batch, rollout: &Rollout, deadline: Instant) -> Outcome {
        let ask = Ask {
            method: &Method::POST,
            url: &self.url,
            headers: &self.headers,
            body: &self.question(batch, rollout),
            tls: &self.tls,
            reach: Reach::Service,
            limit: MAX_ANSWER,
            deadline,
        };
        match exchange::ask(guard, &ask).await {
            Ok(answer) => self.bounds.judge(&answer),
            // Whatever it was, it wasn't the batch.
            Err(Outcome::Failed { message, .. }) => not_judged(&message),
            Err(unknown @ (Outcome::Unknown { .. } | Outcome::Passed)) => unknown,
        }
    }

    fn question(&self, batch: &Batch, rollout: &Rollout) -> Bytes {
        let Batch { namespace, image, tag, number } = batch;
        let filling = Filling { namespace, image, tag, rollout: &rollout.name, batch: *number };
        // A URL's query is a form.
        let mut form = self.url.clone();
        form.query_pairs_mut().clear().append_pair("query", &self.query.render(&filling));
        form.query().unwrap_or_default().to_owned().into()
    }
}

impl Bounds {
    fn parse(min: Option<&str>, max: Option<&str>) -> Result<Self, InvalidCheck> {
        let (min, max) = (min.map(Bound::parse).transpose()?, max.map(Bound::parse).transpose()?);
        match (&min, &max) {
            (None, None) => Err(InvalidCheck::Bounds("an analysis needs min, max or both")),
            (Some(min), Some(max)) if min.number > max.number => {
                Err(InvalidCheck::Bounds("min must not be more than max"))
            }
            (Some(_), _) | (None, Some(_)) => Ok(Self { min, max }),
        }
    }

    fn judge(&self, answer: &Answer) -> Outcome {
        let status = answer.status.as_u16();
        if answer.cut {
            return not_judged("its answer is longer than 1 MiB");
        }
        // With errors of the query it answers another status, and the same JSON.
        let Ok(Answered { status: word, data, error_type, error, warnings }) = serde_json::from_slice(&answer.body)
        else {
            return not_judged(&match answer.status {
                StatusCode::OK => "its answer is not that of a query".to_owned(),
                _ => format!("it answered with status {status}"),
            });
        };
        match (answer.status, word.as_str(), data) {
            (StatusCode::OK, "success", Some(data)) => self.judge_data(&data, &warnings),
            _ => {
                let kind = error_type.as_deref().unwrap_or("error");
                not_judged(&format!("status {status}, {kind}: {}", error.as_deref().unwrap_or("no reason given")))
            }
        }
    }

    fn judge_data(&self, data: &Data, warnings: &[String]) -> Outcome {
        let nameless = BTreeMap::new();
        let samples: Vec<(&BTreeMap<String, String>, Option<&Value>)> = match data {
            Data::Vector(series) => series.iter().map(|series| (&series.metric, series.value.as_ref())).collect(),
            Data::Scalar(value) => vec![(&nameless, Some(value))],
            Data::Matrix(_) => return not_judged("the query gives a range of time, not one sample of each series"),
            Data::String(_) => return not_judged("the query gives a text"),
        };
        let mut doubt = None;
        for (labels, value) in &samples {
            let text = value.map_or("a histogram", |value| value.1.as_str());
            match text.parse::<f64>() {
                Ok(number) if !number.is_nan() => {
                    if let Some(how) = self.outside(number) {
                        return Outcome::failed(Failure::Judged, format!("{text} is {how}{}", shown(labels)));
                    }
                }
                Ok(_) | Err(_) => {
                    doubt = doubt.or_else(|| Some(format!("a sample is {text}, not a number{}", shown(labels))));
                }
            }
        }
        // Older ones send what is merely good to know along with warnings.
        let warning = warnings.iter().find(|warning| !warning.starts_with("PromQL info"));
        match (doubt, warning) {
            (Some(doubt), _) => not_judged(&doubt),
            (None, _) if samples.is_empty() => not_judged("the query gives no samples"),
            (None, Some(warning)) => not_judged(&format!("it warns of the result: {warning}")),
            (None, None) => Outcome::Passed,
        }
    }

    /// In what way a number is out of bounds.
    fn outside(&self, number: f64) -> Option<String> {
        let below = self.min.as_ref().filter(|min| number < min.number).map(|min| format!("less than {}", min.text));
        let above = self.max.as_ref().filter(|max| number > max.number);
        below.or_else(|| above.map(|max| format!("more than {}", max.text)))
    }
}

impl Bound {
    /// No exponents and nothing that is no number, which numbers of this language would allow.
    fn parse(text: &str) -> Result<Self, InvalidCheck> {
        let digits =
            |text: &str, most| !text.is_empty() && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit());
        let bare = text.strip_prefix('-').unwrap_or(text);
        let good = match bare.split_once('.') {
            Some((whole, part)) => digits(whole, DIGITS.0) && digits(part, DIGITS.1),
            None => digits(bare, DIGITS.0),
        };
        match text.parse() {
            Ok(number) if good => Ok(Self { number, text: text.into() }),
            Ok(_) | Err(_) => Err(InvalidCheck::Bounds("min and max must be decimal numbers, such as \"0.05\"")),
        }
    }
}

/// A sample's labels, as PromQL has them; nothing where it has none.
fn shown(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    let text = labels.join(", ");
    match text.char_indices().nth(MAX_LABELS) {
        Some((end, _)) => format!(", of {{{}…}}", &text[..end]),
        None => format!(", of {{{text}}}"),
    }
}

fn not_judged(why: &str) -> Outcome {
    Outcome::unknown(Doubt::NotJudged, format!("Prometheus did not judge the batch: {why}"))
}

#[cfg(test)]
#[path = "analysis_tests.rs"]
mod tests;
