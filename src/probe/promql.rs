//! A query in PromQL with `{{placeholders}}`. Pure: makes the text that Prometheus is asked.
//!
//! What is filled in comes from objects, hence from others than who wrote the query. It must not change what is asked:
//! texts may stand within a string of PromQL alone, and there whatever could end the string, or be taken for an escape,
//! is escaped. The number of a batch may stand anywhere.

use std::fmt::Write as _;

/// The longest query; as in the API.
const MAX_QUERY: usize = 4096;

/// What can be filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    Namespace,
    Image,
    Tag,
    Rollout,
    Batch,
}

/// What is wrong with a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Nothing is asked.
    #[error("it is empty")]
    Empty,
    /// Too long.
    #[error("it is longer than {MAX_QUERY} characters")]
    TooLong,
    /// Braces that don't end.
    #[error("the braces at character {0} have no others: placeholders are written {{{{like_this}}}}")]
    Unbalanced(usize),
    /// No such placeholder.
    #[error(
        "{{{{{0}}}}} is no placeholder: there are {{{{namespace}}}}, {{{{image}}}}, {{{{tag}}}}, {{{{rollout}}}} and {{{{batch}}}}"
    )]
    Unknown(String),
    /// A text where PromQL has none.
    #[error("{{{{{0}}}}} must be within quotes, such as image=\"{{{{image}}}}\"")]
    NotQuoted(&'static str),
    /// What is filled in would be taken for the rest of an escape.
    #[error("{{{{{0}}}}} must not follow a backslash")]
    Escaped(&'static str),
}

/// What is filled in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filling<'a> {
    pub(super) namespace: &'a str,
    pub(super) image: &'a str,
    pub(super) tag: &'a str,
    pub(super) rollout: &'a str,
    pub(super) batch: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Value(Placeholder),
}

/// A query that can be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query(Vec<Piece>);

/// Where in PromQL a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Code,
    /// Up to the end of the line.
    Comment,
    /// Within a string that this character ends.
    String(char),
    /// After a backslash in such a string.
    Escape(char),
}

impl Placeholder {
    fn of(name: &str) -> Option<Self> {
        let all = [Self::Namespace, Self::Image, Self::Tag, Self::Rollout, Self::Batch];
        all.into_iter().find(|placeholder| placeholder.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Image => "image",
            Self::Tag => "tag",
            Self::Rollout => "rollout",
            Self::Batch => "batch",
        }
    }
}

impl Place {
    fn after(self, text: &str) -> Self {
        text.chars().fold(self, |place, c| match (place, c) {
            (Self::Code, '"' | '\'' | '`') => Self::String(c),
            (Self::Code, '#') => Self::Comment,
            (Self::Comment, '\n') => Self::Code,
            (Self::String(quote), c) if c == quote => Self::Code,
            // Between backticks there are no escapes.
            (Self::String(quote), '\\') if quote != '`' => Self::Escape(quote),
            (Self::Escape(quote), _) => Self::String(quote),
            (Self::Code | Self::Comment | Self::String(_), _) => place,
        })
    }
}

impl Query {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it, whatever is filled in. Whether it is PromQL is Prometheus' to say.
    pub(super) fn parse(text: &str) -> Result<Self, QueryError> {
        if text.trim().is_empty() {
            return Err(QueryError::Empty);
        }
        if text.chars().count() > MAX_QUERY {
            return Err(QueryError::TooLong);
        }
        let (mut pieces, mut place, mut rest) = (Vec::new(), Place::Code, text);
        while let Some((before, after)) = rest.split_once("{{") {
            let at = text.len() - after.len() - 2;
            let unbalanced = || QueryError::Unbalanced(text[..at].chars().count() + 1);
            let (name, after) = after.split_once("}}").ok_or_else(unbalanced)?;
            let name = name.trim();
            let unknown = || QueryError::Unknown(name.chars().take(60).collect());
            let placeholder = Placeholder::of(name).ok_or_else(unknown)?;
            place = place.after(before);
            match (place, placeholder) {
                (Place::Escape(_), _) => return Err(QueryError::Escaped(placeholder.name())),
                (Place::String(_), _) | (Place::Code | Place::Comment, Placeholder::Batch) => {}
                (Place::Code | Place::Comment, _) => return Err(QueryError::NotQuoted(placeholder.name())),
            }
            pieces.extend([Piece::Text(before.into()), Piece::Value(placeholder)]);
            rest = after;
        }
        pieces.push(Piece::Text(rest.into()));
        Ok(Self(pieces))
    }

