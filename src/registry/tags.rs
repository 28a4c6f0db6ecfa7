//! A policy's tag rules, compiled: which pushed tags may roll out.
//!
//! Decides about a tag alone. All rules that are set must agree: the tag matches `pattern`, matches none of `exclude`,
//! and its version lies in the `semver` range. Regular expressions are searched for, not anchored: `^` and `$` do that.
//!
//! Versions are strict semver (three numbers) with an optional leading `v`, taken from the group `version` of `pattern`
//! where it has one. A pre-release (`2.0.0-rc1`, and to semver also `2.0.0-arm64`) lies only in a range that names a
//! pre-release of the same version: a range for releases doesn't let candidates through.

use regex::{Regex, RegexBuilder};
use semver::{Version, VersionReq};

use crate::api::policy::TagRule;

/// Memory of one compiled expression, and of its cache. A policy may have 21 of them and a fleet a thousand policies;
/// expressions that people write for tags take a few KiB.
const MAX_REGEX_BYTES: usize = 128 * 1024;
/// The group whose text `semver` looks at.
const VERSION_GROUP: &str = "version";

/// Tag rules, ready to ask. The default lets every tag through.
#[derive(Clone, Debug, Default)]
pub struct TagFilter {
    range: Option<VersionReq>,
    pattern: Option<Regex>,
    exclude: Vec<Regex>,
}

/// What is wrong with a policy's tag rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagRuleError {
    /// `semver` is no range.
    #[error("semver: {range:?} is not a range ({why}): write comparisons such as >=2.0.0 <3.0.0")]
    Range {
        /// As written.
        range: String,
        /// Says the parser.
        why: String,
    },
    /// A regular expression that doesn't parse, or takes more memory than a tag is worth.
    #[error("{field}: {why}")]
    Regex {
        /// `pattern` or `exclude[0]`.
        field: String,
        /// Says the parser.
        why: String,
    },
}

/// Why a tag doesn't roll out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagRefusal {
    /// It doesn't match `pattern`.
    #[error("the tag {tag} does not match tags.pattern {pattern:?}")]
    Pattern {
        /// The tag.
        tag: String,
        /// The rule.
        pattern: String,
    },
    /// It matches an entry of `exclude`.
    #[error("the tag {tag} is excluded by {exclude:?}")]
    Excluded {
        /// The tag.
        tag: String,
        /// The rule.
        exclude: String,
    },
    /// There is a range and the tag is no version.
    #[error(
        "the tag {tag} is not a version such as 1.2.3, and tags.semver asks for one: tags.pattern may pick it out with a group named version"
    )]
    NotAVersion {
        /// The tag.
        tag: String,
    },
    /// Its version isn't in the range.
    #[error("the version {version} is not in the range {range}")]
    OutOfRange {
        /// Of the tag.
        version: String,
        /// The rule.
        range: String,
    },
}

