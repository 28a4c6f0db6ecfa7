//! What a manifest is a manifest of. Pure.
//!
//! A registry holds more than container images under its tags: charts, signatures, attestations, modules. A rollout of
//! one of those would tell devices to run what no container engine can.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// The kinds that are asked for, as in an `Accept` header.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                                 application/vnd.docker.distribution.manifest.list.v2+json, \
                                 application/vnd.docker.distribution.manifest.v2+json";

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Configurations of things that a container engine runs.
const IMAGE_CONFIGS: &[&str] =
    &["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
/// The configuration of a thing that has none; its `artifactType` says what it is.
const EMPTY_CONFIG: &str = "application/vnd.oci.empty.v1+json";
/// How layers begin in whose manifest an image's configuration is only a disguise: cosign's signatures and attestations.
const DISGUISED_LAYERS: &[&str] = &[
    "application/vnd.dev.cosign.",
    "application/vnd.in-toto",
    "application/vnd.dsse.",
    "application/vnd.dev.sigstore.",
];

/// A manifest as a registry served it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// SHA-256 of the very bytes: `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// What it is of.
    pub kind: ManifestKind,
}

/// What a manifest is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// An image for one platform.
    Image,
    /// Images for several platforms.
    Index,
    /// A Helm chart.
    HelmChart,
    /// Something else, by the media type that says what.
    Artifact(String),
}

impl ManifestKind {
    /// Whether a container engine can run it.
    #[must_use]
    pub fn runs(&self) -> bool {
        match self {
            Self::Image | Self::Index => true,
            Self::HelmChart | Self::Artifact(_) => false,
        }
    }
}

/// Why a body is no manifest, in words that follow "answered".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoManifest(pub(super) String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
}

/// `sha256:` and the digest of these bytes.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Reads a manifest. The body's own media type goes before the header's, as the OCI specification has it; a body without
/// either is what it looks like.
pub(super) fn read(body: &[u8], content_type: Option<&str>) -> Result<Manifest, NoManifest> {
    let parsed: Body = serde_json::from_slice(body).map_err(|error| {
        NoManifest(format!("a manifest that can't be read (line {}, column {})", error.line(), error.column()))
    })?;
    let header = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    let media_type = parsed.media_type.as_deref().or(header).unwrap_or_default();
    let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let kind = match (media_type, &parsed.config, &parsed.manifests) {
        (OCI_INDEX | DOCKER_LIST, _, Some(_)) | (_, None, Some(_)) => match said(&parsed.artifact_type) {
            Some(what) => ManifestKind::Artifact(shown(&what)),
            None => ManifestKind::Index,
        },
        (OCI_MANIFEST | DOCKER_MANIFEST, Some(config), _) | (_, Some(config), None) => {
            of_one(config, said(&parsed.artifact_type), parsed.layers.as_deref().unwrap_or_default())
        }
        (other, ..) => return Err(NoManifest(format!("a manifest of a kind that is not known ({})", shown(other)))),
    };
    Ok(Manifest { digest: sha256(body), kind })
}

fn of_one(config: &Descriptor, artifact_type: Option<String>, layers: &[Descriptor]) -> ManifestKind {
    let disguised = |layer: &&Descriptor| DISGUISED_LAYERS.iter().any(|start| layer.media_type.starts_with(start));
    let config = config.media_type.as_str();
    if config == HELM_CONFIG {
        ManifestKind::HelmChart
    } else if !IMAGE_CONFIGS.contains(&config) {
        let what = if config == EMPTY_CONFIG { artifact_type } else { None };
        ManifestKind::Artifact(shown(&what.unwrap_or_else(|| config.to_owned())))
    } else if let Some(what) = artifact_type.filter(|what| !IMAGE_CONFIGS.contains(&what.as_str())) {
        ManifestKind::Artifact(shown(&what))
    } else if let Some(layer) = layers.iter().find(disguised) {
        ManifestKind::Artifact(shown(&layer.media_type))
    } else {
        ManifestKind::Image
    }
}

