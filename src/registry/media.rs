//! Media types: what a registry says that was pushed.
//!
//! Decides what is certainly no container image. Whatever isn't known passes: a registry may invent a type for an image,
//! and a device that can't run it says so, while an image that is held back says nothing.

/// What was pushed, if not an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAnImage {
    /// A Helm chart.
    Chart,
    /// A signature, an attestation, a bill of materials.
    Attachment,
    /// A layer or a configuration; half an image at most.
    Blob,
}

impl NotAnImage {
    /// As a sentence.
    pub fn sentence(self) -> String {
        match self {
            Self::Chart => "a Helm chart was pushed, not a container image",
            Self::Attachment => "a signature, an attestation or a bill of materials was pushed, not a container image",
            Self::Blob => "a blob was pushed: an image is complete only with its manifest",
        }
        .to_owned()
    }
}

/// What the configuration (or artifact type) of a manifest says that it is not.
pub(super) fn of_config(media_type: &str) -> Option<NotAnImage> {
    let media_type = essence(media_type);
    let is = |parts: &[&str]| parts.iter().any(|part| media_type.starts_with(part));
    if is(&["application/vnd.cncf.helm.", "application/vnd.acr.helm."]) {
        Some(NotAnImage::Chart)
    } else if is(&[
        "application/vnd.dev.cosign.",
        "application/vnd.dev.sigstore.",
        "application/vnd.cncf.notary.",
        "application/vnd.in-toto",
        "application/vnd.cyclonedx",
        "application/spdx",
        "text/spdx",
        // An artifact without configuration. Images have one.
        "application/vnd.oci.empty.",
    ]) {
        Some(NotAnImage::Attachment)
    } else {
        None
    }
}

/// What the media type of the pushed thing itself says that it is not: only a manifest or an index makes an image.
pub(super) fn of_target(media_type: &str) -> Option<NotAnImage> {
    match essence(media_type).as_str() {
        "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.oci.image.index.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json"
        | "application/vnd.docker.distribution.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v1+prettyjws" => None,
        other => Some(of_config(other).unwrap_or(NotAnImage::Blob)),
    }
}

/// Without parameters, in lower case.
fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations() {
        for (media_type, expected) in [
            ("application/vnd.oci.image.config.v1+json", None),
            ("application/vnd.docker.container.image.v1+json", None),
            ("application/vnd.example.robot.config.v1+json", None),
            ("", None),
            ("application/vnd.cncf.helm.config.v1+json", Some(NotAnImage::Chart)),
            ("Application/vnd.CNCF.helm.config.v1+json; x=1", Some(NotAnImage::Chart)),
            ("application/vnd.dev.cosign.artifact.sig.v1+json", Some(NotAnImage::Attachment)),
            ("application/vnd.dev.sigstore.bundle.v0.3+json", Some(NotAnImage::Attachment)),
            ("application/vnd.in-toto+json", Some(NotAnImage::Attachment)),
            ("application/vnd.oci.empty.v1+json", Some(NotAnImage::Attachment)),
        ] {
            assert_eq!(of_config(media_type), expected, "{media_type}");
        }
    }

    #[test]
    fn targets() {
        for (media_type, expected) in [
            ("application/vnd.oci.image.manifest.v1+json", None),
            ("application/vnd.oci.image.index.v1+json", None),
            ("application/vnd.docker.distribution.manifest.v2+json", None),
            ("application/vnd.docker.distribution.manifest.list.v2+json", None),
            ("application/vnd.acr.helm.chart", Some(NotAnImage::Chart)),
            ("application/octet-stream", Some(NotAnImage::Blob)),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Some(NotAnImage::Blob)),
        ] {
            assert_eq!(of_target(media_type), expected, "{media_type}");
        }
    }
}
