//! Tables of templates: what they make of devices, and what they refuse.

use proptest::prelude::*;

use super::*;

fn values(ip: &str, name: &str) -> Values {
    Values {
        device_ip: address(ip),
        device_name: name.into(),
        device_uuid: "0b9f".into(),
        namespace: "plant-a".into(),
        image: "docker.io/acme/app:v2".into(),
        tag: "v2".into(),
    }
}

#[test]
fn rendered() {
    for (template, ip, name, expected) in [
        ("http://{device_ip}:80/health", "10.1.2.3", "n", "http://10.1.2.3/health"),
        ("http://{device_ip}:8080", "fd00::1", "n", "http://[fd00::1]:8080/"),
        ("https://{device_ip}", "10.1.2.3", "n", "https://10.1.2.3/"),
        ("https://{device_ip}?a=b", "10.1.2.3", "n", "https://10.1.2.3/?a=b"),
        ("http://{device_name}.plant.example/x", "", "line-3", "http://line-3.plant.example/x"),
        ("http://{device_uuid}.{namespace}.example/x", "", "n", "http://0b9f.plant-a.example/x"),
        (
            "http://gw.example/d/{device_name}/{device_ip}?i={image}&t={tag}#frag",
            "fd00::1",
            "a b/c?d&e#f%ü",
            "http://gw.example/d/a%20b%2Fc%3Fd%26e%23f%25%C3%BC/fd00%3A%3A1?i=docker.io%2Facme%2Fapp%3Av2&t=v2",
        ),
        ("http://[fd00::7]:81/{tag}", "", "n", "http://[fd00::7]:81/v2"),
        ("http://gw.example/{device_name}", "", "..x", "http://gw.example/..x"),
        ("http://gw.example/?d={device_name}", "", "..", "http://gw.example/?d=.."),
        ("http://gw.example/a//b/", "", "n", "http://gw.example/a//b/"),
    ] {
        let rendered = Template::parse(template).expect(template).render(&values(ip, name));
        assert_eq!(rendered.map(String::from), Ok(expected.to_owned()), "{template}");
    }
}

#[test]
fn no_target() {
    for (template, ip, name, expected) in [
        ("http://{device_ip}/", "", "n", RenderError::NoAddress),
        ("http://gw.example/{device_ip}", "", "n", RenderError::NoAddress),
        ("http://{device_ip}/", "evil.example", "n", RenderError::NoAddress),
        ("http://{device_ip}/", "10.0.0.1@evil.example", "n", RenderError::NoAddress),
        ("http://{device_ip}/", "10.0.0.1:81", "n", RenderError::NoAddress),
        ("http://{device_ip}/", "10.0.0.1/../", "n", RenderError::NoAddress),
        ("http://{device_ip}/", "fe80::1%eth0", "n", RenderError::NoAddress),
        ("http://{device_ip}/", "2130706433", "n", RenderError::NoAddress),
        ("http://{device_name}/", "", "evil.example", RenderError::NotALabel("device_name")),
        ("http://{device_name}.plant.example/", "", "evil.example/", RenderError::NotALabel("device_name")),
        ("http://{device_name}.plant.example/", "", "", RenderError::NotALabel("device_name")),
        ("http://{device_name}.plant.example/", "", "me@x", RenderError::NotALabel("device_name")),
        ("http://gw.example/a/{device_name}/b", "", "..", RenderError::Dots),
        ("http://gw.example/a/.{device_name}/b", "", ".", RenderError::Dots),
        ("http://gw.example/a/{device_name}", "", ".", RenderError::Dots),
    ] {
        let rendered = Template::parse(template).expect(template).render(&values(ip, name));
        assert_eq!(rendered, Err(expected), "{template} {ip} {name}");
    }
    let long = "x".repeat(MAX_URL);
    let rendered = Template::parse("http://gw.example/{device_name}").expect("good").render(&values("", &long));
    assert_eq!(rendered, Err(RenderError::Url));
}