    /// The query for one batch.
    pub(super) fn render(&self, filling: &Filling<'_>) -> String {
        let Filling { namespace, image, tag, rollout, batch } = *filling;
        let mut query = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => query.push_str(text),
                Piece::Value(Placeholder::Namespace) => escape(&mut query, namespace),
                Piece::Value(Placeholder::Image) => escape(&mut query, image),
                Piece::Value(Placeholder::Tag) => escape(&mut query, tag),
                Piece::Value(Placeholder::Rollout) => escape(&mut query, rollout),
                Piece::Value(Placeholder::Batch) => query.push_str(&batch.to_string()),
            }
        }
        query
    }
}

/// So that it stays within a string, whichever quotes are around it. PromQL takes `\"` between double quotes alone, and
/// numbers in both; between backticks it takes neither, and what has to be escaped then matches nothing.
fn escape(query: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => query.push_str(r"\\"),
            '"' | '\'' | '`' | '\0'..='\x1f' | '\x7f' => {
                // Writing to a text can't fail.
                let _ = write!(query, "\\x{:02x}", u32::from(c));
            }
            _ => query.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILLING: Filling<'_> =
        Filling { namespace: "plant-a", image: "docker.io/acme/app:v2", tag: "v2", rollout: "app-1", batch: 3 };

    #[test]
    fn rendered() {
        for (text, expected) in [
            ("vector(1)", "vector(1)"),
            (r#"up{image="{{image}}"}"#, r#"up{image="docker.io/acme/app:v2"}"#),
            (r"up{a='{{ namespace }}/{{tag}}', b=`{{rollout}}`}", "up{a='plant-a/v2', b=`app-1`}"),
            ("up{batch=\"{{batch}}\"} > {{batch}}", "up{batch=\"3\"} > 3"),
            // Single braces are PromQL's own, and so is what looks like the end of a placeholder.
            (r#"up{a=~"x{2}"} / on (b) {c="{{tag}}"}"#, r#"up{a=~"x{2}"} / on (b) {c="v2"}"#),
            // Quotes that are none: escaped, in other quotes, in a comment.
            (r#"up{a="\"'{{tag}}"}"#, r#"up{a="\"'v2"}"#),
            ("up # it's\n{a='{{tag}}'}", "up # it's\n{a='v2'}"),
            (r"up{a=`\`, b='{{tag}}'}", r"up{a=`\`, b='v2'}"),
        ] {
            assert_eq!(Query::parse(text).expect(text).render(&FILLING), expected);
        }
    }

    #[test]
    fn refused() {
        for (text, expected) in [
            ("", "it is empty"),
            (" \n", "it is empty"),
            (r#"up{a="{{device}}"}"#, "{{device}} is no placeholder"),
            (r#"up{a="{{}}"}"#, "{{}} is no placeholder"),
            (r#"up{a="{{tag"}"#, "the braces at character 7"),
            ("up{{a=\"b\"}}", "{{a=\"b\"}} is no placeholder"),
            ("{{tag}}", "{{tag}} must be within quotes"),
            (r#"up{a="x"} > {{namespace}}"#, "{{namespace}} must be within quotes"),
            (r#"up{a="x\\"} > {{image}}"#, "{{image}} must be within quotes"),
            (r#"up{a="\{{tag}}"}"#, "{{tag}} must not follow a backslash"),
            ("up # '\n > {{rollout}}", "{{rollout}} must be within quotes"),
        ] {
            let error = Query::parse(text).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        assert_eq!(Query::parse(&"x".repeat(MAX_QUERY + 1)), Err(QueryError::TooLong));
    }

    /// Strings as Prometheus reads them: where each begins and ends, and what is outside.
    fn outside(query: &str) -> String {
        let (mut place, mut seen) = (Place::Code, String::new());
        for c in query.chars() {
            let next = place.after(c.encode_utf8(&mut [0; 4]));
            if place == Place::Code && next == Place::Code {
                seen.push(c);
            }
            place = next;
        }
        assert_eq!(place, Place::Code, "a string has no end: {query}");
        seen
    }

    #[test]
    fn nothing_gets_out_of_its_string() {
        for quote in ['"', '\'', '`'] {
            let query = Query::parse(&format!("up{{a={quote}{{{{tag}}}}{quote}}} > 1")).expect("a query");
            for tag in ["\"", "'", "`", "\\", "\\\"", "\\'", "\n", "\r\n", "\"} or vector(1) #", "\\\\'", "\0\x7f", "ü"]
            {
                let rendered = query.render(&Filling { tag, ..FILLING });
                assert_eq!(outside(&rendered), "up{a=} > 1", "{rendered}");
                assert!(!rendered.contains(char::is_control), "{rendered:?}");
            }
        }
        let query = Query::parse("a='{{tag}}'").expect("a query");
        assert_eq!(query.render(&Filling { tag: "\\\"'\n", ..FILLING }), r"a='\\\x22\x27\x0a'");
    }
}