impl TagFilter {
    /// Compiles tag rules; none let every tag through.
    ///
    /// # Errors
    /// When the range or an expression doesn't parse, or an expression needs too much memory.
    pub fn new(rule: Option<&TagRule>) -> Result<Self, TagRuleError> {
        let Some(TagRule { semver, pattern, exclude, allow_downgrade: _ }) = rule else { return Ok(Self::default()) };
        Ok(Self {
            range: semver.as_deref().map(range).transpose()?,
            pattern: pattern.as_deref().map(|text| expression("pattern".into(), text)).transpose()?,
            exclude: exclude
                .iter()
                .enumerate()
                .map(|(index, text)| expression(format!("exclude[{index}]"), text))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether a tag may roll out.
    ///
    /// # Errors
    /// When it may not; the error says which rule is against it.
    pub fn check(&self, tag: &str) -> Result<(), TagRefusal> {
        let captures = match &self.pattern {
            None => None,
            Some(pattern) => match pattern.captures(tag) {
                Some(captures) => Some(captures),
                None => return Err(TagRefusal::Pattern { tag: tag.into(), pattern: pattern.as_str().into() }),
            },
        };
        if let Some(exclude) = self.exclude.iter().find(|exclude| exclude.is_match(tag)) {
            return Err(TagRefusal::Excluded { tag: tag.into(), exclude: exclude.as_str().into() });
        }
        let Some(range) = &self.range else { return Ok(()) };
        let Some(version) = self.version_in(tag, captures) else {
            return Err(TagRefusal::NotAVersion { tag: tag.into() });
        };
        if range.matches(&version) {
            Ok(())
        } else {
            Err(TagRefusal::OutOfRange { version: version.to_string(), range: range.to_string() })
        }
    }
}

impl TagFilter {
    /// The version in a tag: of the group `version` of `pattern` where that has one, else of the whole tag.
    #[must_use]
    pub fn version(&self, tag: &str) -> Option<Version> {
        self.version_in(tag, self.pattern.as_ref().and_then(|pattern| pattern.captures(tag)))
    }

    fn version_in(&self, tag: &str, captures: Option<regex::Captures<'_>>) -> Option<Version> {
        let names_version = self.pattern.iter().flat_map(Regex::capture_names).flatten().any(|n| n == VERSION_GROUP);
        let text = if names_version { captures?.name(VERSION_GROUP)?.as_str() } else { tag };
        version(text)
    }

    /// Whether `tag` is a lower version than `than`. Never of tags that are no versions.
    #[must_use]
    pub fn is_older(&self, tag: &str, than: &str) -> bool {
        match (self.version(tag), self.version(than)) {
            (Some(tag), Some(than)) => tag < than,
            (Some(_) | None, None) | (None, Some(_)) => false,
        }
    }

    /// Whether versions are told from each other by a range, so that one of them is the highest.
    #[must_use]
    pub fn has_range(&self) -> bool {
        self.range.is_some()
    }
}

fn version(text: &str) -> Option<Version> {
    Version::parse(text.strip_prefix(['v', 'V']).unwrap_or(text)).ok()
}

/// People write ranges as npm, Helm and Flux do, with blanks between comparisons; the parser wants commas.
fn range(text: &str) -> Result<VersionReq, TagRuleError> {
    let mut comparisons: Vec<String> = Vec::new();
    let mut operator_waits = false;
    for word in text.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        match comparisons.last_mut() {
            Some(last) if operator_waits => last.push_str(word),
            Some(_) | None => comparisons.push(word.into()),
        }
        operator_waits = word.chars().all(|c| matches!(c, '<' | '>' | '=' | '^' | '~'));
    }
    let error = |why: String| TagRuleError::Range { range: text.into(), why };
    if comparisons.is_empty() {
        return Err(error("it is empty".into()));
    }
    VersionReq::parse(&comparisons.join(", ")).map_err(|why| error(why.to_string()))
}

fn expression(field: String, text: &str) -> Result<Regex, TagRuleError> {
    RegexBuilder::new(text).size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).build().map_err(|error| {
        let why = match error {
            regex::Error::CompiledTooBig(_) => {
                "the expression takes too much memory: use fewer or smaller repetitions".into()
            }
            // The parser's message is a drawing over several lines; its last line says what is wrong.
            other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
        };
        TagRuleError::Regex { field, why }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(semver: &str, pattern: &str, exclude: &[&str]) -> Result<TagFilter, TagRuleError> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        TagFilter::new(Some(&TagRule {
            semver: some(semver),
            pattern: some(pattern),
            exclude: exclude.iter().map(ToString::to_string).collect(),
            allow_downgrade: false,
        }))
    }

    #[test]
    fn no_rules_let_everything_through() {
        assert_eq!(TagFilter::new(None).expect("no rules").check("anything"), Ok(()));
        assert_eq!(filter("", "", &[]).expect("no rules").check("anything"), Ok(()));
    }

    #[test]
    fn versions() {
        let filter = filter(">=2.0.0 <3.0.0", "", &[]).expect("rules");
        for tag in ["2.0.0", "v2.0.1", "V2.9.9", "2.99.0"] {
            assert_eq!(filter.check(tag), Ok(()), "{tag}");
        }
        for tag in ["1.9.9", "3.0.0", "v2.0.1-rc1", "v2.0.1-arm64"] {
            assert!(matches!(filter.check(tag), Err(TagRefusal::OutOfRange { .. })), "{tag}");
        }
        for tag in ["latest", "2.0", "2", "vv2.0.0", "v", "2.0.0.1"] {
            assert!(matches!(filter.check(tag), Err(TagRefusal::NotAVersion { .. })), "{tag}");
        }
    }

    #[test]
    fn spellings_of_ranges() {
        for text in
            [">=2.0.0 <3.0.0", ">=2.0.0, <3.0.0", ">= 2.0.0 < 3.0.0", "  >=2.0.0,<3.0.0 ", "^2", "2", "2.*", "~2.0"]
        {
            let filter = filter(text, "", &[]).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(filter.check("v2.0.1"), Ok(()), "{text}");
            assert!(filter.check("v3.0.0").is_err(), "{text}");
        }
        for text in ["newest", ">=", " ", "1.0.0 - 2.0.0", "^1 || ^2", ">=2.0.0.0"] {
            let error = filter(text, "", &[]).expect_err(text).to_string();
            assert!(error.contains("write comparisons such as"), "{error}");
        }
    }

    #[test]
    fn the_group_version_feeds_the_range() {
        let filter = filter("^1.2", r"^app-v?(?P<version>[^-]+)(-alpine)?$", &[]).expect("rules");
        assert_eq!(filter.check("app-v1.2.3-alpine"), Ok(()));
        assert_eq!(filter.check("app-1.9.0"), Ok(()));
        assert!(matches!(filter.check("app-2.0.0"), Err(TagRefusal::OutOfRange { .. })));
        assert!(matches!(filter.check("1.2.3"), Err(TagRefusal::Pattern { .. })));
        assert!(matches!(filter.check("app-x"), Err(TagRefusal::NotAVersion { .. })));
    }

    #[test]
    fn a_group_that_took_no_part_is_no_version() {
        let filter = filter("*", r"^(?:v(?P<version>.+)|edge)$", &[]).expect("rules");
        assert!(matches!(filter.check("edge"), Err(TagRefusal::NotAVersion { .. })));
    }

    #[test]
    fn excluded() {
        let filter = filter("", r"^\d+(\.\d+)?-alpine$", &[r"-rc\d+$", "^7-"]).expect("rules");
        assert_eq!(filter.check("7.5-alpine"), Ok(()));
        assert!(matches!(filter.check("7-alpine"), Err(TagRefusal::Excluded { .. })));
        assert!(matches!(filter.check("7.5-alpine-rc1"), Err(TagRefusal::Pattern { .. })));
    }

    #[test]
    fn bad_expressions_are_errors_in_one_line() {
        for (text, says) in [("(", "unclosed group"), (r"(\w{1000}){1000}", "too much memory"), (r"\p{Nope}", "")] {
            let error = filter("", text, &[]).expect_err(text).to_string();
            assert!(error.starts_with("pattern: ") && error.contains(says) && !error.contains('\n'), "{error}");
        }
        let error = filter("", "", &["ok", "["]).expect_err("a bad exclusion").to_string();
        assert!(error.starts_with("exclude[1]: "), "{error}");
    }

    #[test]
    fn ordinary_expressions_fit() {
        for text in [r"^v(?P<version>\d+\.\d+\.\d+)(-rc\d+)?$", r"^[a-z]{1,64}-\d{8}\.\d{1,6}-[0-9a-f]{7,40}$"] {
            filter("", text, &[]).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }
}