/// Media types end up in messages; what a registry serves for one may be anything, and is shown only if it looks like one.
fn shown(text: &str) -> String {
    let name = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'-' | b'_'))
    };
    let is_one = text.len() <= 120 && text.split_once('/').is_some_and(|(kind, what)| name(kind) && name(what));
    if is_one { text.to_owned() } else { "unknown/unknown".to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn kind(body: &Value, content_type: Option<&str>) -> Result<ManifestKind, NoManifest> {
        read(body.to_string().as_bytes(), content_type).map(|manifest| manifest.kind)
    }

    fn one(manifest: &str, config: &str) -> Value {
        json!({"schemaVersion": 2, "mediaType": manifest, "config": {"mediaType": config, "size": 2}, "layers": []})
    }

    #[test]
    fn kinds() {
        let oci = "application/vnd.oci.image.config.v1+json";
        let artifact = |what: &str| ManifestKind::Artifact(what.into());
        let with = |mut body: Value, key: &str, value: Value| {
            body[key] = value;
            body
        };
        let cosign = "application/vnd.dev.cosign.simplesigning.v1+json";
        for (body, expected) in [
            (one(OCI_MANIFEST, oci), ManifestKind::Image),
            (one(DOCKER_MANIFEST, "application/vnd.docker.container.image.v1+json"), ManifestKind::Image),
            (one(OCI_MANIFEST, HELM_CONFIG), ManifestKind::HelmChart),
            (
                one(DOCKER_MANIFEST, "application/vnd.docker.plugin.v1+json"),
                artifact("application/vnd.docker.plugin.v1+json"),
            ),
            (one(OCI_MANIFEST, "application/vnd.wasm.config.v0+json"), artifact("application/vnd.wasm.config.v0+json")),
            (with(one(OCI_MANIFEST, EMPTY_CONFIG), "artifactType", json!("text/spdx")), artifact("text/spdx")),
            (one(OCI_MANIFEST, EMPTY_CONFIG), artifact(EMPTY_CONFIG)),
            (with(one(OCI_MANIFEST, oci), "artifactType", json!("text/spdx")), artifact("text/spdx")),
            (with(one(OCI_MANIFEST, oci), "artifactType", json!("")), ManifestKind::Image),
            (with(one(OCI_MANIFEST, oci), "artifactType", json!(oci)), ManifestKind::Image),
            (with(one(OCI_MANIFEST, oci), "layers", json!([{"mediaType": cosign}])), artifact(cosign)),
            (json!({"mediaType": OCI_INDEX, "manifests": []}), ManifestKind::Index),
            (json!({"mediaType": DOCKER_LIST, "manifests": [{"mediaType": OCI_MANIFEST}]}), ManifestKind::Index),
            (json!({"mediaType": OCI_INDEX, "manifests": [], "artifactType": "a/b"}), artifact("a/b")),
            (json!({"mediaType": OCI_INDEX, "manifests": [], "artifactType": "a\nb"}), artifact("unknown/unknown")),
        ] {
            assert_eq!(kind(&body, None), Ok(expected), "{body}");
        }
    }

    #[test]
    fn where_the_body_does_not_say() {
        let body = json!({"schemaVersion": 2, "manifests": []});
        assert_eq!(
            kind(&body, Some("application/vnd.oci.image.index.v1+json; charset=utf-8")),
            Ok(ManifestKind::Index)
        );
        assert_eq!(kind(&body, None), Ok(ManifestKind::Index), "it looks like one");
        let body = json!({"schemaVersion": 2, "config": {"mediaType": HELM_CONFIG}});
        assert_eq!(kind(&body, Some(OCI_MANIFEST)), Ok(ManifestKind::HelmChart));
        assert_eq!(kind(&body, Some("application/json")), Ok(ManifestKind::HelmChart));
    }

    #[test]
    fn what_is_none() {
        for body in [
            json!({}),
            json!([]),
            json!("x"),
            json!({"schemaVersion": 1, "fsLayers": [], "signatures": []}),
            json!({"mediaType": OCI_INDEX}),
            json!({"mediaType": OCI_MANIFEST}),
            // Two readers could see two things in it.
            json!({"config": {"mediaType": HELM_CONFIG}, "manifests": []}),
        ] {
            assert!(kind(&body, None).is_err(), "{body}");
        }
        assert!(read(b"<html>", Some("text/html")).is_err());
    }

    #[test]
    fn digests() {
        assert_eq!(sha256(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
