//! URLs and hosts with `{placeholders}`. Pure: makes targets from templates, resolves nothing.
//!
//! What is filled in comes from devices and objects, hence from others than who wrote the template. It must not choose
//! where a request goes: the scheme, the port and the names of the host are the template's; an address lands as an address
//! or not at all; what lands in a name is one label of it; everything after the host is percent-encoded.
//!
//! All that can be wrong with a template by itself is found when it is parsed, so that a policy with a bad one is refused
//! before anything is rolled out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use reqwest::Url;

/// The longest text that a template may be; as in the API.
const MAX_TEMPLATE: usize = 1024;
/// The longest URL that is asked for: more than any server reads by default would be no check of the device.
const MAX_URL: usize = 4096;
/// Of a label in DNS.
const MAX_LABEL: usize = 63;
/// Of a name in DNS.
const MAX_NAME: usize = 253;

/// What can be filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `{device_ip}`: the address that the device reports as its own.
    DeviceIp,
    /// `{device_name}`: its name for people.
    DeviceName,
    /// `{device_uuid}`
    DeviceUuid,
    /// `{namespace}`
    Namespace,
    /// `{image}`: the repository and tag or digest that is rolled out.
    Image,
    /// `{tag}`
    Tag,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its other.
    #[error("the brace at character {0} has no other: placeholders are written {{like_this}}")]
    Unbalanced(usize),
    /// No such placeholder.
    #[error(
        "{{{0}}} is no placeholder: there are {{device_ip}}, {{device_name}}, {{device_uuid}}, {{namespace}}, {{image}} and {{tag}}"
    )]
    Unknown(String),
    /// Too long.
    #[error("it is longer than {MAX_TEMPLATE} characters")]
    TooLong,
    /// Another scheme, or a scheme that is filled in.
    #[error("it must begin with http:// or https://")]
    Scheme,
    /// A user in the URL would be sent as credentials, and shown.
    #[error("there must be no user in it: give a header from a Secret")]
    User,
    /// A placeholder in the port.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// An address with something around it.
    #[error("{{device_ip}} must be the whole host, without brackets")]
    AddressNotAlone,
    /// An image or tag in the host.
    #[error("{{{0}}} can't be in the host")]
    NotInHost(&'static str),
    /// No host, or one that can't be.
    #[error("{0:?} can't be a host")]
    Host(String),
    /// No URL for another reason.
    #[error("no URL comes of it: {0}")]
    Url(String),
    /// `.` and `..` change which path is asked for.
    #[error("there must be no . or .. in the path")]
    Dots,
}

/// Why there is no target for this device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// It has none that can be read.
    #[error("the device has not reported an address")]
    NoAddress,
    /// What would be in the host can't be.
    #[error("{{{0}}} of this device can't be part of a host name")]
    NotALabel(&'static str),
    /// What would be in the path changes the path.
    #[error("what is filled in would change the path")]
    Dots,
    /// It got too long, or is no URL.
    #[error("no URL comes of what is filled in")]
    Url,
}

/// What is filled in: one device, and what is rolled out to it. Texts are shared with whoever has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Values {
    /// The device's own address, if it reports one; see [`address`].
    pub device_ip: Option<IpAddr>,
    /// Its name for people; where it has none, its UUID.
    pub device_name: Arc<str>,
    /// Its UUID.
    pub device_uuid: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// What is rolled out.
    pub image: Arc<str>,
    /// Its tag; empty where it has none.
    pub tag: Arc<str>,
}

/// The address in what a device reports; absent where it is none. With a zone or a port it is none, either.
#[must_use]
pub fn address(reported: &str) -> Option<IpAddr> {
    reported.trim().parse().ok()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Value(Placeholder),
}

/// A host with placeholders, as a `tcp` check has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTemplate(Vec<Piece>);

/// A URL with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// `http://` or `https://`
    scheme: &'static str,
    host: HostTemplate,
    port: Option<u16>,
    /// Path and query.
    rest: Vec<Piece>,
}

/// A host that something can connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name, to be resolved.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl Placeholder {
    fn of(name: &str) -> Option<Self> {
        let all = [Self::DeviceIp, Self::DeviceName, Self::DeviceUuid, Self::Namespace, Self::Image, Self::Tag];
        all.into_iter().find(|placeholder| placeholder.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::DeviceIp => "device_ip",
            Self::DeviceName => "device_name",
            Self::DeviceUuid => "device_uuid",
            Self::Namespace => "namespace",
            Self::Image => "image",
            Self::Tag => "tag",
        }
    }

    /// Its text. Absent: the address, which is none.
    fn text(self, values: &Values) -> Option<&str> {
        match self {
            Self::DeviceIp => None,
            Self::DeviceName => Some(&values.device_name),
            Self::DeviceUuid => Some(&values.device_uuid),
            Self::Namespace => Some(&values.namespace),
            Self::Image => Some(&values.image),
            Self::Tag => Some(&values.tag),
        }
    }
}