#[test]
fn refused() {
    use TemplateError as E;
    for (template, expected) in [
        ("http://{device_ip}/{", E::Unbalanced(20)),
        ("http://{device_ip}/}", E::Unbalanced(20)),
        ("http://{device_ip/health", E::Unbalanced(8)),
        ("http://{{device_ip}}/health", E::Unbalanced(8)),
        ("http://{device_ip}/{secret}", E::Unknown("secret".into())),
        ("http://{device_ip}/{}", E::Unknown(String::new())),
        ("http://{Device_IP}/", E::Unknown("Device_IP".into())),
        ("{device_ip}", E::Scheme),
        ("ftp://{device_ip}/", E::Scheme),
        ("{device_name}://x/", E::Scheme),
        ("HTTP://x/", E::Scheme),
        ("http://me:pw@{device_ip}/", E::User),
        ("http://{device_name}@{device_ip}/", E::User),
        ("http://{device_ip}:{tag}/", E::Port),
        ("http://{device_ip}:/", E::Port),
        ("http://{device_ip}:0/", E::Port),
        ("http://{device_ip}:65536/", E::Port),
        ("http://{device_ip}:+80/", E::Port),
        ("http://{device_ip}.example/", E::AddressNotAlone),
        ("http://1{device_ip}/", E::AddressNotAlone),
        ("http://[{device_ip}]/", E::AddressNotAlone),
        ("http://{tag}.example/", E::NotInHost("tag")),
        ("http://{image}/", E::NotInHost("image")),
        ("http:///health", E::Host(String::new())),
        ("http://a b/", E::Host("a b".into())),
        ("http://a..b/", E::Host("a..b".into())),
        ("http://ü.example/", E::Host("ü.example".into())),
        ("http://a%2eb/", E::Host("a%2eb".into())),
        ("http://gw.example/../x", E::Dots),
        ("http://gw.example/a/%2E%2e/x", E::Dots),
        ("http://gw.example/a/.", E::Dots),
    ] {
        assert_eq!(Template::parse(template), Err(expected), "{template}");
    }
    assert_eq!(Template::parse(&format!("http://x/{}", "a".repeat(MAX_TEMPLATE))), Err(E::TooLong));
    // Numbers that a URL's parser takes for addresses stay what they are: addresses, to be judged as such.
    let url = Template::parse("http://2130706433/").expect("an address").render(&values("", "n")).expect("one");
    assert_eq!(url.host_str(), Some("127.0.0.1"));
}

#[test]
fn hosts() {
    let v4 = || Host::Address("10.1.2.3".parse().expect("one"));
    for (template, ip, expected) in [
        ("{device_ip}", "10.1.2.3", v4()),
        ("10.1.2.3", "", v4()),
        ("[fd00::1]", "", Host::Address("fd00::1".parse().expect("one"))),
        ("fd00::1", "", Host::Address("fd00::1".parse().expect("one"))),
        ("{device_name}.example.", "", Host::Name("line-3.example.".into())),
    ] {
        assert_eq!(HostTemplate::parse(template).expect(template).render(&values(ip, "line-3")), Ok(expected));
    }
    for template in ["", "a:80", "a/b", "http://a", "me@a", ".", "a b"] {
        assert!(matches!(HostTemplate::parse(template), Err(TemplateError::Host(_))), "{template}");
    }
}

/// Any text, and more often than not one that means something in a URL.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[./\\\\%2eE@:?#&=\\[\\]{}a-c \t\r\n-]{0,12}"]
}

proptest! {
    /// Whatever is filled in, a request goes where the template says, to the path that it says.
    #[test]
    fn nothing_is_injected(name in hostile(), tag in hostile(), image in hostile(), ip in any::<std::net::IpAddr>()) {
        let template = Template::parse("http://{device_ip}:81/a/{device_name}/b{tag}?t={tag}&i={image}#f").expect("good");
        let values = Values { image: image.into(), tag: tag.as_str().into(), ..values(&ip.to_string(), &name) };
        match template.render(&values) {
            Ok(url) => {
                prop_assert_eq!((url.scheme(), url.port(), url.username(), url.fragment()), ("http", Some(81), "", None));
                let host = match ip {
                    IpAddr::V4(ip) => reqwest::Url::parse(&format!("http://{ip}/")),
                    IpAddr::V6(ip) => reqwest::Url::parse(&format!("http://[{ip}]/")),
                };
                let host = host.expect("a host");
                prop_assert_eq!(url.host(), host.host());
                let segments: Vec<&str> = url.path_segments().expect("some").collect();
                prop_assert_eq!(segments.len(), 3);
                prop_assert_eq!(segments[0], "a");
                let pairs: Vec<_> = url.query_pairs().collect();
                prop_assert_eq!(pairs.len(), 2);
                prop_assert_eq!((&*pairs[0].0, &*pairs[0].1), ("t", tag.as_str()));
            }
            Err(error) => prop_assert!(matches!(error, RenderError::Dots | RenderError::Url), "{}", error),
        }
    }

    /// A name in the host is one label of it, or there is no target.
    #[test]
    fn a_label_is_a_label(name in hostile()) {
        let template = Template::parse("https://{device_name}.plant.example/").expect("good");
        if let Ok(url) = template.render(&values("", &name)) {
            let expected = format!("{}.plant.example", name.to_ascii_lowercase());
            prop_assert_eq!(url.host_str(), Some(expected.as_str()));
        }
    }

    /// No text makes the parser panic, and what it takes renders.
    #[test]
    fn any_template(text in hostile(), ip in any::<std::net::Ipv6Addr>()) {
        let _ = HostTemplate::parse(&text);
        if let Ok(template) = Template::parse(&format!("http://{text}")) {
            let _ = template.render(&values(&ip.to_string(), "n"));
        }
    }
}