impl Template {
    /// Reads a URL with placeholders.
    ///
    /// # Errors
    /// What is wrong with it, whatever is filled in.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let (scheme, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
            (Some(rest), _) => ("http://", rest),
            (None, Some(rest)) => ("https://", rest),
            (None, None) => return Err(TemplateError::Scheme),
        };
        // Also where a user would be, so that braces are looked at first, wherever they are.
        pieces(text)?;
        // A URL's parser takes a backslash for a slash.
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.contains('@') {
            return Err(TemplateError::User);
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let number = port.parse::<u16>().ok().filter(|number| *number > 0 && !port.starts_with('+'));
                (host, Some(number.ok_or(TemplateError::Port)?))
            }
            Some(_) | None => (authority, None),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let template = Self { scheme, host: HostTemplate::parse(host)?, port, rest: pieces(rest)? };
        for address in [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            template.render(&sample(address)).map_err(|error| match error {
                RenderError::Dots => TemplateError::Dots,
                RenderError::NoAddress | RenderError::NotALabel(_) | RenderError::Url => {
                    TemplateError::Url(error.to_string())
                }
            })?;
        }
        Ok(template)
    }

    /// Whether its host is the same for all devices.
    #[must_use]
    pub fn has_fixed_host(&self) -> bool {
        self.host.0.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// Its host for one device.
    ///
    /// # Errors
    /// Why there is none.
    pub fn host(&self, values: &Values) -> Result<Host, RenderError> {
        self.host.render(values)
    }

    /// The URL for one device.
    ///
    /// # Errors
    /// Why there is none.
    pub fn render(&self, values: &Values) -> Result<Url, RenderError> {
        let mut text = self.scheme.to_owned();
        match self.host.render(values)? {
            Host::Address(IpAddr::V4(address)) => text.push_str(&address.to_string()),
            Host::Address(IpAddr::V6(address)) => text.push_str(&format!("[{address}]")),
            Host::Name(name) => text.push_str(&name),
        }
        if let Some(port) = self.port {
            text.push_str(&format!(":{port}"));
        }
        let begin = text.len();
        for piece in &self.rest {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Value(placeholder) => match (placeholder.text(values), values.device_ip) {
                    (Some(value), _) => encode(&mut text, value),
                    (None, Some(address)) => encode(&mut text, &address.to_string()),
                    (None, None) => return Err(RenderError::NoAddress),
                },
            }
        }
        if text.len() > MAX_URL {
            return Err(RenderError::Url);
        }
        let url = Url::parse(&text).map_err(|_| RenderError::Url)?;
        // A URL's parser resolves . and .., also where they are encoded: then segments are missing.
        let path = text[begin..].split('?').next().unwrap_or_default();
        let slashes = |path: &str| path.matches(['/', '\\']).count();
        let dot = |segment: &str| matches!(segment.replace("%2e", ".").replace("%2E", ".").as_str(), "." | "..");
        if path.split(['/', '\\']).any(dot) || slashes(path).max(1) != slashes(url.path()) {
            return Err(RenderError::Dots);
        }
        Ok(url)
    }
}

impl HostTemplate {
    /// Reads a host with placeholders: `{device_ip}` alone, an address, or a name of labels.
    ///
    /// # Errors
    /// What is wrong with it, whatever is filled in.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let pieces = pieces(text)?;
        for piece in &pieces {
            match piece {
                Piece::Text(_) => {}
                Piece::Value(Placeholder::DeviceIp) if pieces.len() > 1 => return Err(TemplateError::AddressNotAlone),
                Piece::Value(Placeholder::Image | Placeholder::Tag) => {
                    let name = if *piece == Piece::Value(Placeholder::Tag) { "tag" } else { "image" };
                    return Err(TemplateError::NotInHost(name));
                }
                Piece::Value(
                    Placeholder::DeviceIp | Placeholder::DeviceName | Placeholder::DeviceUuid | Placeholder::Namespace,
                ) => {}
            }
        }
        let template = Self(pieces);
        match template.render(&sample(Ipv4Addr::new(192, 0, 2, 1).into())) {
            Ok(_) => Ok(template),
            Err(_) => Err(TemplateError::Host(text.chars().take(MAX_NAME).collect())),
        }
    }

    /// The host for one device.
    ///
    /// # Errors
    /// Why there is none.
    pub fn render(&self, values: &Values) -> Result<Host, RenderError> {
        let mut name = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Value(placeholder) => match (placeholder.text(values), values.device_ip) {
                    (Some(label), _) if is_label(label) => name.push_str(label),
                    (Some(_), _) => return Err(RenderError::NotALabel(placeholder.name())),
                    (None, Some(address)) => return Ok(Host::Address(address)),
                    (None, None) => return Err(RenderError::NoAddress),
                },
            }
        }
        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
        if let Ok(address) = bare.parse() {
            return Ok(Host::Address(address));
        }
        let labels = name.strip_suffix('.').unwrap_or(&name);
        if labels.len() > MAX_NAME || !labels.split('.').all(is_label) {
            return Err(RenderError::Url);
        }
        Ok(Host::Name(name))
    }
}

/// Names of machines as they are, with underscores.
fn is_label(text: &str) -> bool {
    (1..=MAX_LABEL).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    if text.len() > MAX_TEMPLATE {
        return Err(TemplateError::TooLong);
    }
    let position = |rest: &str| text[..text.len() - rest.len()].chars().count() + 1;
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        if !before.is_empty() {
            pieces.push(Piece::Text(before.into()));
        }
        let end = brace.find('}').filter(|end| *end > 0 && !brace[1..*end].contains('{'));
        let Some(end) = end else { return Err(TemplateError::Unbalanced(position(brace))) };
        let name = &brace[1..end];
        let placeholder = Placeholder::of(name).ok_or_else(|| TemplateError::Unknown(name.chars().take(60).collect()));
        pieces.push(Piece::Value(placeholder?));
        rest = &brace[end + 1..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.into()));
    }
    Ok(pieces)
}

/// All but the characters that mean nothing anywhere in a URL.
fn encode(text: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
}

fn sample(address: IpAddr) -> Values {
    let x: Arc<str> = "x".into();
    Values {
        device_ip: Some(address),
        device_name: x.clone(),
        device_uuid: x.clone(),
        namespace: x.clone(),
        image: x.clone(),
        tag: x,
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
